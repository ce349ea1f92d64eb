"""Coins, seeds and guesses: fair, bound to the plan, and counted by rank alone."""

import hashlib
import hmac
from collections.abc import Sequence
from itertools import pairwise, permutations

import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cu_certificates.check.coinflip import most_right
from cu_certificates.check.coins import coin, derive, right_guesses, seed_commitment
from cu_certificates.check.design import Coins

EXAMPLES = settings(deadline=None, max_examples=1000 if SLOW else 150)
SEED, PLAN = bytes(range(32)), "ab" * 32


def test_the_derivation_is_the_documented_one() -> None:
    message = b'["coin","' + PLAN.encode() + b'","","slots",7]'
    expected = hmac.new(SEED, message, hashlib.sha256).digest()
    assert derive(SEED, "coin", PLAN, "", "slots", 7) == expected
    assert coin(SEED, PLAN, "", "slots", 7) == expected[-1] & 1
    assert seed_commitment(SEED) == hashlib.sha256(b"cu-cert/seed/v1\0" + SEED).hexdigest()


def test_coins_are_fair_and_have_no_run_in_them() -> None:
    coins = [coin(SEED, PLAN, "", "slots", slot) for slot in range(4000)]
    assert stats.binomtest(sum(coins), len(coins)).pvalue > 1e-4
    alike = sum(first == second for first, second in pairwise(coins))
    assert stats.binomtest(alike, len(coins) - 1).pvalue > 1e-4


def test_a_coin_depends_on_seed_plan_nonce_group_and_slot_and_on_nothing_else() -> None:
    def coins(seed: bytes = SEED, plan: str = PLAN, nonce: str = "", group: str = "slots") -> list[int]:
        return [coin(seed, plan, nonce, group, slot) for slot in range(64)]

    others = [coins(seed=bytes(32)), coins(plan="cd" * 32), coins(nonce="00"), coins(group="control")]
    assert len({tuple(found) for found in [coins(), *others]}) == 5
    backwards = [coin(SEED, PLAN, "", "slots", slot) for slot in reversed(range(64))]
    assert backwards[::-1] == coins()
    purposes = {derive(SEED, purpose, PLAN, "", "slots", 1) for purpose in ("coin", "train")}
    assert len(purposes) == 2


def test_names_of_a_derivation_cannot_run_into_each_other() -> None:
    assert derive(SEED, "train", PLAN, "", "a", "bc") != derive(SEED, "train", PLAN, "", "ab", "c")
    assert derive(SEED, "train", PLAN, "", "slots", 1, 2) != derive(SEED, "train", PLAN, "", "slots", 12)


# --- Guesses ---------------------------------------------------------------------------------------------------------


def naive(coins: Sequence[int], scores: Sequence[int | None], guesses: int, forward: bool) -> int:
    """A second reading of the protocol, slot by slot: how many models stand before this one, and how many after?"""
    lost = [coins[slot] for slot, score in enumerate(scores) if score is None]
    right = 0
    for slot, own in enumerate(scores):
        if own is None:
            continue
        before = after = 0
        for other, score in enumerate(scores):
            if score is not None and other != slot:
                ahead = score > own or (score == own and other < slot)
                before, after = before + ahead, after + (not ahead)
        if forward:
            right += coins[slot] == 1 and before + len(lost) < guesses // 2
        else:
            right += coins[slot] == 1 and before + lost.count(0) < guesses // 2
            right += coins[slot] == 0 and after + lost.count(1) < guesses // 2
    return right


TABLES = st.integers(2, 40).flatmap(
    lambda size: st.tuples(
        st.lists(st.integers(0, 1), min_size=size, max_size=size),
        st.lists(st.none() | st.integers(-3, 3) | st.integers(-(2**52), 2**52), min_size=size, max_size=size),
        st.integers(1, size // 2).map(lambda half: 2 * half),
        st.booleans(),
    )
)


@EXAMPLES
@given(TABLES)
def test_right_guesses_agree_with_a_second_implementation(table: tuple[list[int], list[int | None], int, bool]) -> None:
    coins, scores, guesses, forward = table
    found = right_guesses(coins, scores, guesses, forward_only=forward)
    assert found == naive(coins, scores, guesses, forward)
    half, lost = guesses // 2, [bit for bit, score in zip(coins, scores, strict=True) if score is None]
    most = half - len(lost) if forward else guesses - min(lost.count(0), half) - min(lost.count(1), half)
    assert 0 <= found <= max(most, 0)


@EXAMPLES
@given(TABLES)
def test_only_ranks_count(table: tuple[list[int], list[int | None], int, bool]) -> None:
    coins, scores, guesses, forward = table
    stretched = [None if score is None else score * 7 + 1_000_003 for score in scores]
    assert right_guesses(coins, scores, guesses, forward_only=forward) == right_guesses(
        coins, stretched, guesses, forward_only=forward
    )


def test_a_perfect_score_is_right_everywhere_and_a_reversed_one_nowhere() -> None:
    coins = [1, 0] * 8
    assert right_guesses(coins, [9 * bit for bit in coins], 12) == 12
    assert right_guesses(coins, [-9 * bit for bit in coins], 12) == 0
    assert right_guesses(coins, [9 * bit for bit in coins], 12, forward_only=True) == 6


def test_ties_go_to_the_lower_slot() -> None:
    assert right_guesses([1, 0], [5, 5], 2) == 2
    assert right_guesses([0, 1], [5, 5], 2) == 0


def worst_and_best(coins: list[int], scores: list[int | None], guesses: int) -> tuple[int, int]:
    """The fewest and most right guesses over all places in the ranking that the failed runs could have had."""
    there = sorted((slot for slot, score in enumerate(scores) if score is not None), key=lambda slot: -scores[slot])  # type: ignore[operator]
    orders = [there]
    for failed in (slot for slot, score in enumerate(scores) if score is None):
        orders = [[*order[:place], failed, *order[place:]] for order in orders for place in range(len(order) + 1)]
    half = guesses // 2
    counts = [sum(coins[s] for s in o[:half]) + sum(1 - coins[s] for s in o[len(o) - half :]) for o in orders]
    return min(counts), max(counts)


@EXAMPLES
@given(
    st.lists(st.integers(0, 1), min_size=6, max_size=7),
    st.permutations(range(7)),
    st.sets(st.integers(0, 6), max_size=3),
    st.sampled_from([2, 4, 6]),
)
def test_failed_runs_count_as_the_least_that_they_could_have_shown(
    coins: list[int], ranks: list[int], failed: set[int], guesses: int
) -> None:
    scores = [None if slot in failed else ranks[slot] for slot in range(len(coins))]
    least, most = worst_and_best(coins, scores, guesses)
    assert right_guesses(coins, scores, guesses) <= least
    lost = [coins[slot] for slot, score in enumerate(scores) if score is None]
    if max(lost.count(0), lost.count(1)) <= guesses // 2:
        assert right_guesses(coins, scores, guesses) == least
    sizes = Coins(
        slots=len(coins), guesses=guesses, counted=guesses, control_guesses=2, control_counted=2, forward=False
    )
    assert most_right(coins, scores, right_guesses(coins, scores, guesses), sizes) >= most


def test_a_failed_slot_takes_a_guess_and_is_wrong() -> None:
    coins = [1, 1, 1, 1, 0, 0, 0, 0]
    scores: list[int | None] = [9, 8, 7, 6, 4, 3, 2, 1]
    assert right_guesses(coins, scores, 6) == 6
    for failed in range(8):
        spoiled = [None if slot == failed else score for slot, score in enumerate(scores)]
        assert right_guesses(coins, spoiled, 6) == 5
    assert right_guesses(coins, [None] * 8, 6) == 0
    # Forward: three guesses for the top, and a lost one of them is lost whichever slot failed.
    assert right_guesses(coins, scores, 6, forward_only=True) == 3
    assert right_guesses(coins, [None, *scores[1:]], 6, forward_only=True) == 2
    assert right_guesses(coins, [*scores[:-1], None], 6, forward_only=True) == 2


def test_under_no_leak_the_count_is_binomial_whatever_fails() -> None:
    """All coins of five slots, exactly: failures and ties that do not look at the coins keep the null law."""
    for scores in permutations([1, 2, 2, None, 4]):
        counts = [0] * 5
        for bits in range(32):
            counts[right_guesses([bits >> slot & 1 for slot in range(5)], scores, 4)] += 1
        assert counts == [4, 12, 12, 4, 0]  # 32 times Bin(3, 1/2): one of four guesses is lost


@pytest.mark.parametrize("guesses", [2, 4, 6])
def test_balanced_pools_would_not_be_valid(guesses: int) -> None:
    """Why each slot has its own coin: with exactly half the coins up, right guesses are too often all right."""
    balanced = [bits for bits in range(64) if bits.bit_count() == 3]
    all_right = sum(
        right_guesses([bits >> slot & 1 for slot in range(6)], list(range(6)), guesses) == guesses for bits in balanced
    )
    free = sum(
        right_guesses([bits >> slot & 1 for slot in range(6)], list(range(6)), guesses) == guesses for bits in range(64)
    )
    assert free * 2**guesses == 64
    assert all_right / len(balanced) > free / 64
