"""One model: ``conformal`` and ``onerun``, and the negative control of each."""

from collections.abc import Callable, Iterator
from fractions import Fraction

import numpy as np
from scipy import stats

from benchmarks.calibration._laws import (
    BEST,
    LAPLACE,
    OTHER_SCORES,
    RESPONSE,
    SCORES,
    SIGNALS,
    TIED,
    WITHOUT_TIES,
    FloatArray,
    Pair,
    SignalLaw,
    audited,
    best_chance,
    best_of,
    fitted,
    giving_away,
    same,
    whole,
)
from benchmarks.calibration._slots import ABOVE, FAILS, flips, guessing_chance
from benchmarks.calibration._study import ALPHA, NONE, Case, Curve, Rng, Trial
from cu_attacks.conformal import conformal
from cu_attacks.onerun import candidate_scores, one_run
from cu_certificates.check.candidates import control_fails
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.onerun import half_tail
from cu_certificates.check.tails import beta_binomial_tail, group_bound
from cu_certificates.plan import default_guesses

Source = Callable[[Rng, FloatArray], FloatArray]
"""Takes the source and the coins; returns one score a candidate."""


def _largest_rank(total: int, eps: float, alpha: Fraction = ALPHA) -> int:
    """Return the largest k for which p = k / total gives a bound above eps."""
    return max((k for k in range(1, total + 1) if group_bound(Fraction(k, total), alpha, NONE) > eps), default=0)


# --- conformal -------------------------------------------------------------------------------------------------------


def _ranked(pair: Pair, references: int, fail: float) -> Trial:
    def trial(rng: Rng) -> bool:
        first, *others = pair.draw(rng, (np.arange(references + 1) < 1).astype(np.int64))
        pool = [None if rng.random() < fail else other for other in others] if fail else others
        assert first is not None
        return conformal(first, pool, alpha=ALPHA, delta=pair.delta).bound > pair.eps

    return trial


def _best_rank(references: int) -> float:
    """Return how often the most telling of 2 or 3 models has a rank that gives a bound above 1, by integration."""
    rank = _largest_rank(references + 1, BEST.eps)
    # Beyond the rank-th largest of the references lies a Beta share of the law of one model.
    share = stats.beta(rank, references + 1 - rank)
    return float(share.expect(best_chance))


def conformals() -> Iterator[Case]:
    """Yield the rows of ``conformal``."""

    def case(name: str, pair: Pair, references: int, *, exact: float | None = None, fail: float = 0.0) -> Case:
        return Case(
            name=f"conformal/{name}/{references}",
            test="conformal",
            statement=ABOVE,
            setting=f"{pair.words}; {references} references" + (", 5 % of them failed" if fail else ""),
            level=float(ALPHA),
            runs=10_000,
            trial=_ranked(pair, references, fail),
            exact=exact,
        )

    for references in (32, 64, 99, 128):
        exact = _largest_rank(references + 1, 0.0) / (references + 1)
        yield case("retrain", same("continuous"), references, exact=exact)
    for law in list(SCORES)[1:]:
        yield case(f"retrain, {law}", same(law), 99, exact=4 / 100 if law in WITHOUT_TIES else None)
    for law in SIGNALS:
        yield case(f"fitted score, {law}", audited(law), 99, exact=None if law in TIED else 4 / 100)
    for score in OTHER_SCORES:
        yield case(f"{score} score, dependent", audited("dependent", score), 99, exact=4 / 100)
    yield case("failed references", same("continuous"), 99, fail=0.05)
    for references in (64, 99):
        yield case("laplace", LAPLACE, references)
        yield case("best of e", BEST, references, exact=_best_rank(references))
    yield case("delta", giving_away(same("continuous"), 50), 99)
    yield case("delta, laplace", giving_away(LAPLACE, 50), 99)


def _alarmed(law: SignalLaw, references: int, runs: int) -> Trial:
    rank = int(ALPHA * (references + 1))
    fails = [beta_binomial_tail(runs, rank, references, alarms) <= CONTROL_TAIL for alarms in range(runs + 1)]

    def trial(rng: Rng) -> bool:
        scores = fitted(law)(rng, references + runs)
        pool: list[int | None] = [*scores[:references]]
        return fails[sum(conformal(one, pool, alpha=ALPHA).p <= ALPHA for one in scores[references:])]

    return trial


def conformal_controls() -> Iterator[Case]:
    """Yield the rows of its negative control: retrained models judged by one pool of references."""
    for references, runs in ((99, 8), (99, 16), (99, 32), (64, 8)):
        for law in ("dependent", "heavy tails", "whole numbers") if runs == 8 else ("dependent",):
            rank = int(ALPHA * (references + 1))
            tails = [float(beta_binomial_tail(runs, rank, references, alarms)) for alarms in range(runs + 1)]
            yield Case(
                name=f"control of conformal/{law}/{references}, {runs}",
                test="control of conformal",
                statement=FAILS,
                setting=f"fitted score, {law}; {references} references, {runs} retrained models judged",
                level=float(CONTROL_TAIL),
                runs=10_000,
                trial=_alarmed(SIGNALS[law], references, runs),
                exact=next(tail for tail in tails if tail <= CONTROL_TAIL) if law not in TIED else None,
            )


# --- onerun ----------------------------------------------------------------------------------------------------------


def _plain(law: str) -> Source:
    return lambda rng, coins: SCORES[law](rng, len(coins))


def _measured(law: SignalLaw) -> Source:
    """The drill's score: one retrained model's margins beside those of twelve reference models."""

    def draw(rng: Rng, coins: FloatArray) -> FloatArray:
        found = law(rng, 13, len(coins))
        return candidate_scores(found[0], found[1:])

    return draw


def _most_telling(rng: Rng, coins: FloatArray) -> FloatArray:
    """Of 2 or 3 score vectors that know no coin, that with most right guesses: P_U <= e P_R for the whole request."""
    scores = rng.random((best_of(rng), len(coins)))
    right = [one_run(row, coins, alpha=ALPHA).right for row in scores]
    return np.asarray(scores[int(np.argmax(right))])


def _by_record(rng: Rng, coins: FloatArray) -> FloatArray:
    """Each record's score tells its coin with chance sigma(1): unlearning with and without it is at distance 1."""
    told = np.where(rng.random(len(coins)) < 1 / (1 + np.exp(-1)), coins, 1 - coins)
    found: FloatArray = told + rng.random(len(coins)) / 2
    return found


def _some_shown(rng: Rng, coins: FloatArray) -> FloatArray:
    """As before, and a record gives itself away with chance 1/1000."""
    return np.where(rng.random(len(coins)) < 1 / 1000, 9.0 * coins - 4, _by_record(rng, coins))


def _all_shown(rng: Rng, coins: FloatArray) -> FloatArray:
    """With chance 1/50 the model shows every coin, else none."""
    return coins * 1.0 if rng.random() < 1 / 50 else rng.random(len(coins))


def _one_run(source: Source, candidates: int, eps: float, delta: Fraction, *, record: bool, guesses: int) -> Trial:
    def trial(rng: Rng) -> bool:
        coins = flips(rng, candidates)
        found = one_run(source(rng, coins.astype(np.float64)), coins, guesses=guesses, alpha=ALPHA, delta=delta)
        return (found.record_bound if record else found.request_bound) > eps

    return trial


def oneruns() -> Iterator[Case]:
    """Yield the rows of ``onerun``, for the whole request and for one record."""

    def case(
        name: str,
        source: Source,
        candidates: int,
        words: str,
        *,
        eps: float = 0.0,
        delta: Fraction = NONE,
        guesses: int | None = None,
        exact: float | None = None,
    ) -> Case:
        chosen, record = default_guesses(candidates) if guesses is None else guesses, name.startswith("record")
        return Case(
            name=f"onerun/{name}/{candidates}",
            test="onerun",
            statement=f"{ABOVE} for {'one record' if record else 'the whole request'}",
            setting=f"{words}; {candidates} candidates, r = {chosen}",
            level=float(ALPHA),
            runs=10_000,
            trial=_one_run(source, candidates, eps, delta, record=record, guesses=chosen),
            exact=exact,
        )

    def chance(candidates: int) -> float:
        return guessing_chance(same("continuous"), candidates, default_guesses(candidates))

    for candidates in (32, 64, 128, 300):
        yield case("request, retrain", _plain("continuous"), candidates, "one law", exact=chance(candidates))
    for law in list(SCORES)[1:]:
        yield case(f"request, retrain, {law}", _plain(law), 64, f"one law, {law}", exact=chance(64))
    for law, signals in SIGNALS.items():
        words = f"one law, scored beside references, {law}"
        yield case(f"request, scored, {law}", _measured(signals), 64, words, exact=chance(64))
    for candidates in (32, 64, 128):
        yield case("request, best of e", _most_telling, candidates, BEST.words, eps=1.0)
    yield case("request, delta", _all_shown, 64, "one law, 1 model in 50 shows all coins", delta=Fraction(1, 50))
    yield case("record, retrain", _plain("continuous"), 64, "one law", exact=chance(64))
    for candidates in (32, 64, 128):
        yield case("record, response", _by_record, candidates, RESPONSE.words, eps=1.0)
    exact = guessing_chance(RESPONSE, 128, 32)
    yield case("record, few guesses", _by_record, 128, RESPONSE.words, eps=1.0, guesses=32, exact=exact)
    words = f"{RESPONSE.words}, 1 record in 1000 gives itself away"
    yield case("record, delta", _some_shown, 32, words, eps=1.0, delta=Fraction(1, 1000))


def _drilled(law: SignalLaw, candidates: int) -> Trial:
    """Three retrained models beside twelve references, their mean score against coins that none of them saw."""

    def trial(rng: Rng) -> bool:
        found, coins = law(rng, 15, candidates), flips(rng, candidates)
        mean = np.mean([candidate_scores(one, found[3:]) for one in found[:3]], axis=0)
        right = one_run(mean, coins, alpha=ALPHA).right
        guesses = default_guesses(candidates)
        return control_fails(guesses, right) or control_fails(guesses, guesses - right)

    return trial


def drill_controls() -> Iterator[Case]:
    """Yield the rows of the one-run audit's negative control, which looks at both sides."""
    for law, candidates in (("dependent", 64), ("dependent", 300), ("heavy tails", 64)):
        guesses = default_guesses(candidates)
        first = next(right for right in range(guesses + 1) if control_fails(guesses, right))
        yield Case(
            name=f"control of onerun/{law}/{candidates}",
            test="control of onerun",
            statement=FAILS,
            setting=f"mean score of three retrained models, {law}; {candidates} candidates",
            level=float(CONTROL_TAIL),
            runs=10_000,
            trial=_drilled(SIGNALS[law], candidates),
            exact=2 * float(half_tail(guesses, first)),
        )


# --- Power -----------------------------------------------------------------------------------------------------------


def _shifted(rng: Rng, shift: float) -> bool:
    first, *others = whole(rng.normal(size=100) + shift * (np.arange(100) < 1))
    return conformal(first, others, alpha=ALPHA).bound > 0


def _told(rng: Rng, accuracy: float) -> bool:
    coins = flips(rng, 100)
    told = np.where(rng.random(100) < accuracy, coins, 1 - coins)
    return one_run(told + rng.random(100) / 2, coins, alpha=ALPHA).request_bound > 0


def curves() -> Iterator[Curve]:
    """Yield the power curves of both."""
    yield Curve(
        name="power/conformal/99",
        test="conformal",
        effect="shift of the score in standard deviations",
        setting="one model, 99 references, normal scores",
        points=(0, 1, 1.5, 2, 2.5, 3, 4),
        runs=4000,
        trial=_shifted,
    )
    yield Curve(
        name="power/onerun/100",
        test="onerun",
        effect="chance that a score tells its coin",
        setting="100 candidates, r = 74, for the whole request",
        points=(0.5, 0.55, 0.6, 0.65, 0.7, 0.8, 0.9),
        runs=4000,
        trial=_told,
    )
