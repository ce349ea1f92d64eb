"""Theorems in the hands of a dishonest signer: other constants, other groups, other deltas, two bounds for one."""

from collections.abc import Callable
from typing import Any

import pytest
from fake_certificate import fake
from fake_evidence import Json, Knobs
from fake_theorem import ASSUMPTIONS, certified, per_record, theorem_claim, up

from cu_attacks._extrapolations import gaussian_eps
from cu_certificates.check.main import accepted
from cu_certificates.check.strict import Rejected


def only(**changes: Any) -> Json:
    return {"constants": {"sensitivity": "1/10", "sigma": "1", "unit": "request"} | changes}


NAMED: Json = {"id": "x", "kind": "assumed", "text": "y"}

CHEATS: list[tuple[str, Json, str]] = [
    ("an eps that the theorem does not give", {"eps": "0.2759"}, "the theorem gives 0.2760"),
    ("an eps that is larger than needed", {"eps": "0.2761"}, "the theorem gives 0.2760"),
    ("no eps", {"eps": "0"}, "the theorem gives 0.2760"),
    ("a bound for another delta", {"delta": "1/1000", "eps": up(gaussian_eps(0.1, 1e-3))}, "about another guarantee"),
    ("a negative sensitivity", only(sensitivity="-1/10"), "expected a decimal or fraction"),
    ("no sensitivity", only(sensitivity="0"), "expected a number above 0"),
    ("huge noise", only(sigma="9" * 30), "expected a decimal or fraction"),
    ("a hidden constant", only(clipped="1/2"), "expected exactly"),
    ("a constant left out", {"constants": {"sensitivity": "1/10", "unit": "request"}}, "expected exactly"),
    ("records beside a bound for the request", only(records=1), "expected exactly"),
    ("fewer records than the request has", per_record(4), "the request has 5"),
    ("one record for all", per_record(1), "the request has 5"),
    ("no records", only(unit="record"), "expected exactly"),
    ("another unit", only(unit="person"), "expected record or request"),
    ("an unknown theorem", {"theorem": "folklore"}, "expected gaussian or"),
    ("another theorem for the same constants", {"theorem": "laplace"}, "expected exactly"),
    ("an unknown sampler", {"sampler": "quantum"}, "expected float or opendp or sampcert"),
    ("not planned", {"planned": False}, "expected True for dp-bound"),
    ("no assumptions", {"assumptions": []}, "sensitivity, noise, release left out"),
    ("an assumption left out", {"assumptions": ASSUMPTIONS[1:]}, "sensitivity left out"),
    ("an assumption of no kind", {"assumptions": [*ASSUMPTIONS, {"id": "x", "text": "y"}]}, "kind: missing"),
    ("a proven assumption", {"assumptions": [*ASSUMPTIONS, {"id": "x", "text": "y", "kind": "proven"}]}, "enforced"),
    ("an assumption twice", {"assumptions": [*ASSUMPTIONS, ASSUMPTIONS[0]]}, "each assumption once"),
    ("an unknown assumption without words", {"assumptions": [*ASSUMPTIONS, {"id": "x", "kind": "assumed"}]}, "missing"),
    ("an endless assumption", {"assumptions": [*ASSUMPTIONS, NAMED | {"text": "y" * 401}]}, "401"),
    ("hidden fields", {"assumptions": [*ASSUMPTIONS, {"id": "x", "kind": "assumed", "text": "y", "z": 1}]}, "id, kind"),
    ("too many assumptions", {"assumptions": [NAMED | {"id": f"x{n}"} for n in range(41)]}, "41"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), [case[1:] for case in CHEATS], ids=[case[0] for case in CHEATS])
def test_a_cheat_is_refused(changes: Json, message: str) -> None:
    found = certified(**changes)
    result = found.check()
    (refused,) = result.rejected
    assert refused.id == "c-theorem"
    assert message in refused.detail
    assert result.derived == "INCONCLUSIVE"
    assert not accepted(result)


@pytest.mark.parametrize(
    ("eps", "delta", "message"),
    [
        ("1/5", "1/10000", "which the theorem does not give"),
        ("0.2759", "1/10000", "which the theorem does not give"),
        ("1/2", "1/20000", "about another guarantee"),
        ("1/2", "0", "about another guarantee"),
    ],
)
def test_a_stated_guarantee_that_is_stronger_than_the_theorem_is_refused(eps: str, delta: str, message: str) -> None:
    knobs = Knobs(guarantee="certified", method="newton", tested_eps=eps, tested_delta=delta)
    found = fake(knobs)
    found.predicate["claims"].append(theorem_claim())
    found.predicate["assumptions"].append("A18")
    assert any(message in claim.detail for claim in found.check().rejected)


def test_a_stated_guarantee_that_is_weaker_is_covered() -> None:
    for eps, delta in (("0.2760", "1/10000"), ("3", "1/100")):
        found = fake(Knobs(guarantee="certified", method="newton", tested_eps=eps, tested_delta=delta))
        found.predicate["claims"].append(theorem_claim())
        found.predicate["assumptions"].append("A18")
        result = found.state().check()
        assert not result.rejected
        assert result.derived == "BOUNDED_BY_THEOREM"


def test_two_bounds_are_one_too_many() -> None:
    """Two releases, each within the stated guarantee, of which both together are not."""
    for planned in (True, False):
        found = certified()
        found.predicate["claims"].append(theorem_claim(id="c-second", planned=planned))
        (refused,) = found.check().rejected
        assert refused.id == "c-second"
        assert "expected one claim of its kind" in refused.detail


def test_the_assumption_about_the_program_must_be_stated() -> None:
    found = certified()
    found.predicate["assumptions"].remove("A18")
    (refused,) = found.check().rejected
    assert "rests on A18" in refused.detail


def test_a_constant_that_the_plan_contradicts_is_refused() -> None:
    def said(parameters: Json) -> Callable[[Json], None]:
        return lambda plan: plan["subjects"][0].update(parameters=parameters)

    for parameters, fine in (
        ({"sigma": "1"}, True),
        ({"sigma": "1.0", "steps": 3}, True),
        ({"sigma": 1}, True),
        ({"sigma": "1e0"}, True),
        ({"sigma": "auto"}, True),  # no number: it says nothing against the constant
        ({"sigma": "0.5"}, False),
        ({"sigma": "5e-1"}, False),
        ({"sensitivity": 2}, False),
    ):
        rejected = certified(Knobs(edit_plan=said(parameters))).check().rejected
        assert (not rejected) is fine, parameters
        assert fine or "the plan's parameters of the method say" in rejected[0].detail


def test_it_stands_in_the_basis_or_the_verdict_is_refused() -> None:
    found = certified().state()
    found.predicate["verdict"]["basis"].remove("c-theorem")
    with pytest.raises(Rejected, match="the bounds that decide"):
        found.check()
