"""The Gaussian extrapolation is re-derived: by floats of another floor, and refused when a digit is off."""

from copy import deepcopy
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
from fake_certificate import Fake, fake
from fake_evidence import LEAK, Json, Knobs
from fake_sequential import fake_sequential, sequential_knobs
from fake_theorem import with_extrapolation
from hypothesis import given, settings
from hypothesis import strategies as st
from test_checker_pools import checked, drafted

from cu_attacks._extrapolations import gaussian_mu
from cu_cert.beside import _Counted, _gaussian
from cu_certificates.check.main import accepted

EXAMPLES = settings(deadline=None, max_examples=30, derandomize=True)


@cache
def base() -> Fake:
    return with_extrapolation(fake(Knobs(means=LEAK))).state()


def refusal(found: Fake) -> str:
    (refused,) = found.check().rejected
    assert refused.id == "x-mu"
    return refused.detail


def test_an_honest_one_is_assumed_and_decides_nothing() -> None:
    result = base().check()
    assert accepted(result)
    (claim,) = [claim for claim in result.claims if claim.type == "mu-lower"]
    assert claim.status == "assumed"
    assert "(A17)" in claim.detail
    assert "supports no verdict" in claim.detail
    assert any(claim.detail in line for line in result.lines())
    without = base().copy()
    without.drop("x-mu")
    assert without.state().check().derived == result.derived


LAST = str.maketrans("0123456789", "1234567890")

CHEATS: list[tuple[str, Any, str]] = [
    ("a larger mu", lambda c: c.update(value="9.0000"), ".value"),
    ("a smaller mu", lambda c: c.update(value="0.0000"), ".value"),
    ("mu as a number of another form", lambda c: c.update(value=c["value"][:-1]), ".value"),
    ("a larger eps", lambda c: c.update(eps="99.0000"), ".eps"),
    ("a smaller eps", lambda c: c.update(eps="0.0000"), ".eps"),
    ("another delta", lambda c: c.update(delta="1/100"), ".eps"),
    ("delta 0", lambda c: c.update(delta="0"), "strictly between 0 and 1"),
    ("a last digit of z1", lambda c: c.update(z1=c["z1"][:-1] + c["z1"][-1].translate(LAST)), ".z1"),
    ("a last digit of z2", lambda c: c.update(z2=c["z2"][:-1] + c["z2"][-1].translate(LAST)), ".z2"),
    ("a smaller z1", lambda c: c.update(z1="0.000000000000"), ".z1"),
    ("a larger z2", lambda c: c.update(z2="0.000000000000"), ".z2"),
    ("fewer digits", lambda c: c.update(z1=c["z1"][:-1]), "12 decimals"),
    ("more digits", lambda c: c.update(z1=c["z1"] + "0"), "12 decimals"),
    ("minus nothing", lambda c: c.update(z1="-0.000000000000"), "12 decimals"),
    ("a plus sign", lambda c: c.update(z1="+" + c["z1"]), "12 decimals"),
    ("a huge witness", lambda c: c.update(z1="1000.000000000000"), "12 decimals"),
    ("a number", lambda c: c.update(z1=1), "expected a string"),
    ("the ends exchanged", lambda c: c.update(tpr=c["fpr"], fpr=c["tpr"]), "is not a lower bound"),
    ("the wrong pool", lambda c: c.update(tpr="c-cp-held-out"), "not about the unlearned models"),
    ("a parent of another type", lambda c: c.update(tpr="c-count-pool-unlearned"), "is not a cp claim"),
    ("its own parent", lambda c: c.update(tpr="x-mu"), "is not a cp claim"),
    ("the cross-check for a parent", lambda c: c.update({"from": "c-eps-pools", "alpha": "1/20"}), "not the planned"),
    ("the coins' bound for a parent", lambda c: c.update({"from": "c-eps-procedure"}), "is not a eps-lower claim"),
    ("a deciding one", lambda c: c.update(planned=True), "expected False for mu-lower"),
    ("no assumption", lambda c: c.pop("assumption"), "assumption: missing"),
    ("another question", lambda c: c.update(question="artifact"), "expected procedure"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "message"), [case[1:] for case in CHEATS], ids=[case[0] for case in CHEATS])
def test_a_cheat_is_refused(edit: Any, message: str) -> None:
    found = base().copy()
    edit(found.claim("x-mu"))
    assert message in refusal(found)


def test_its_assumption_must_be_listed_and_it_stands_once() -> None:
    found = base().copy()
    found.predicate["assumptions"].remove("A17")
    assert "rests on A17" in refusal(found)
    found = base().copy()
    found.predicate["claims"].append(found.claim("x-mu") | {"id": "x-again"})
    assert "expected one claim of its kind" in found.check().rejected[0].detail


def test_rates_at_their_ends_give_no_distance() -> None:
    """No hit among the unlearned models: the quantile of 0 is no number, and none can be claimed."""
    found = fake(Knobs())
    claim = base().claim("x-mu")
    found.predicate["claims"].append(dict(claim))
    found.predicate["assumptions"].append("A17")
    assert ".z1: " in refusal(found)


def test_there_is_none_beside_a_sequence_of_slots() -> None:
    found = fake_sequential(sequential_knobs(means=LEAK))
    found.predicate["claims"].append(base().claim("x-mu"))
    assert "is not a cp claim earlier in the list" in refusal(found)


@EXAMPLES
@given(st.integers(2, 60), st.integers(2, 60), st.data())
def test_the_attack_floor_says_the_same_in_floats(unlearned: int, retrained: int, data: st.DataObject) -> None:
    true, false = data.draw(st.integers(0, unlearned)), data.draw(st.integers(0, retrained))
    claims = _gaussian(_Counted(true, unlearned, false, retrained), {"from": "c-eps-procedure", "alpha": "1/20"})
    floats = gaussian_mu(true, unlearned, false, retrained, alpha=Fraction(1, 20), delta=1e-5)
    if not claims:
        assert floats.mu == 0
        return
    (claim,) = claims
    mu, eps = float(str(claim["value"])), float(str(claim["eps"]))
    assert floats.mu - 1e-4 - 1e-9 <= mu <= floats.mu + 1e-9
    assert floats.eps - 2e-3 <= eps <= floats.eps + 1e-6


# --- Two pools -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Json, dict[str, bytes]]:
    return drafted(tmp_path_factory.mktemp("pooled"))


def test_beside_two_pools_it_starts_from_their_counts(pooled: tuple[Json, dict[str, bytes]]) -> None:
    result = checked(*pooled)
    (claim,) = [claim for claim in result.claims if claim.type == "mu-lower"]
    assert claim.status == "assumed"
    assert "A17" in pooled[0]["predicate"]["assumptions"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": "1/10"}, "expected at most 1/20"),
        ({"alpha": "1/40"}, ".z1"),
        ({"from": "c-pos-procedure"}, "is not a eps-lower claim"),
        ({"from": None}, "expected a string"),
        ({"value": "0.0001"}, ".value"),
    ],
)
def test_altered_beside_two_pools_it_is_refused(
    changes: Json, message: str, pooled: tuple[Json, dict[str, bytes]]
) -> None:
    statement, files = deepcopy(pooled)
    (claim,) = [claim for claim in statement["predicate"]["claims"] if claim["type"] == "mu-lower"]
    claim.update(changes)
    (refused,) = checked(statement, files).rejected
    assert message in refused.detail


def test_a_trivial_end_writes_no_claim() -> None:
    assert _gaussian(_Counted(0, 20, 0, 20), {}) == []
    assert _gaussian(_Counted(20, 20, 20, 20), {}) == []
