"""The one-run audit's numbers: golden values, a second implementation, closed forms, calibration, refusals."""

import re
from fractions import Fraction
from functools import cache
from math import comb, exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from cu_attacks._types import AttackError
from cu_attacks.onerun import ATTACK, candidate_scores, one_run
from cu_certificates.check.onerun import critical_right, half_tail, onerun_bound, onerun_tail, request_bound
from cu_certificates.check.strict import Rejected
from cu_certificates.check.tails import STEP
from cu_certificates.plan import default_guesses

ALPHA = Fraction(1, 20)
NONE = Fraction(0)
RUNS = 10_000 if SLOW else 1_000


# --- Golden values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidates", "guesses", "right", "eps", "delta", "golden"),
    [(1000, 100, 95, 2, "1e-5", 0.0178246346), (10, 10, 9, 1, "1e-3", 0.2093230004)],
)
def test_tail_golden(candidates: int, guesses: int, right: int, eps: int, delta: str, golden: float) -> None:
    low, high = onerun_tail(candidates, guesses, right, Fraction(eps), Fraction(delta))
    assert float(low) == pytest.approx(golden, abs=5e-11)
    assert 0 <= high - low < Fraction(1, 10**40)


def test_bound_golden() -> None:
    assert onerun_bound(1000, 100, 95, ALPHA, Fraction("1e-5")) == Fraction("2.1651")  # 2.1652 rounded down
    assert float(onerun_bound(100, 100, 80, ALPHA, NONE)) == pytest.approx(0.9584, abs=1e-4)
    assert float(request_bound(100, 60, ALPHA, NONE)) == pytest.approx(0.564, abs=5e-4)
    assert float(onerun_bound(100, 100, 60, ALPHA, NONE)) == pytest.approx(0.052, abs=5e-4)
    assert float(request_bound(100, 80, ALPHA, NONE)) == pytest.approx(18.3, abs=0.05)


# --- A second implementation in floating point -----------------------------------------------------------------------


def naive_tail(candidates: int, guesses: int, right: int, eps: float, delta: float) -> float:
    above = [stats.binom.sf(k - 1, guesses, 1 / (1 + exp(-eps))) for k in range(right + 1)]
    steps = [(above[right - i] - above[right]) / i for i in range(1, right + 1)]
    return float(min(1.0, above[right] + 2 * candidates * delta * max(steps, default=0.0)))


def naive_bound(candidates: int, guesses: int, right: int, alpha: float, delta: float) -> float:
    def gap(eps: float) -> float:
        return naive_tail(candidates, guesses, right, eps, delta) - alpha

    return 0.0 if gap(0.0) > 0 else float(optimize.brentq(gap, 0.0, 60.0, xtol=1e-10))


SIZES = [(20, 14, 12), (300, 224, 150), (300, 224, 224), (300, 150, 149), (64, 48, 0), (64, 48, 24), (2, 2, 2)]


@pytest.mark.parametrize(("candidates", "guesses", "right"), SIZES)
@pytest.mark.parametrize("delta", ["0", "1e-5", "1e-3"])
def test_both_implementations_agree(candidates: int, guesses: int, right: int, delta: str) -> None:
    for eps in ("0", "0.7", "3"):
        low, high = onerun_tail(candidates, guesses, right, Fraction(eps), Fraction(delta))
        assert float(low) <= float(high) <= 1
        assert float(high) == pytest.approx(
            naive_tail(candidates, guesses, right, float(eps), float(delta)), rel=1e-9, abs=1e-12
        )
    found = float(onerun_bound(candidates, guesses, right, ALPHA, Fraction(delta)))
    assert found == pytest.approx(naive_bound(candidates, guesses, right, 0.05, float(delta)), abs=1.01e-4)
    p = sum(comb(guesses, k) for k in range(right, guesses + 1)) / 2**guesses
    assert float(half_tail(guesses, right)) == pytest.approx(p, rel=1e-12)
    allowed = float(ALPHA - Fraction(delta))
    assert float(request_bound(guesses, right, ALPHA, Fraction(delta))) == pytest.approx(
        max(0.0, log(allowed / p)), abs=1.01e-4
    )


def test_at_eps_0_the_tail_is_that_of_a_fair_coin_exactly() -> None:
    for right in (0, 1, 24, 33, 48):
        low, high = onerun_tail(64, 48, right, NONE, NONE)
        assert low <= half_tail(48, right) <= high


# --- Closed forms and laws -------------------------------------------------------------------------------------------


def test_all_right_in_closed_form() -> None:
    for guesses in (8, 48, 224):
        q = 0.05 ** (1 / guesses)
        assert float(onerun_bound(300, guesses, guesses, ALPHA, NONE)) == pytest.approx(log(q / (1 - q)), abs=1.01e-4)
        assert float(request_bound(guesses, guesses, ALPHA, NONE)) == pytest.approx(
            log(0.05) + guesses * log(2), abs=1.01e-4
        )
    assert request_bound(1500, 1500, ALPHA, NONE) == 1000  # nothing larger is ever printed


def test_a_delta_as_large_as_alpha_shows_nothing() -> None:
    assert request_bound(224, 224, ALPHA, ALPHA) == 0
    assert onerun_bound(300, 224, 224, ALPHA, Fraction(1, 2)) == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_laws(data: st.DataObject) -> None:
    guesses = data.draw(st.integers(1, 60))
    candidates = data.draw(st.integers(guesses, 200))
    right = data.draw(st.integers(0, guesses))
    delta = data.draw(st.sampled_from([NONE, Fraction(1, 10**5), Fraction(1, 1000)]))
    request, record = (
        request_bound(guesses, right, ALPHA, delta),
        onerun_bound(candidates, guesses, right, ALPHA, delta),
    )
    assert request % STEP == 0 == record % STEP
    # What is printed is refuted; one step further would not be.
    if record:
        assert onerun_tail(candidates, guesses, right, record, delta)[1] <= ALPHA
    assert onerun_tail(candidates, guesses, right, record + STEP, delta)[1] > ALPHA
    if request:
        assert exp(request) * half_tail(guesses, right) <= (ALPHA - delta) * (1 + Fraction(1, 10**12))
    if right:
        assert request_bound(guesses, right - 1, ALPHA, delta) <= request
    if not delta:
        assert record <= request  # one record is never shown to lose more than the whole request
    else:
        assert record <= onerun_bound(candidates, guesses, right, ALPHA, NONE)


@settings(max_examples=60, deadline=None)
@given(guesses=st.integers(1, 60), eps=st.sampled_from(["0", "0.5", "2.00005"]), delta=st.sampled_from(["0", "0.01"]))
def test_the_critical_number_is_the_first_whose_bound_exceeds(guesses: int, eps: str, delta: str) -> None:
    found = critical_right(guesses, ALPHA, Fraction(eps), Fraction(delta))
    exceeding = [v for v in range(guesses + 1) if request_bound(guesses, v, ALPHA, Fraction(delta)) > Fraction(eps)]
    assert found == (min(exceeding) if exceeding else None)


# --- The attack ------------------------------------------------------------------------------------------------------


def naive_right(scores: list[float], coins: list[int], guesses: int) -> int:
    order = sorted(range(len(scores)), key=lambda index: (-scores[index], index))
    top, bottom = order[: guesses // 2], order[-(guesses // 2) :]
    return sum(coins[index] for index in top) + sum(1 - coins[index] for index in bottom)


@settings(max_examples=40, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.sampled_from([-1e300, -1.5, 0.0, 1e-300, 2.0]), st.booleans()), min_size=4, max_size=40)
)
def test_guesses_are_counted_as_a_reader_would(pairs: list[tuple[float, bool]]) -> None:
    scores, coins = [pair[0] for pair in pairs], [int(pair[1]) for pair in pairs]
    if len(set(coins)) < 2:
        return
    guesses = default_guesses(len(pairs))
    found = one_run(scores, coins, guesses=guesses, alpha=ALPHA)
    assert found.right == naive_right(scores, coins, guesses)
    assert found == one_run(np.array(scores), np.array(coins, dtype=bool), alpha=ALPHA)
    assert found.p == half_tail(guesses, found.right)
    assert found.accuracy == Fraction(found.right, guesses)


def test_a_result_says_for_whom_each_number_speaks() -> None:
    found = one_run(np.arange(100.0), np.arange(100) >= 50, guesses=100, alpha=ALPHA)
    assert found.right == 100
    told = str(found)
    assert "for the whole request" in told
    assert "for one record" in told
    assert told.index("66.3") < told.index("whole request") < told.index("one record")
    assert "no other request" in found.shows_not
    assert ATTACK.name == "onerun"
    assert ATTACK.kind == "question"


def test_constant_scores_are_guessed_by_their_place() -> None:
    coins = [1, 0, 1, 1, 0, 1, 0, 0]
    assert one_run(np.zeros(8), coins, guesses=4, alpha=ALPHA).right == naive_right([0.0] * 8, coins, 4) == 3


BAD: list[tuple[dict[str, Any], str]] = [
    ({"scores": [1.0, np.nan, 2.0, 3.0]}, "scores: holds NaN or infinite"),
    ({"scores": [1.0, np.inf, 2.0, 3.0]}, "scores: holds NaN or infinite"),
    ({"scores": []}, "scores: shape"),
    ({"scores": [[1.0, 2.0], [3.0, 4.0]]}, "scores: shape"),
    ({"included": [1, 0, 1]}, "included: shape"),
    ({"included": [1, 0, 2, 1]}, "included: .*expected one boolean, 0 or 1"),
    ({"included": [0.5, 0, 1, 1]}, "included: .*expected one boolean, 0 or 1"),
    ({"included": ["in", "out", "in", "out"]}, "included: .*expected one boolean, 0 or 1"),
    ({"included": [1, 1, 1, 1]}, "included: all 4 coins are alike; expected a fair coin"),
    ({"guesses": 3}, "guesses: 3; expected an even number from 2 to 4"),
    ({"guesses": 6}, "guesses: 6; expected an even number from 2 to 4"),
    ({"guesses": 0}, "guesses: 0; expected"),
    ({"alpha": Fraction(0)}, "alpha 0.*expected 0 < alpha < 1"),
    ({"delta": Fraction(1)}, "delta 1; expected"),
]


@pytest.mark.parametrize(("changed", "message"), BAD)
def test_bad_arguments_are_named(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"scores": [1.0, 2.0, 3.0, 4.0], "included": [1, 0, 1, 0], "alpha": ALPHA} | changed
    scores, included = given.pop("scores"), given.pop("included")
    with pytest.raises(AttackError, match=message):
        one_run(scores, included, **given)


def test_the_checker_refuses_numbers_out_of_range() -> None:
    for numbers in ((10, 11, 5), (10, 8, 9), (10, 8, -1), (10, 0, 0)):
        with pytest.raises(Rejected, match="expected 0 <= right <= guesses <= candidates"):
            onerun_tail(*numbers, NONE, NONE)
    with pytest.raises(Rejected, match="expected 0 <= eps"):
        onerun_tail(10, 8, 8, Fraction(-1), NONE)
    with pytest.raises(Rejected, match="alpha 1; expected"):
        onerun_bound(10, 8, 8, Fraction(1), NONE)
    with pytest.raises(Rejected, match="delta -1; expected"):
        request_bound(8, 8, ALPHA, Fraction(-1))


def test_the_example_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[1] / "docs" / "drill.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    exec(example, {})
    assert re.fullmatch(r"1\d\d of 224 guesses right: eps >= \S+ for the whole request, .*\n", capsys.readouterr().out)


# --- The score -------------------------------------------------------------------------------------------------------


def margins(seed: int = 0, models: int = 6, records: int = 40) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 4, records)
    return hard + rng.normal(size=records), hard + rng.normal(size=(models, records)) * rng.uniform(0.5, 2, records)


def test_the_score_is_a_residual_in_units_of_a_shrunk_spread() -> None:
    signals, references = margins()
    slope, offset = np.polyfit(references.mean(axis=0), signals, 1)
    variance = references.var(axis=0, ddof=1)
    spread = np.sqrt(0.5 * variance + 0.5 * variance.mean())
    expected = (signals - slope * references.mean(axis=0) - offset) / spread
    assert candidate_scores(signals, references) == pytest.approx(expected, abs=1e-9)


def test_a_bolder_model_gets_the_same_ranks() -> None:
    signals, references = margins(1)
    plain, bolder = candidate_scores(signals, references), candidate_scores(3 * signals + 7, references)
    assert np.argsort(plain).tolist() == np.argsort(bolder).tolist()


def test_degenerate_references_and_signals_have_a_defined_score() -> None:
    signals, references = margins(2)
    assert np.isfinite(candidate_scores(signals, np.zeros_like(references))).all()
    assert candidate_scores(np.zeros(40), references) == pytest.approx(np.zeros(40))
    same = np.repeat(references[:1], 6, axis=0)  # a recipe that ignores its seed
    assert np.isfinite(candidate_scores(signals, same)).all()
    for bad, message in (
        ((signals[:-1], references), "signals: shape"),
        ((signals, references[:1]), "references: shape"),
        ((np.full(40, np.nan), references), "signals: holds NaN"),
        ((signals, references * 1e120), "magnitude .*; expected at most 1e\\+100"),
    ):
        with pytest.raises(AttackError, match=message):
            candidate_scores(*bad)


# --- Calibration -----------------------------------------------------------------------------------------------------


def at_most(count: int, share: float) -> bool:
    return count <= stats.binom.ppf(0.999, RUNS, share)


@cache
def bounds(candidates: int, guesses: int, right: int, delta: Fraction) -> tuple[float, float]:
    return float(request_bound(guesses, right, ALPHA, delta)), float(
        onerun_bound(candidates, guesses, right, ALPHA, delta)
    )


def responses(rng: np.random.Generator, coins: Any, eps: float, delta: float) -> Any:
    """Local randomised response: each record is (eps, delta)-hidden, and no tighter."""
    told = np.where(rng.random(coins.size) < 1 / (1 + exp(-eps)), coins, 1 - coins)
    shown = rng.random(coins.size) < delta
    return np.where(shown, 2.0 * coins - 1, told - 0.5) + rng.random(coins.size) / 4


@pytest.mark.slow
@pytest.mark.parametrize(("eps", "delta"), [(0.0, "0"), (1.0, "0"), (3.0, "0"), (1.0, "0.001")])
def test_the_record_bound_holds(eps: float, delta: str) -> None:
    rng, size, false = np.random.default_rng(3), 64, 0
    guesses = default_guesses(size)
    for _ in range(RUNS):
        coins = rng.integers(0, 2, size)
        right = naive_right(list(responses(rng, coins, eps, float(delta))), list(coins), guesses)
        false += bounds(size, guesses, right, Fraction(delta))[1] > eps
    assert at_most(false, float(ALPHA))


@pytest.mark.slow
def test_the_same_simulation_can_fail() -> None:
    rng, size, false = np.random.default_rng(4), 64, 0
    for _ in range(RUNS // 10):
        coins = rng.integers(0, 2, size)
        right = naive_right(list(responses(rng, coins, 3.0, 0.0)), list(coins), default_guesses(size))
        false += bounds(size, default_guesses(size), right, NONE)[1] > 0.3
    assert false > 0.9 * RUNS / 10


@pytest.mark.slow
@pytest.mark.parametrize("eps", [0.0, 1.0])
def test_the_request_bound_meets_its_level_on_the_worst_law(eps: float) -> None:
    """All of e^eps is spent where the guesses are best: the error is alpha up to the binomial's steps."""
    rng, guesses = np.random.default_rng(5), 48
    first = critical_right(guesses, ALPHA, Fraction(eps), NONE)
    assert first is not None
    law = stats.binom.pmf(np.arange(guesses + 1), guesses, 0.5)
    high, inside = law[first:].sum(), np.arange(guesses + 1) >= first
    law = np.where(inside, law * exp(eps), law * (1 - exp(eps) * high) / (1 - high))
    drawn = rng.choice(guesses + 1, size=RUNS, p=law / law.sum())
    false = int(sum(bounds(64, guesses, int(right), NONE)[0] > eps for right in drawn))
    assert at_most(false, float(ALPHA))
    assert false >= stats.binom.ppf(0.001, RUNS, exp(eps) * high)


@pytest.mark.slow
def test_the_request_bound_with_delta_holds() -> None:
    """With probability delta the model shows every coin, else none: (0, delta)."""
    rng, size, delta, false = np.random.default_rng(6), 64, Fraction(1, 50), 0
    for _ in range(RUNS):
        coins = rng.integers(0, 2, size)
        scores = coins.astype(float) if rng.random() < float(delta) else rng.random(size)
        right = naive_right(list(scores), list(coins), default_guesses(size))
        false += bounds(size, default_guesses(size), right, delta)[0] > 0
    assert at_most(false, float(ALPHA))


@pytest.mark.slow
def test_both_bounds_fail_together_so_one_level_serves_both() -> None:
    for delta in (NONE, Fraction(1, 1000)):
        for truth in (0.0, 1.0, 2.5):
            wrong = [
                [side > truth for side in bounds(64, 48, right, delta)] for right in range(49)
            ]  # by number of right guesses
            for side in (0, 1):
                first = next((right for right, both in enumerate(wrong) if both[side]), 49)
                assert all(both[side] == (right >= first) for right, both in enumerate(wrong))
