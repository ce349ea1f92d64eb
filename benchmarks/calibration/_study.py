"""The parts of the study: a case is one statement under one law; its trials are whole synthetic audits.

Every case draws from a generator seeded by its own name, so any row can be repeated alone, in any order, with the same
counts.
"""

import importlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from hashlib import sha256
from typing import Any, Final, Literal

import numpy as np
from scipy import stats

Rng = np.random.Generator
Trial = Callable[[Rng], bool]
"""One synthetic audit: whether its statement was wrong, or for a power curve whether it saw the leak."""

Basis = Literal["exact", "approximate"]

ALPHA: Final = Fraction(1, 20)
NONE: Final = Fraction(0)
CONFIDENCE: Final = 0.999
"""A sound row stays within its limit with this probability."""
SHRINK: Final = 250
"""The small form has one run where the full form has this many."""
LEAST_RUNS: Final = 10

REMEMBERED: Final = {
    "cu_attacks._bounds": ("counts_bound", "cp_lower", "cp_upper", "group_bound", "guessing_tail"),
    "cu_attacks._permute": ("group_bound",),
    "cu_attacks._roc": ("cp_lower", "cp_upper"),
    "cu_attacks.c2st": ("coinflip_bound", "cp_lower", "cp_upper"),
    "cu_attacks.coinflip": ("coinflip_bound",),
    "cu_attacks.conformal": ("group_bound",),
    "cu_attacks.labels": ("group_bound",),
    "cu_attacks.onerun": ("half_tail", "onerun_bound", "request_bound"),
    "cu_certificates.check.bands": ("counts_bound",),
}
"""Functions of a few counts that search an exact tail, by the module that calls them."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the study.

    Args:
        name: ``test/law/size``; also the seed.
        test: The attack, or the statement of a helper.
        statement: What is counted: the event that must be rare.
        setting: Law and sizes, in words.
        level: The stated level: how often the event may happen.
        runs: Synthetic audits in the full form.
        trial: One of them.
        exact: How often the event happens, where theory says it; then rows that err too *seldom* are caught as well.
        basis: ``exact``: the level holds at every size by proof. ``approximate``: it rests on a limit law, and is held
            to the same limit.
    """

    name: str
    test: str
    statement: str
    setting: str
    level: float
    runs: int
    trial: Trial
    exact: float | None = None
    basis: Basis = "exact"

    def __post_init__(self) -> None:
        if not 0 < self.level < 1 or self.runs < LEAST_RUNS:
            raise ValueError(f"{self.name}: level {self.level}, {self.runs} runs; expected a level in (0, 1)")
        if self.exact is not None and not 0 <= self.exact <= self.level + 1e-12:
            raise ValueError(f"{self.name}: errs with chance {self.exact} in theory; expected at most {self.level}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """The outcome of a case.

    Args:
        case: What was run.
        runs: How often.
        rejections: How often the event happened.
        seconds: CPU-seconds.
    """

    case: Case
    runs: int
    rejections: int
    seconds: float

    @property
    def rate(self) -> float:
        """Share of runs in which the event happened."""
        return self.rejections / self.runs

    @property
    def limit(self) -> float:
        """Share that a sound test exceeds in one study of a thousand."""
        return float(stats.binom.ppf(CONFIDENCE, self.runs, self.case.level)) / self.runs

    @property
    def ok(self) -> bool:
        """Whether the count is what the level, and the exact chance where it is known, allow."""
        if self.rate > self.limit:
            return False
        if self.case.exact is None:
            return True
        low, high = stats.binom.interval(CONFIDENCE, self.runs, self.case.exact)
        return bool(low <= self.rejections <= high)

    def document(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        case = self.case
        return {
            "name": case.name,
            "test": case.test,
            "statement": case.statement,
            "setting": case.setting,
            "basis": case.basis,
            "runs": self.runs,
            "rejections": self.rejections,
            "rate": round(self.rate, 5),
            "level": case.level,
            "limit": round(self.limit, 5),
            "exact": None if case.exact is None else round(case.exact, 5),
            "ok": self.ok,
            "seconds": round(self.seconds, 2),
        }


@dataclass(frozen=True, kw_only=True)
class Curve:
    """How often a leak is seen, against its size.

    Args:
        name: ``power/test``; with the point, the seed.
        test: The attack.
        effect: What the points measure.
        setting: Law and sizes, in words.
        points: Sizes of the leak, rising; the first is none at all.
        runs: Synthetic audits at each point in the full form.
        trial: One of them, at a point.
    """

    name: str
    test: str
    effect: str
    setting: str
    points: Sequence[float]
    runs: int
    trial: Callable[[Rng, float], bool]


def generator(seed: str, name: str) -> Rng:
    """Return the generator of a row.

    Args:
        seed: A word for the whole study.
        name: Of the row.
    """
    return np.random.default_rng(list(sha256(f"{seed}/{name}".encode()).digest()))


def size_of(runs: int, *, small: bool) -> int:
    """Return how often something runs in the full or the small form."""
    return max(runs // SHRINK, LEAST_RUNS) if small else runs


def run_case(case: Case, *, seed: str, small: bool) -> Row:
    """Run one case.

    Args:
        case: What to run.
        seed: A word for the whole study.
        small: Whether to run the small form.
    """
    rng, runs, start = generator(seed, case.name), size_of(case.runs, small=small), time.process_time()
    rejections = sum(case.trial(rng) for _ in range(runs))
    return Row(case=case, runs=runs, rejections=rejections, seconds=time.process_time() - start)


def run_curve(curve: Curve, *, seed: str, small: bool) -> dict[str, Any]:
    """Run one power curve and return it as JSON values; the arguments are those of :func:`run_case`."""
    runs, start, points = size_of(curve.runs, small=small), time.process_time(), []
    for effect in curve.points:
        rng = generator(seed, f"{curve.name}/{effect:g}")
        seen = sum(curve.trial(rng, effect) for _ in range(runs))
        points.append({"effect": effect, "rejections": seen, "rate": round(seen / runs, 5)})
    return {
        "name": curve.name,
        "test": curve.test,
        "effect": curve.effect,
        "setting": curve.setting,
        "level": float(ALPHA),
        "runs": runs,
        "points": points,
        "seconds": round(time.process_time() - start, 2),
    }


@contextmanager
def remembered() -> Iterator[None]:
    """Let the exact tails remember their answers meanwhile: thousands of audits ask for the same few counts."""
    modules = {name: importlib.import_module(name) for name in REMEMBERED}
    originals = {(name, call): getattr(modules[name], call) for name, calls in REMEMBERED.items() for call in calls}
    try:
        for (name, call), original in originals.items():
            setattr(modules[name], call, cache(original))
        yield
    finally:
        for (name, call), original in originals.items():
            setattr(modules[name], call, original)
