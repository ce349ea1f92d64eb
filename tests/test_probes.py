"""The probes: one contract for all of them, exact p-values, and claims that say no more than they show."""

import re
import sys
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from small_probes import original, probe, retrained

import cu_cert.probes
from cu_cert.errors import ConfigError
from cu_cert.probes import Probe, ProbeResult, get, names, probe_claims
from cu_cert.probes._types import Part, extremeness
from cu_certificates._forbidden import forbidden_in
from cu_certificates.check.strict import canonical

# --- One contract for all members ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", names())
def test_a_member_announces_itself(name: str) -> None:
    found = get(name)
    assert isinstance(found, Probe)
    assert found.name == name
    assert re.search(r"\d{4}", found.paper)
    module = sys.modules[f"cu_cert.probes.{name}"]
    assert (module.__doc__ or "").startswith(f"``{name}``")
    for part in found.parts:
        assert len(part.title) < 90
        assert part.shows_not


def test_the_list_needs_no_import_and_helpers_are_not_members() -> None:
    assert names() == ["neighbours", "pruning", "quantisation", "relearning", "retained", "update_leakage"]
    with pytest.raises(ConfigError, match="'prunning' is unknown; did you mean pruning"):
        get("prunning")
    with pytest.raises(ConfigError, match="expected one of neighbours, pruning"):
        get("_case")


def test_names_are_unique() -> None:
    parts = [part.name for name in names() for part in get(name).parts]
    assert len(set(parts)) == len(parts) == 13


def test_a_probe_names_its_numbers_after_itself() -> None:
    part = Part(name="other", title="a number", shows_not="anything", run=lambda case: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match="each named own-name or own-name-"):
        Probe(name="own_name", paper="2020", parts=(part,))
    with pytest.raises(ValueError, match="at least one part"):
        Probe(name="own_name", paper="2020", parts=())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"value": None}, "4 of 5 numbers"),
        ({"value": float("nan")}, "not finite"),
        ({"null_low": 3.0}, "expected rising ends"),
        ({"p": Fraction(1, 9)}, "expected 1/5 to 1"),
        ({"p": Fraction(6, 5)}, "expected 1/5 to 1"),
        ({"note": ""}, "expected a name, a note"),
        ({"n": -1}, "n >= 0"),
    ],
)
def test_a_result_is_checked(change: dict[str, Any], problem: str) -> None:
    good: dict[str, Any] = {
        "name": "x",
        "title": "x",
        "value": 1.0,
        "null_low": 0.0,
        "null_high": 2.0,
        "null_mean": 1.0,
        "p": Fraction(1, 5),
        "n": 4,
        "note": "x",
        "shows_not": "x",
    }
    assert ProbeResult(**good).value == 1.0
    with pytest.raises(ValueError, match=problem):
        ProbeResult(**good | change)


# --- The p-value -----------------------------------------------------------------------------------------------------

values = st.lists(st.integers(-9, 9).map(lambda number: number / 4), min_size=4, max_size=12)


@given(values)
def test_at_most_a_models_of_a_pool_have_p_up_to_a_over_their_number(pool: list[float]) -> None:
    # The law behind the p-value, exactly and whatever the values: each model takes the place of the audited one.
    found = [extremeness(np.array([pool[i], *pool[:i], *pool[i + 1 :]])) for i in range(len(pool))]
    for a in range(1, len(pool) + 1):
        assert sum(p <= Fraction(a, len(pool)) for p in found) <= a


@given(values, st.randoms())
def test_the_order_of_the_others_and_the_origin_do_not_matter(pool: list[float], random: Any) -> None:
    shuffled = pool[1:]
    random.shuffle(shuffled)
    assert extremeness(np.array(pool)) == extremeness(np.array([pool[0], *shuffled]))
    assert extremeness(np.array(pool)) == extremeness(np.array(pool) + 4) == extremeness(-np.array(pool))


def test_the_p_value_by_hand() -> None:
    assert extremeness(np.array([9.0, 1, 2, 3, 4])) == Fraction(1, 5)
    assert extremeness(np.array([-9.0, 1, 2, 3, 4])) == Fraction(1, 5)  # the other side
    assert extremeness(np.array([1.0, 2, 3, 4, 5])) == Fraction(2, 5)  # as far from 3 as the 5 is
    assert extremeness(np.array([3.0, 1, 2, 4, 5])) == 1
    assert extremeness(np.array([2.0, 2, 2, 2])) == 1
    assert extremeness(np.array([2.0 + 1e-12, 2, 2, 2])) == 1  # the order of additions is no finding


@pytest.mark.slow
@pytest.mark.parametrize("law", ["normal", "cauchy", "counts", "skewed"])
def test_the_p_value_is_calibrated(law: str) -> None:
    rng, runs, k = np.random.default_rng(1), (40_000 if SLOW else 4000), 19
    draw: dict[str, Any] = {
        "normal": rng.normal,
        "cauchy": rng.standard_cauchy,
        "counts": lambda size: rng.poisson(1.0, size).astype(float),
        "skewed": lambda size: rng.exponential(size=size),
    }
    found = np.array([float(extremeness(draw[law](size=k + 1))) for _ in range(runs)])
    for a in (1, 2, 4, 10):
        share = a / (k + 1)
        assert (found <= share + 1e-12).sum() <= stats.binom.ppf(0.999, runs, share)
        if law == "normal":
            assert (found <= share + 1e-12).sum() >= stats.binom.ppf(0.001, runs, share)


def test_retrained_models_are_not_extreme_more_often_than_the_p_value_says() -> None:
    # Real models: each of eight retrains takes the place of the audited one, beside the other seven.
    pool = list(retrained(8))
    runs = [probe(model, [*pool[:i], *pool[i + 1 :]]) for i, model in enumerate(pool)]
    for name in runs[0]:
        found = [run[name].p for run in runs]
        for a in range(1, 9):
            assert sum(p is not None and p <= Fraction(a, 8) for p in found) <= a, name
        assert any(run[name].p != 1 for run in runs), name


# --- Claims ----------------------------------------------------------------------------------------------------------


def test_claims_are_descriptive_metrics_that_say_what_they_do_not_show() -> None:
    results = list(probe(original(), retrained(4), original=None).values())
    claims = probe_claims(results)
    assert [claim["id"] for claim in claims] == [f"m-probe-{result.name}" for result in results]
    assert {claim["type"] for claim in claims} == {"metric"}
    for claim, result in zip(claims, results, strict=True):
        canonical(claim)  # texts and whole numbers alone: what a payload may hold
        assert claim["name"] == result.title
        note = str(claim["note"])
        assert result.shows_not in note
        assert result.note in note
        if result.value is None:
            assert claim["value"] == "not measured"
            assert "interval" not in claim
        else:
            assert claim["value"] == f"{result.value:.4f}"
            assert claim["interval"] == [f"{result.null_low:.4f}", f"{result.null_high:.4f}"]
            assert f"p = {result.p}: share of all 5 models" in note
            assert f"mean {result.null_mean:.4f}" in note
            assert "not corrected for 12 such numbers" in note


def test_no_claim_says_more_than_an_audit_can_or_names_a_record() -> None:
    claims = probe_claims(list(probe(original(), retrained(4)).values()))
    for text in (f"{claim['name']} {claim['note']}".lower() for claim in claims):
        assert forbidden_in(text, ["en"]) == []
        assert not re.search(r"r\d{3}", text)


def test_the_room_is_light_to_open() -> None:
    import subprocess

    code = "import sys, cu_cert.probes as p; p.names(); print([m for m in ('torch', 'numpy') if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert found.stdout.strip() == "[]"
    assert list(cu_cert.probes.__all__) == sorted(cu_cert.probes.__all__)
    assert all(first != second for first, second in pairwise(names()))
