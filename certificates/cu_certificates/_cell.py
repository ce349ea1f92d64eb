"""What the writers of the table's cells share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cu_certificates._phrases import Claim
from cu_certificates._wording import Wording


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a claim's words may speak of besides the claim.

    Args:
        index: The claims of the certificate, by id.
        method: The method's name in words.
        model: The audited file's name.
        t: The texts of the page's language.
    """

    index: Mapping[str, Claim]
    method: str
    model: str
    t: Wording


Cells = tuple[str, str, str, str]
"""The claim in words, its result, its bound, and level and everyday words of the bound."""

Writer = Callable[[Claim, Surroundings], Cells]
