"""Early stopping: the e-process, its bound and power, the score that learns, and what breaks it."""

import heapq
import math
from collections.abc import Callable, Sequence
from decimal import Context, Decimal
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cu_attacks._combined import SCALE, fit_combined
from cu_attacks._relearned import first_judge, relearn
from cu_attacks._types import AttackError
from cu_attacks.sequential import ATTACK, sequential
from cu_certificates.check.betting import (
    DOWN,
    LAMBDAS,
    UP,
    Terms,
    accuracy_needed,
    bets_needed,
    betting_bound,
    ending,
    guess_of,
    hopeful,
    mark_of,
    rights_needed,
    terms_of,
    wanted_wealth,
    wealth,
)
from cu_certificates.check.tables import Model, PilotTable
from cu_certificates.check.tails import STEP

ALPHA, NONE = Fraction(1, 20), Fraction(0)
STAKES = [float(stake) for stake in LAMBDAS]
RUNS = 5_000 if SLOW else 500

marks_of_slots = st.text("RWAF", min_size=1, max_size=40)


def at_most(count: int, runs: int, share: float) -> bool:
    return count <= stats.binom.ppf(0.999, runs, share)


def naive(marks: str, eps: float) -> list[float]:
    """K after each slot as the protocol writes it: mean over lambda of the product of 1 - lambda + lambda c / q."""
    q = math.exp(eps) / (1 + math.exp(eps))
    found = []
    for opened in range(1, len(marks) + 1):
        total = 0.0
        for stake in STAKES:
            total += math.prod(1 - stake + stake * (mark == "R") / q for mark in marks[:opened] if mark != "A")
        found.append(total / len(STAKES))
    return found


def naive_bound(marks: str, wanted: float) -> float:
    """The largest multiple of 1/10000 at which the running maximum reaches ``wanted``, by bisection over floats."""
    low, high = 0, 100_000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if max(naive(marks, middle / 10_000)) >= wanted else (low, middle)
    return low / 10_000


# --- The wealth and the bound ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "eps", "slots"),
    [("1/20", 0, 7), ("1/20", 1, 16), ("1/20", 2, 39), ("1/80", 0, 10), ("1/80", 1, 21), ("1/80", 2, 53)],
)
def test_so_many_right_guesses_in_a_row_refute(alpha: str, eps: int, slots: int) -> None:
    """The closed form of the protocol, section 4."""
    wanted = wanted_wealth(Fraction(alpha), NONE, 64)
    assert betting_bound("R" * slots, wanted) > eps
    assert betting_bound("R" * (slots - 1), wanted) <= eps
    assert rights_needed(Fraction(eps), wanted, 64) == slots
    assert rights_needed(Fraction(eps), wanted, slots - 1) is None
    found = sequential([1] * slots, [1] * slots, alpha=Fraction(alpha), tested_eps=Fraction(eps))
    assert found.refuted_after() == slots
    assert np.mean([(1 + stake / math.exp(eps)) ** slots for stake in STAKES]) == pytest.approx(float(found.wealth))


@settings(max_examples=60, deadline=None)
@given(marks_of_slots, st.sampled_from(["0", "1/2", "3"]))
def test_the_wealth_agrees_with_a_second_implementation(marks: str, eps: str) -> None:
    assert [float(value) for value in wealth(marks, Fraction(eps))] == pytest.approx(naive(marks, float(Fraction(eps))))


@settings(max_examples=30, deadline=None)
@given(marks_of_slots)
def test_the_bound_agrees_with_a_second_implementation(marks: str) -> None:
    assert float(betting_bound(marks, Fraction(20))) == pytest.approx(naive_bound(marks, 20.0), abs=1.001e-4)


@pytest.mark.parametrize("eps", ["0", "1/3", "7"])
def test_the_wealth_is_enclosed(eps: str) -> None:
    wide = Context(prec=90)
    decay = wide.exp(wide.divide(Decimal(-Fraction(eps).numerator), Decimal(Fraction(eps).denominator)))
    for marks in ("R", "RRWRARFR", "R" * 60, "RW" * 40):
        won, lost = marks.count("R"), len(marks) - marks.count("R") - marks.count("A")
        parts = [
            wide.multiply(
                wide.power(wide.fma(Decimal(stake), decay, Decimal(1)), won), wide.power(1 - Decimal(stake), lost)
            )
            for stake in LAMBDAS
        ]
        exact = sum(map(Fraction, parts)) / 7
        low, high = (Fraction(wealth(marks, Fraction(eps), context)[-1]) for context in (DOWN, UP))
        assert low < exact < high
        assert (high - low) / exact < Fraction(1, 10**36)


@settings(max_examples=60, deadline=None)
@given(marks_of_slots)
def test_laws_of_the_bound(marks: str) -> None:
    wanted = Fraction(20)
    bound = betting_bound(marks, wanted)
    assert betting_bound(marks.replace("A", ""), wanted) == bound  # a slot that is not guessed changes nothing
    assert betting_bound(marks + "W" * 5, wanted) == bound  # the running maximum: what was refuted stays refuted
    assert betting_bound(marks.replace("F", "W"), wanted) == bound  # a failed run is a lost bet
    assert betting_bound(hopeful(marks), wanted) >= bound
    assert betting_bound(marks, 4 * wanted) <= bound
    assert betting_bound(marks, None) == 0


def test_the_running_bound_never_falls_and_ends_at_the_bound() -> None:
    rng = np.random.default_rng(3)
    coins = [int(bit) for bit in rng.integers(0, 2, 48)]
    guesses = [bit if rng.random() < 0.9 else 1 - bit for bit in coins]
    found = sequential(guesses, coins, alpha=ALPHA, failed=[5, 40])
    running = found.running()
    assert list(running) == sorted(running)
    assert running[-1] == found.bound > 1
    for opened in (1, 12, 30):
        part = sequential(guesses[:opened], coins[:opened], alpha=ALPHA, failed=[5] if opened > 5 else [])
        assert part.bound == running[opened - 1]
    assert (found.right + found.wrong, found.marks.count("F")) == (46, 2)


def test_delta_takes_its_share_of_alpha_for_every_slot_that_may_be_opened() -> None:
    assert wanted_wealth(ALPHA, Fraction(1, 2560), 64) == 40
    assert wanted_wealth(ALPHA, Fraction(1, 1280), 64) is None
    coins = [0, 1] * 16
    sizes = [sequential(coins, coins, alpha=ALPHA, delta=Fraction(1, 2560), budget=budget) for budget in (32, 64, 128)]
    assert [found.bound > 0 for found in sizes] == [True, True, False]
    assert sizes[0].bound > sizes[1].bound
    assert sizes[2].running() == (0,) * 32
    assert sizes[2].refuted_after() is None


def test_one_direction_bets_on_unlearned_alone() -> None:
    coins, guesses = [1, 0, 1, 0] * 8, [1, 0, 1, 0] * 8
    both = sequential(guesses, coins, alpha=ALPHA)
    forward = sequential(guesses, coins, alpha=ALPHA, forward_only=True)
    assert forward.marks == "RA" * 16
    assert (both.bets, forward.bets) == (32, 16)
    assert forward.bound == betting_bound("R" * 16, Fraction(20)) < both.bound
    assert guess_of(5, 7, 0, forward=True) is None
    assert guess_of(9, 7, 0, forward=True) == 1


def test_guesses_by_threshold_and_margin() -> None:
    assert [guess_of(score, 10, 0) for score in (9, 10, 11)] == [0, 0, 1]
    assert [guess_of(score, 10, 3) for score in (7, 8, 10, 13, 14)] == [0, None, None, None, 1]
    assert [mark_of(guess, coin) for guess, coin in ((1, 1), (0, 1), (0, 0), (None, 1))] == list("RWRA")


def test_a_result_says_what_it_does_not_show() -> None:
    found = ATTACK.run([1, 0, None], [1, 0, 1], alpha=ALPHA)
    assert ATTACK.kind == "question"
    assert "does not show" in found.shows_not
    assert "plan order" in found.assumptions
    assert (found.slots, found.budget, found.marks) == (3, 3, "RRA")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guesses": [], "coins": []}, "one 0 or 1 for each of 0 guesses, at least one"),
        ({"coins": [1]}, "coins: expected one 0 or 1 for each of 2 guesses"),
        ({"coins": [1, 2]}, "coins: expected one 0 or 1"),
        ({"guesses": [1, 2]}, "guesses: expected 0, 1 or None"),
        ({"budget": 1}, r"budget: 1 slots; expected 2 \(those given\) to 4096"),
        ({"budget": 5000}, "budget: 5000 slots"),
        ({"failed": [2]}, r"failed: \[2\]; expected numbers of slots, 0 to 1"),
        ({"alpha": Fraction(1)}, "alpha 1, delta 0"),
        ({"delta": Fraction(1)}, "delta 1"),
        ({"tested_eps": Fraction(2000)}, "tested_eps 2000"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    given = {"guesses": [1, 0], "coins": [1, 0], "alpha": ALPHA} | arguments
    with pytest.raises(AttackError, match=message):
        sequential(given.pop("guesses"), given.pop("coins"), **given)


# --- False refutations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("eps", "slots"), [(0.0, 64), (0.0, 256), (1.0, 64), (1.0, 256)])
def test_a_kept_guarantee_is_refuted_at_any_time_in_at_most_a_share_alpha(eps: float, slots: int) -> None:
    """The worst pair: each guess is right with probability sigma(eps), and the audit looks after every slot."""
    rng = np.random.default_rng(17)
    runs = 6 * RUNS
    right = rng.random((runs, slots)) < 1 / (1 + math.exp(-eps))
    paths = np.zeros((runs, slots))
    for stake in STAKES:
        factors = np.where(right, 1 + stake * math.exp(-eps), 1 - stake)
        paths += factors.cumprod(axis=1) / len(STAKES)
    ever = int((paths.max(axis=1) >= 20).sum())
    assert at_most(ever, runs, 0.05)
    assert ever > 0  # the same simulation can fail
    marks = "".join("R" if bit else "W" for bit in right[0])
    assert float(max(wealth(marks, Fraction(eps)))) == pytest.approx(paths[0].max())


Draw = Callable[[np.random.Generator, int], np.ndarray]


def play(rng: np.random.Generator, draw: Draw, *, slots: int, eps: Fraction, pilots: Draw | None = None) -> str:
    """Judge slots by a score that is learned again after every four of them; returns their marks."""
    pilots = pilots or draw
    groups = [np.stack([pilots(rng, bit) for _ in range(6)]) for bit in (1, 0, 0)]
    frozen, opened, marks = fit_combined(*groups), {0: [], 1: []}, ""
    judge = first_judge(frozen, groups[0], groups[2])
    for slot in range(slots):
        if slot % 4 == 0:
            judge = relearn(frozen, (groups[0], groups[1], groups[2]), opened[1], opened[0], eps=eps)
        coin = int(rng.integers(0, 2))
        signals = draw(rng, coin)
        score = judge.score(signals[None])[0]
        marks += mark_of(guess_of(score, judge.threshold, judge.margin), coin)
        opened[coin].append(signals)
    return marks


def laplace(eps: float) -> Draw:
    """Records of which the first is drawn from two Laplace laws at distance eps: exactly (eps, 0)."""
    return lambda rng, bit: rng.laplace(size=5) + np.array([eps * bit, 0, 0, 0, 0])


@pytest.mark.parametrize("eps", [0.0, 1.0])
def test_learning_on_opened_slots_costs_no_alpha(eps: float) -> None:
    rng = np.random.default_rng(23)
    runs = RUNS // 3
    played = [play(rng, laplace(eps), slots=48, eps=Fraction(eps), pilots=laplace(4.0)) for _ in range(runs)]
    false = sum(betting_bound(marks, Fraction(20)) > Fraction(eps) for marks in played)
    assert at_most(false, runs, 0.05)


def arrivals(coins: Sequence[int], workers: int) -> list[int]:
    """The order in which slots finish: a retrain takes one unit of time, unlearning on top of a training 1.5."""
    waiting, running, order = list(range(len(coins)))[::-1], [], []
    clock = 0.0
    while waiting or running:
        while waiting and len(running) < workers:
            slot = waiting.pop()
            heapq.heappush(running, (clock + (1.5 if coins[slot] else 1.0), slot))
        clock, slot = heapq.heappop(running)
        order.append(slot)
    return order


def test_judged_on_arrival_a_perfect_method_is_refuted() -> None:
    """The pitfall of the protocol, section 4: unlearned and retrained models are alike here, and so is every score.

    The bettor guesses what it opened last. In plan order that is worth nothing; in the order of arrival, retrains come
    in before models that are unlearned on top of a training, and the coin is given away by the clock.
    """
    rng = np.random.default_rng(29)
    refuted = {"plan": 0, "arrival": 0}
    runs = RUNS
    for _ in range(runs):
        coins = [int(bit) for bit in rng.integers(0, 2, 64)]
        for name, order in (("plan", range(64)), ("arrival", arrivals(coins, 32))):
            seen = [coins[slot] for slot in order]
            marks = "".join(mark_of(guess, coin) for guess, coin in zip([0, *seen], seen, strict=False))
            refuted[name] += max(wealth(marks, NONE)) >= 20
    assert refuted["arrival"] == runs
    assert at_most(refuted["plan"], runs, 0.05)


# --- Power ------------------------------------------------------------------------------------------------------------


def naive_power(accuracy: float, eps: float, wanted: float, bets: int) -> float:
    """The chance that some prefix refutes, over all sequences of right and wrong bets."""
    total = 0.0
    for outcome in product("RW", repeat=bets):
        if max(naive("".join(outcome), eps)) >= wanted:
            total += math.prod(accuracy if mark == "R" else 1 - accuracy for mark in outcome)
    return total


def test_the_power_counts_every_way_to_refute() -> None:
    wanted, accuracy = Fraction(6), 0.75
    chances = [naive_power(accuracy, 0.0, 6.0, bets) for bets in range(1, 13)]
    first = next((bets for bets, chance in enumerate(chances, 1) if chance >= 0.8), None)
    assert bets_needed(Decimal("0.75"), NONE, wanted, 12) == first
    for needed in (9, 11):
        tested = bets_needed(Decimal("0.9"), Fraction(1, 4), wanted, needed)
        chance = naive_power(0.9, 0.2501, 6.0, needed)
        assert (tested is not None) == (chance >= 0.8)


@pytest.mark.parametrize(("eps", "detect"), [("0", "2"), ("1/2", "2"), ("1", "3")])
def test_the_planned_power_is_met_in_simulation(eps: str, detect: str) -> None:
    tested, truth = Fraction(eps), Fraction(detect)
    terms = terms_of(slots=128, round_=4, alpha=ALPHA, eps=tested, delta=NONE, detect=truth)
    assert terms.needed is not None
    rng = np.random.default_rng(31)
    right = rng.random((4 * RUNS, terms.needed)) < 1 / (1 + math.exp(-float(truth)))
    decay = math.exp(-float(tested) - 1e-4)
    logs = [np.where(right, math.log1p(stake * decay), math.log1p(-stake)).cumsum(axis=1) for stake in STAKES]
    paths = np.exp(np.stack(logs)).mean(axis=0)
    seen = (paths.max(axis=1) >= 20).sum()
    before = (paths[:, :-1].max(axis=1) >= 20).sum()
    assert stats.binom.ppf(0.001, 4 * RUNS, 0.8) <= seen
    assert before <= stats.binom.ppf(0.999, 4 * RUNS, 0.8)  # one bet fewer does not reach it
    accuracy = accuracy_needed(terms.needed, tested, terms.wanted)
    assert accuracy is not None
    assert float(accuracy) <= 1 / (1 + math.exp(-float(truth))) + 1e-4
    assert bets_needed(Decimal(str(float(accuracy - STEP))), tested, terms.wanted, terms.needed) is None


def test_the_numbers_that_the_documents_give() -> None:
    def needed(alpha: str, eps: str) -> int | None:
        return terms_of(
            slots=64, round_=4, alpha=Fraction(alpha), eps=Fraction(eps), delta=NONE, detect=Fraction(2)
        ).needed

    assert [needed("1/20", "1/2"), needed("1/40", "1/2"), needed("1/20", "0"), needed("1/40", "0")] == [33, 40, 18, 19]
    assert needed("1/20", "3/2") is None
    assert accuracy_needed(6, NONE, Fraction(20)) is None
    assert accuracy_needed(7, NONE, Fraction(20)) is not None


# --- Where a sequence ends --------------------------------------------------------------------------------------------


def terms(**changes: Any) -> Terms:
    return Terms(**({"slots": 30, "round": 4, "eps": NONE, "wanted": Fraction(20), "needed": 10} | changes))


def test_it_looks_at_whole_rounds_and_at_the_end() -> None:
    assert terms().looks == [4, 8, 12, 16, 20, 24, 28, 30]
    assert terms(slots=8).looks == [4, 8]
    assert terms(slots=2, round=2).looks == [2]


@pytest.mark.parametrize(
    ("main", "positive", "end"),
    [
        ("R" * 7, "R" * 7, None),  # refuted after seven, but the next look is after eight
        ("R" * 8, "R" * 8, (8, "refuted")),
        ("R" * 8, "W" * 8, (8, "refuted")),  # a refutation needs no positive control
        ("R" * 12, "R" * 12, (8, "refuted")),
        ("RRW" * 4, "R" * 12, None),  # the wealth is above 1
        ("RWW" * 4, "R" * 12, (12, "nothing")),
        ("RWW" * 4, "RWW" * 4, None),  # the positive control is not refuted
        ("RWWA" * 3, "R" * 12, None),  # nine bets are fewer than ten
        ("RWWA" * 4, "R" * 16, (16, "nothing")),
        ("RWW" * 3 + "FFF", "R" * 12, None),  # failed runs could hide what was looked for
        ("RRW" * 10, "RWW" * 10, (30, "budget")),
    ],
)
def test_where_a_sequence_ends(main: str, positive: str, end: tuple[int, str] | None) -> None:
    assert ending(main, positive, terms()) == end


def test_without_power_or_wealth_only_the_budget_ends_it() -> None:
    assert ending("RWW" * 10, "R" * 30, terms(needed=None)) == (30, "budget")
    assert ending("R" * 30, "R" * 30, terms(wanted=None)) == (30, "budget")


@settings(max_examples=60, deadline=None)
@given(st.text("RWAF", min_size=30, max_size=30), st.text("RW", min_size=30, max_size=30))
def test_an_end_does_not_depend_on_what_follows(main: str, positive: str) -> None:
    end = ending(main, positive, terms())
    assert end is not None
    assert ending(main[: end[0]], positive[: end[0]], terms()) == end
    assert ending(main[: end[0] - 1], positive[: end[0] - 1], terms()) is None


# --- The score that learns --------------------------------------------------------------------------------------------


def shifted(where: int) -> Draw:
    """Unlearned models that lie off in one record, where the pilots' originals lie off in record 0."""
    return lambda rng, bit: rng.normal(size=8) + 5.0 * bit * np.eye(8)[where]


def test_learning_sees_what_the_pilots_do_not_show() -> None:
    """Slight traces in another direction than the original's: the frozen score cannot see them, opened slots can."""
    rng = np.random.default_rng(37)
    trace = 0.9 * np.array([0.0, 1.0, -1.0] * 4)
    share = {"frozen": 0.0, "learned": 0.0}
    for _ in range(20):
        pilots = [rng.normal(size=(12, 12)) + (4.0 * np.eye(12)[0] if bit else 0) for bit in (1, 0, 0)]
        frozen = fit_combined(*pilots)
        coins = rng.integers(0, 2, 60)
        signals = rng.normal(size=(60, 12)) + coins[:, None] * trace
        seen = (signals[:40][coins[:40] == 1], signals[:40][coins[:40] == 0])
        learned = relearn(frozen, (pilots[0], pilots[1], pilots[2]), *seen, eps=NONE)
        for name, judge in (("frozen", first_judge(frozen, pilots[0], pilots[2])), ("learned", learned)):
            guesses = np.array(judge.score(signals[40:])) > judge.threshold
            share[name] += float((guesses == (coins[40:] == 1)).mean()) / 20
    assert share["frozen"] < 0.6
    assert share["learned"] > 0.85


def test_the_threshold_moves_to_where_the_unlearned_models_are() -> None:
    rng = np.random.default_rng(41)
    pilots = [rng.normal(size=(12, 8)) + (8.0 * np.eye(8)[0] if bit else 0) for bit in (1, 0, 0)]
    frozen = fit_combined(*pilots)
    half = rng.normal(size=(10, 8)) + 3.0 * np.eye(8)[0]
    judge = relearn(frozen, (pilots[0], pilots[1], pilots[2]), half, rng.normal(size=(10, 8)), eps=NONE)
    fresh = rng.normal(size=(200, 8))
    scores = np.array(judge.score(np.concatenate([fresh + 3.0 * np.eye(8)[0], fresh])))
    assert (scores[:200] > judge.threshold).mean() > 0.8
    assert (scores[200:] <= judge.threshold).mean() > 0.8
    assert judge.margin == 0
    before = np.array(frozen(fresh + 3.0 * np.eye(8)[0]))
    assert (before > first_judge(frozen, pilots[0], pilots[2]).threshold).mean() < 0.2


def test_the_margin_is_where_the_odds_fall_below_the_guarantee() -> None:
    rng = np.random.default_rng(43)
    pilots = [rng.normal(size=(16, 6)) + (3.0 * np.eye(6)[0] if bit else 0) for bit in (1, 0, 0)]
    frozen = fit_combined(*pilots)
    seen, unseen = rng.normal(size=(24, 6)) + 2.0 * np.eye(6)[0], rng.normal(size=(24, 6))
    margins = [
        relearn(frozen, (pilots[0], pilots[1], pilots[2]), seen, unseen, eps=Fraction(eps)).margin
        for eps in ("0", "1/2", "1")
    ]
    assert margins[0] == 0
    assert margins[1] > 0
    assert margins[2] == pytest.approx(2 * margins[1], abs=2)


def test_where_nothing_sets_them_apart_every_slot_is_guessed() -> None:
    """A retrain judged as if it were unlearned: withheld guesses would only cost further models."""
    rng = np.random.default_rng(61)
    withheld = 0
    for _ in range(100):
        pilots = [rng.normal(size=(8, 6)) + (3.0 * np.eye(6)[0] if bit else 0) for bit in (1, 0, 0)]
        learned = relearn(
            fit_combined(*pilots),
            (pilots[0], pilots[1], pilots[2]),
            rng.normal(size=(12, 6)),
            rng.normal(size=(12, 6)),
            eps=Fraction(1),
        )
        withheld += learned.margin > 0
    assert withheld <= 12


def test_before_any_unlearned_model_the_pilots_decide() -> None:
    rng = np.random.default_rng(47)
    pilots = (rng.normal(3, 1, (5, 4)), rng.normal(size=(5, 4)), rng.normal(size=(5, 4)))
    frozen = fit_combined(*pilots)
    judge = relearn(frozen, pilots, [], rng.normal(size=(3, 4)), eps=Fraction(1))
    tables = [tuple(Model(None, score) for score in frozen(pool)) for pool in (pilots[0], pilots[2])]
    assert judge.threshold == PilotTable(tables[0], (), tables[1]).middle()
    assert (judge.margin, judge.score) == (0, frozen)


def test_one_opened_model_and_equal_signals_are_no_trouble() -> None:
    rng = np.random.default_rng(53)
    pilots = (rng.normal(3, 1, (4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))
    frozen = fit_combined(*pilots)
    for seen, unseen in (
        (np.ones((1, 3)), np.empty((0, 3))),
        (np.ones((4, 3)), np.zeros((4, 3))),
        (np.zeros((1, 3)), np.zeros((9, 3))),
        (np.full((2, 3), -50.0), np.zeros((1, 3))),
    ):
        judge = relearn(frozen, pilots, seen, unseen, eps=Fraction(1, 2))
        found = judge.score(rng.normal(size=(5, 3)))
        assert all(isinstance(value, int) for value in (*found, judge.threshold, judge.margin))
        assert judge.margin >= 0
    assert SCALE == 1_000_000


@pytest.mark.parametrize(
    ("seen", "unseen", "message"),
    [
        (np.ones((2, 4)), np.ones((2, 3)), "signals on different numbers of records; expected 3"),
        (np.full((2, 3), np.nan), np.ones((2, 3)), "unlearned: holds NaN"),
        (np.ones((2, 3)), np.full((1, 3), np.inf), "retrained: holds NaN or infinite"),
        (np.ones(3), np.ones((2, 3)), r"unlearned: shape \(3,\)"),
        (np.full((2, 3), 1e200), np.ones((2, 3)), "too large to square"),
    ],
)
def test_signals_that_cannot_be_learned_from_are_named(seen: np.ndarray, unseen: np.ndarray, message: str) -> None:
    rng = np.random.default_rng(59)
    pilots = (rng.normal(3, 1, (4, 3)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))
    with pytest.raises(AttackError, match=message):
        relearn(fit_combined(*pilots), pilots, seen, unseen, eps=NONE)
