"""What a probe is, what it finds, and how its place among the retrained models becomes a number."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Final, final

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cu_cert.probes._case import Case

LEAST: Final = 3
"""Fewest retrained models: each is compared with the others, and a spread needs two."""

DIGITS: Final = 9
"""Decimals to which values are compared: what differs by less differs by the order of additions."""


class Skip(Exception):
    """A probe cannot work here; the message is the reason, fit for a certificate: it names no record and no class."""


@final
@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """One number about the audited model, beside the same number of models retrained without the request.

    Args:
        name: Name of the number, unique among all probes.
        title: The same in words.
        value: The audited model's; ``None`` where the probe could not work.
        null_low: 2.5 % quantile of the retrained models.
        null_high: Their 97.5 % quantile.
        null_mean: Their mean.
        p: Share of all models, the audited one among them, that lie at least as far from their common median as it
            does: (1 + #) / (k + 1). Exact when it is one more model like the retrained ones; both sides count.
        n: k, the number of retrained models.
        note: How the number was made; for a missing number, why it is missing.
        shows_not: What a reader must not conclude.

    Raises:
        ValueError: A number is missing beside others, is not finite, or lies out of order; a text is empty.
    """

    name: str
    title: str
    value: float | None = None
    null_low: float | None = None
    null_high: float | None = None
    null_mean: float | None = None
    p: Fraction | None = None
    n: int
    note: str
    shows_not: str

    def __post_init__(self) -> None:
        found = (self.value, self.null_low, self.null_high, self.null_mean, self.p)
        there = [number for number in found if number is not None]
        if not self.name or not self.note or not self.shows_not or self.n < 0:
            raise ValueError(f"probe {self.name!r}: expected a name, a note, what it does not show, and n >= 0")
        if there and len(there) < len(found):
            raise ValueError(f"probe {self.name}: {len(there)} of {len(found)} numbers; expected all of them or none")
        if not all(map(math.isfinite, there)):
            raise ValueError(f"probe {self.name}: a number is not finite")
        if self.null_low is not None and self.null_high is not None and self.null_low > self.null_high:
            raise ValueError(f"probe {self.name}: range {self.null_low} to {self.null_high}; expected rising ends")
        if self.p is not None and not Fraction(1, self.n + 1) <= self.p <= 1:
            raise ValueError(f"probe {self.name}: p = {self.p}; expected 1/{self.n + 1} to 1")


@dataclass(frozen=True, kw_only=True, eq=False)
class Finding:
    """One number for every model.

    Args:
        values: Of all models, the audited one first, shape (k + 1,); computed so that no model is treated differently
            from any other, which is what makes the p-value exact.
        null: Of the retrained models, shape (k,). It differs from ``values[1:]`` where models are compared with one
            another: the range that a reader sees then does not depend on the audited model.
        note: How the number was made.
    """

    values: "npt.NDArray[np.float64]"
    null: "npt.NDArray[np.float64]"
    note: str

    def result(self, part: "Part") -> ProbeResult:
        """Return the place of the audited model among the others.

        Args:
            part: The number's name and words.
        """
        low, high = middle(self.null)
        return ProbeResult(
            name=part.name,
            title=part.title,
            value=float(self.values[0]),
            null_low=low,
            null_high=high,
            null_mean=float(self.null.mean()),
            p=extremeness(self.values),
            n=len(self.null),
            note=self.note,
            shows_not=part.shows_not,
        )


def middle(null: "npt.NDArray[np.float64]") -> tuple[float, float]:
    """Return the 2.5 % and 97.5 % quantiles of the retrained models' values, shape (k,)."""
    import numpy as np

    low, high = np.quantile(null, [0.025, 0.975])
    return float(low), float(max(low, high))


def extremeness(values: "npt.NDArray[np.float64]") -> Fraction:
    """Return the conformal p-value of the first value among all of them, both sides.

    The distance from the median of all values treats them alike, so the rank of the first one's distance is uniform
    when the values are exchangeable; ties count against an alarm (Vovk, Gammerman, Shafer 2005, ch. 2).

    Args:
        values: Shape (k + 1,), the judged one first.
    """
    import numpy as np

    seen = np.round(values, DIGITS)
    distance = np.round(np.abs(seen - np.median(seen)), DIGITS)
    return Fraction(int((distance >= distance[0]).sum()), len(seen))


@dataclass(frozen=True, kw_only=True)
class Part:
    """One number of a probe.

    Args:
        name: Its name; begins with the probe's, with hyphens.
        title: The same in words, with its unit.
        shows_not: What a reader must not conclude.
        run: Measures all models; raises :class:`Skip` where it cannot.
    """

    name: str
    title: str
    shows_not: str
    run: "Callable[[Case], Finding]" = field(repr=False)


@final
@dataclass(frozen=True, kw_only=True)
class Probe:
    """A member of this room: one file, one probe.

    Args:
        name: File name.
        paper: Where the idea comes from.
        parts: The numbers that it gives, at least one.
    """

    name: str
    paper: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        own = self.name.replace("_", "-")
        if not self.parts or not all(part.name == own or part.name.startswith(f"{own}-") for part in self.parts):
            raise ValueError(f"probe {self.name}: expected at least one part, each named {own} or {own}-...")
