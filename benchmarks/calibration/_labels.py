"""One model and its records: ``labels`` (no retrained model at all) and its negative control."""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from typing import Final

import numpy as np

from benchmarks.calibration._laws import BEST, FAR, SCORES, FloatArray, IntArray, best_of, whole
from benchmarks.calibration._slots import ABOVE, FAILS
from benchmarks.calibration._study import ALPHA, NONE, Case, Curve, Rng, Trial
from cu_attacks._same_kind import calibrate, describe
from cu_attacks.labels import KEY_BYTES, labels
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.label_table import assignments, blind_statistics, p_values

PERMUTATIONS: Final = 199
KINDS: Final = 3
"""Classes of records, within which places are exchanged."""

Records = Callable[[Rng, IntArray], list[int]]
"""Takes the source and the class of each record; returns one score a record that knows nothing of the request."""


def _drawn(law: str) -> Records:
    """Scores of one law, on another level in each class."""
    return lambda rng, kinds: whole(SCORES[law](rng, len(kinds)) + kinds)


def _chained(rng: Rng, kinds: IntArray) -> list[int]:
    """A random walk over the records: each depends on its neighbours."""
    return whole(np.cumsum(rng.normal(size=len(kinds))))


def _calibrated(rng: Rng, kinds: IntArray) -> list[int]:
    """The audit's own score: a margin of which class and difficulty explain most."""
    hard = rng.normal(size=len(kinds))
    return calibrate(kinds + 2 * hard + rng.standard_t(3, len(kinds)), hard, kinds)


LAWS: Final[Mapping[str, Records]] = {
    **{law: _drawn(law) for law in SCORES},
    "dependent": _chained,
    "calibrated": _calibrated,
}


def _places(rng: Rng, request: int, never: int) -> tuple[IntArray, FloatArray]:
    """Return the class of each record, and who is in the request: as many in each class, drawn at random."""
    kinds = np.arange(request + never) % KINDS
    inside = np.zeros(len(kinds))
    for kind in range(KINDS):
        rows = np.flatnonzero(kinds == kind)
        inside[rng.permutation(rows)[: request // KINDS]] = 1.0
    return kinds, inside


def _p(
    scores: list[int], inside: FloatArray, kinds: IntArray, key: bytes, delta: Fraction = NONE
) -> tuple[Fraction, Fraction]:
    """Return the p-value and the bound."""
    found = labels(
        scores,
        (inside > 0).tolist(),
        kinds.tolist(),
        key=key,
        permutations=PERMUTATIONS,
        alpha=ALPHA,
        delta=delta,
    )
    return found.p, found.bound


def _judged(records: Records, request: int, never: int) -> Trial:
    def trial(rng: Rng) -> bool:
        kinds, inside = _places(rng, request, never)
        return _p(records(rng, kinds), inside, kinds, rng.bytes(KEY_BYTES))[1] > 0

    return trial


def _most_telling(request: int, never: int) -> Trial:
    """Of 2 or 3 models that know nothing of the request, the one with the smallest p: P_U <= e P_R."""

    def trial(rng: Rng) -> bool:
        kinds, inside = _places(rng, request, never)
        key = rng.bytes(KEY_BYTES)
        draws = [_p(_drawn("continuous")(rng, kinds), inside, kinds, key) for _ in range(best_of(rng))]
        return min(draws)[1] > BEST.eps

    return trial


def _shown(request: int, never: int, one_in: int) -> Trial:
    """One model in so many shows the whole request."""

    def trial(rng: Rng) -> bool:
        kinds, inside = _places(rng, request, never)
        scores = _drawn("continuous")(rng, kinds)
        if rng.random() < 1 / one_in:
            scores = [FAR if member else 0 for member in inside]
        return _p(scores, inside, kinds, rng.bytes(KEY_BYTES), Fraction(1, one_in))[1] > 0

    return trial


def _blind(request: int, never: int) -> Trial:
    """A request of the same kind: features around one centre a class, with kept records to describe them by."""

    def trial(rng: Rng) -> bool:
        kinds, inside = _places(rng, request, never)
        kept = np.arange(60) % KINDS
        x, kept_x = (np.eye(KINDS)[rows] + rng.normal(size=(len(rows), KINDS)) for rows in (kinds, kept))
        kind, members, places = describe(x, kinds, kept_x, kept), (inside > 0).tolist(), kinds.tolist()
        tests = {"blind": blind_statistics(kind.columns, kind.near, places, members)}
        assigned = assignments(places, members, rng.bytes(KEY_BYTES), PERMUTATIONS)
        return p_values(tests, assigned)[0]["blind"] <= CONTROL_TAIL

    return trial


def cases() -> Iterator[Case]:
    """Yield the rows of ``labels`` and of its negative control."""

    def case(name: str, words: str, sizes: tuple[int, int], trial: Trial, *, runs: int) -> Case:
        return Case(
            name=f"labels/{name}/{sizes[0]} of {sum(sizes)}",
            test="labels",
            statement=ABOVE,
            setting=f"{words}; {sizes[0]} records of the request, {sizes[1]} others, {KINDS} classes",
            level=float(ALPHA),
            runs=runs,
            trial=trial,
        )

    for law, records in LAWS.items():
        yield case(f"unseen, {law}", f"one law, {law}", (12, 36), _judged(records, 12, 36), runs=4000)
    for sizes in ((6, 12), (30, 90), (96, 96)):
        yield case("unseen", "one law, continuous", sizes, _judged(_drawn("continuous"), *sizes), runs=2000)
    yield case("best of e", BEST.words, (12, 36), _most_telling(12, 36), runs=2000)
    words = "one law, 1 model in 50 shows the request"
    yield case("delta", words, (12, 36), _shown(12, 36, 50), runs=4000)
    for sizes in ((12, 36), (30, 90)):
        yield Case(
            name=f"control of labels/same kind/{sizes[0]} of {sum(sizes)}",
            test="control of labels",
            statement=FAILS,
            setting=f"features around one centre a class; {sizes[0]} records of the request, {sizes[1]} others",
            level=float(CONTROL_TAIL),
            runs=1000,
            trial=_blind(*sizes),
        )


def _remembered(rng: Rng, shift: float) -> bool:
    kinds, inside = _places(rng, 30, 90)
    scores = whole(rng.normal(size=len(kinds)) + shift * inside)
    return _p(scores, inside, kinds, rng.bytes(KEY_BYTES))[1] > 0


def curves() -> Iterator[Curve]:
    """Yield the power curve."""
    yield Curve(
        name="power/labels/30 of 120",
        test="labels",
        effect="shift of each record of the request in standard deviations",
        setting="30 records of the request, 90 others, normal scores",
        points=(0, 0.25, 0.5, 0.75, 1, 1.5, 2),
        runs=1000,
        trial=_remembered,
    )
