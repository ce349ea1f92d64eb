"""What the checker reports: a status for each claim and the verdict that follows from them."""

from dataclasses import dataclass
from typing import Any, Final, Literal

Status = Literal["proved", "replayed", "assumed", "unverified", "rejected"]

VERDICTS: Final = ("REFUTED", "EXACT_BY_PROVENANCE", "BOUNDED_BY_THEOREM", "INCONCLUSIVE", "NOT_REFUTED")

EXTRAPOLATIONS: Final = ("eps-fdp", "eps-bayes")
"""Claim types whose number rests on an assumed curve or prior and is never re-derived."""

INFORMING: Final = ("metric", *EXTRAPOLATIONS)
"""Claim types that are shown and never re-derived."""


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """The outcome for one claim.

    Args:
        id: The claim's id in the certificate.
        type: The claim's type.
        status: ``proved`` (re-derived from evidence by arithmetic), ``replayed`` (the evidence is a log of training
            steps that were run again, bit for bit), ``assumed`` (arithmetic holds, rests on an assumption that
            evidence cannot settle), ``unverified`` (descriptive, or its evidence is not at hand),
            ``rejected`` (does not follow).
        detail: One line for a person: what was re-derived, or what was found and expected.
    """

    id: str
    type: str
    status: Status
    detail: str


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The outcome for a certificate whose claims were all examined.

    Args:
        statement: The parsed in-toto statement.
        claims: One result a claim, in the certificate's order.
        stated: The verdict that the certificate states; ``None`` for an unsigned draft without one.
        derived: The verdict that follows from the claims and the evidence at hand.
        reasons: Why ``derived`` is what it is, one line each.
        missing: Names of evidence files that were not at hand; their claims are ``unverified``.
    """

    statement: dict[str, Any]
    claims: tuple[ClaimResult, ...]
    stated: str | None
    derived: str
    reasons: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def predicate(self) -> dict[str, Any]:
        """The certificate itself: the statement's predicate."""
        predicate: dict[str, Any] = self.statement["predicate"]
        return predicate

    def lines(self) -> list[tuple[str, str, str]]:
        """Return (status, id, detail) of each claim for a person; numbers that only inform share one line."""
        found: list[tuple[str, str, str]] = [
            (claim.status, claim.id, claim.detail)
            for claim in self.claims
            if claim.type not in INFORMING or claim.status == "rejected"
        ]
        if informing := len(self.claims) - len(found):
            found.append(("unverified", f"{informing} numbers", "descriptive or extrapolated; they support no verdict"))
        return found

    @property
    def rejected(self) -> tuple[ClaimResult, ...]:
        """The claims that do not follow from their evidence."""
        return tuple(claim for claim in self.claims if claim.status == "rejected")
