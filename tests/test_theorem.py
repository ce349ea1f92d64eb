"""Bounds from theorems: the arithmetic by other routes, the certificate that rests on one, and who would cheat."""

import math
from datetime import UTC, datetime
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from fake_certificate import Fake, fake
from fake_evidence import CLEAN, LEAK, Json, Knobs
from fake_theorem import ASSUMPTIONS, DELTA, POLICY, certified, hand_on, per_record, theorem_claim, up
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_attacks._extrapolations import gaussian_eps
from cu_certificates.check.fields import Node
from cu_certificates.check.main import accepted
from cu_certificates.check.strict import Rejected
from cu_certificates.check.tails import STEP
from cu_certificates.check.theorems import THEOREMS, upper_eps
from cu_certificates.errors import UsageError
from cu_certificates.gate import run_gate
from cu_certificates.keys import generate_key, load_private_key, public_path_of
from cu_certificates.policy import load_policy
from cu_certificates.theorem import Assumption, dp_bound_claim, proven_eps
from cu_certificates.trust import load_trust, write_trust
from cu_certificates.verify import verify

EXAMPLES = settings(deadline=None, max_examples=20, derandomize=True)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def constants(**found: Any) -> Node:
    return Node(found, "constants")


# --- The arithmetic --------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.integers(1, 300), st.integers(1, 60), st.sampled_from(["1/10", "1/1000", "1/1000000"]), st.integers(1, 4))
def test_the_gaussian_mechanism_is_the_smallest_step_above_the_curve(
    sensitivity: int, sigma: int, delta: str, records: int
) -> None:
    mu = records * sensitivity / 100 / sigma
    if mu > 15:
        return
    truth = gaussian_eps(mu, float(Fraction(delta)))
    node = constants(sensitivity=f"{sensitivity}/100", sigma=str(sigma))
    found = upper_eps("gaussian", node, records, Fraction(delta))
    assert truth - 1e-7 <= float(found) <= truth + 1e-4 + 1e-7


@EXAMPLES
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(1, 3))
def test_composition_adds_squares(parts: list[int], records: int) -> None:
    mu = records * math.sqrt(sum((part / 50) ** 2 for part in parts))
    truth = gaussian_eps(mu, 1e-5)
    node = constants(mu=[f"{part}/50" for part in parts])
    found = upper_eps("gaussian-composed", node, records, Fraction(1, 100_000))
    assert truth - 1e-7 <= float(found) <= truth + 1e-4 + 1e-7


def test_a_composition_of_one_is_the_mechanism_itself_and_three_four_is_five() -> None:
    delta = Fraction(1, 1000)
    alone = upper_eps("gaussian", constants(sensitivity="1/2", sigma="1"), 1, delta)
    for mu in (["1/2"], ["3/10", "4/10"], ["0.3", "0.4"], ["1/4"] * 4):
        assert upper_eps("gaussian-composed", constants(mu=mu), 1, delta) == alone


@EXAMPLES
@given(st.integers(1, 500), st.sampled_from(["1/10", "1/1000", "1/1000000"]), st.integers(1, 4))
def test_concentrated_privacy_is_the_printed_formula(rho: int, delta: str, records: int) -> None:
    whole = records**2 * rho / 1000
    truth = whole + 2 * math.sqrt(whole * math.log(1 / Fraction(delta)))
    found = upper_eps("zcdp", constants(rho=f"{rho}/1000"), records, Fraction(delta))
    assert truth - 1e-9 <= float(found) <= truth + 1e-4 + 1e-9


@pytest.mark.parametrize(("rho", "exact", "loose"), [("1/10", 1.76, 2.25), ("1/2", 4.38, 5.30), ("1", 6.57, 7.79)])
def test_golden_concentrated_and_gaussian(rho: str, exact: float, loose: float) -> None:
    """The Gaussian curve at mu = sqrt(2 rho) is tighter than the bound from rho alone."""
    delta, square = Fraction(1, 100_000), 2 * Fraction(rho)
    mu = Fraction(math.isqrt(square.numerator * 10**24 * square.denominator) + 1, 10**12 * square.denominator)
    assert float(upper_eps("zcdp", constants(rho=rho), 1, delta)) == pytest.approx(loose, abs=6e-3)
    node = constants(mu=[f"{math.ceil(mu * 10**9)}/{10**9}"])
    assert float(upper_eps("gaussian-composed", node, 1, delta)) == pytest.approx(exact, abs=6e-3)


@EXAMPLES
@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(1, 50))
def test_the_laplace_mechanism_is_rounded_up(sensitivity: int, scale: int, records: int) -> None:
    truth = Fraction(records * sensitivity, scale)
    node = constants(sensitivity=str(sensitivity), scale=str(scale))
    if truth > 1000:
        with pytest.raises(Rejected, match="no eps up to 1000"):
            upper_eps("laplace", node, records, Fraction(0))
        return
    found = upper_eps("laplace", node, records, Fraction(0))
    assert truth <= found < truth + STEP


def test_more_records_never_help() -> None:
    delta = Fraction(1, 1000)
    for name, node in (
        ("gaussian", constants(sensitivity="1/50", sigma="1")),
        ("gaussian-composed", constants(mu=["1/50", "1/70"])),
        ("zcdp", constants(rho="1/5000")),
        ("laplace", constants(sensitivity="1/50", scale="1")),
    ):
        found = [upper_eps(name, node, k, Fraction(0) if name == "laplace" else delta) for k in (1, 2, 5, 20)]
        assert found == sorted(set(found))


OUT_OF_RANGE: list[tuple[str, dict[str, Any], str, str]] = [
    ("gaussian", {"sensitivity": "-1", "sigma": "1"}, DELTA, "expected a decimal or fraction"),
    ("gaussian", {"sensitivity": "0", "sigma": "1"}, DELTA, "expected a number above 0"),
    ("gaussian", {"sensitivity": "1", "sigma": "0"}, DELTA, "expected a number above 0"),
    ("gaussian", {"sensitivity": "1e3", "sigma": "1"}, DELTA, "expected a decimal or fraction"),
    ("gaussian", {"sensitivity": 1, "sigma": "1"}, DELTA, "expected a decimal or fraction"),
    ("gaussian", {"sensitivity": "9" * 19, "sigma": "1"}, DELTA, "expected a decimal or fraction"),
    ("gaussian", {"sensitivity": "999999999999999999", "sigma": "1/999999999999999999"}, DELTA, "no eps up to 1000"),
    ("gaussian", {"sensitivity": "1", "sigma": "1"}, "0", "strictly between 0 and 1"),
    ("gaussian", {"sensitivity": "1", "sigma": "1"}, "1", "strictly between 0 and 1"),
    ("gaussian-composed", {"mu": []}, DELTA, "0 releases"),
    ("gaussian-composed", {"mu": ["1"] * 1001}, DELTA, "1001 releases"),
    ("gaussian-composed", {"mu": ["1", "0"]}, DELTA, "expected numbers above 0"),
    ("gaussian-composed", {"mu": ["1", "-1"]}, DELTA, "expected a decimal or fraction"),
    ("gaussian-composed", {"mu": "1"}, DELTA, "expected a list"),
    ("zcdp", {"rho": "0"}, DELTA, "expected a number above 0"),
    ("zcdp", {"rho": "999999999999999999"}, DELTA, "no eps up to 1000"),
    ("laplace", {"sensitivity": "1", "scale": "1"}, DELTA, "about delta 0"),
]


@pytest.mark.parametrize(("name", "found", "delta", "message"), OUT_OF_RANGE)
def test_constants_out_of_range_are_refused(name: str, found: dict[str, Any], delta: str, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        upper_eps(name, Node(found, "constants"), 1, Fraction(delta))


def test_a_thousand_long_fractions_take_no_time() -> None:
    """Each has its own denominator of 18 digits; added as fractions they would grow to thousands of digits."""
    mu = [f"1/{10**17 + 2 * number + 1}" for number in range(1000)]
    assert upper_eps("gaussian-composed", constants(mu=mu), 1, Fraction(1, 1000)) == 0


# --- The certificate -------------------------------------------------------------------------------------------------


@cache
def base() -> Fake:
    return certified().state()


def signed(found: Fake, folder: Path) -> tuple[Path, Path, Path]:
    """Write a certificate, a trust file and a policy; returns the three."""
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "key.pem"
    generate_key(key, passphrase=None)
    handed = hand_on(found, folder / "out", load_private_key(key))
    trust, policy = folder / "trust.toml", folder / "cu-cert.toml"
    write_trust(trust, public_path_of(key), not_before=datetime(2026, 1, 1, tzinfo=UTC))
    policy.write_text(POLICY)
    return handed.bundle, trust, policy


def test_a_theorem_carries_the_verdict_and_the_gate_lets_it_through(tmp_path: Path) -> None:
    bundle, trust, policy = signed(base().copy(), tmp_path)
    found = verify(bundle, trust=load_trust(trust), model=bundle.parent / "model.pt", now=NOW)
    assert found.verdict == found.check.stated == "BOUNDED_BY_THEOREM"
    claim = next(claim for claim in found.check.claims if claim.type == "dp-bound")
    assert claim.status == "assumed"
    assert "a sampler that nobody examined" in claim.detail
    assert "eps <= 0.2760 at delta 1/10000" in found.check.reasons[0]
    report = run_gate(bundle, policy=load_policy(policy), trust=trust, model=bundle.parent / "model.pt", now=NOW)
    assert report.exit_code == 0


def test_a_measured_bound_above_the_stated_guarantee_refutes_it_all_the_same(tmp_path: Path) -> None:
    found = certified(Knobs(means=LEAK)).state()
    bundle, trust, policy = signed(found, tmp_path)
    checked = verify(bundle, trust=load_trust(trust), now=NOW)
    assert checked.verdict == "REFUTED"
    assert not checked.check.rejected  # the theorem's arithmetic is as right as before; its assumptions are not
    report = run_gate(bundle, policy=load_policy(policy), trust=trust, model=bundle.parent / "model.pt", now=NOW)
    assert report.exit_code == 1


def test_what_the_audit_did_not_see_stands_beside_the_theorem() -> None:
    found = certified(Knobs(means=CLEAN | {"original": 1.0})).state()
    result = found.check()
    assert accepted(result)
    assert result.derived == "BOUNDED_BY_THEOREM"
    assert any(reason.startswith("beside it: procedure: its positive control") for reason in result.reasons)


def test_without_its_theorem_the_same_certificate_is_only_not_refuted() -> None:
    found = base().copy()
    found.drop("c-theorem")
    assert found.state().check().derived == "NOT_REFUTED"
    found = base().copy()
    found.drop("c-theorem")
    found.predicate["verdict"]["basis"].remove("c-theorem")
    result = found.check()
    assert (result.stated, result.derived) == ("BOUNDED_BY_THEOREM", "NOT_REFUTED")
    assert not accepted(result)


def test_a_verified_sampler_is_only_said_to_be_one() -> None:
    for sampler, words in (("opendp", "said to come from OpenDP"), ("sampcert", "said to come from SampCert")):
        result = certified(sampler=sampler).state().check()
        assert accepted(result)
        assert words in next(claim.detail for claim in result.claims if claim.type == "dp-bound")


@pytest.mark.parametrize("records", [5, 6])
def test_a_guarantee_for_one_record_counts_once_for_each(records: int) -> None:
    assert accepted(certified(**per_record(records)).state().check())


OTHERS: list[tuple[str, Json]] = [
    ("composed", {
        "theorem": "gaussian-composed",
        "constants": {"mu": ["3/50", "4/50"], "unit": "request"},
        "assumptions": [*ASSUMPTIONS, {"id": "mechanisms", "kind": "assumed"}],
    }),
    ("concentrated", {
        "theorem": "zcdp",
        "constants": {"rho": "1/1000", "unit": "request"},
        "eps": up(0.001 + 2 * math.sqrt(0.001 * math.log(10_000))),
        "assumptions": [*ASSUMPTIONS, {"id": "accounting", "kind": "assumed"}],
    }),
    ("laplace", {
        "theorem": "laplace",
        "constants": {"sensitivity": "1/3", "scale": "1", "unit": "request"},
        "eps": "0.3334",
        "delta": "0",
    }),
]  # fmt: skip


@pytest.mark.parametrize("changes", [changes for _, changes in OTHERS], ids=[name for name, _ in OTHERS])
def test_the_other_theorems_carry_a_verdict_too(changes: Json) -> None:
    if changes["theorem"] == "gaussian-composed":
        changes = changes | {"eps": up(gaussian_eps(0.1, float(Fraction(DELTA))))}
    result = certified(**changes).state().check()
    assert not result.rejected
    assert result.derived == "BOUNDED_BY_THEOREM"


def test_a_bound_beside_a_method_that_states_nothing_informs() -> None:
    found = fake(Knobs())
    found.predicate["claims"].append(theorem_claim(planned=False))
    found.predicate["assumptions"].append("A18")
    result = found.state().check()
    assert accepted(result)
    assert result.derived == "NOT_REFUTED"
    for loose in ({"eps": "0.2761"}, {"planned": True}):
        found = fake(Knobs())
        found.predicate["claims"].append(theorem_claim(**{"planned": False, **loose}))
        found.predicate["assumptions"].append("A18")
        assert found.check().rejected


# --- The builder -----------------------------------------------------------------------------------------------------

RESTS = [Assumption(id=name, kind="assumed") for name in ("sensitivity", "noise", "release")]


def test_the_builder_writes_what_the_checker_accepts() -> None:
    built = dp_bound_claim(
        "gaussian",
        {"sensitivity": Fraction(1, 50), "sigma": 1},
        delta=Fraction(DELTA),
        sampler="float",
        assumptions=[*RESTS, Assumption(id="convexity", kind="enforced", text="strongly convex")],
        records=5,
    )
    found = certified()
    found.drop("c-theorem")
    found.predicate["claims"].append(built)
    result = found.state().check()
    assert accepted(result)
    assert result.derived == "BOUNDED_BY_THEOREM"
    assert built["eps"] == up(gaussian_eps(0.1, float(Fraction(DELTA))))
    assert Fraction(str(built["eps"])) == proven_eps(
        "gaussian", {"sensitivity": Fraction(1, 50), "sigma": 1}, delta=Fraction(DELTA), records=5
    )


@EXAMPLES
@given(st.floats(1e-9, 3), st.floats(0.3, 1e6))
def test_rounding_a_constant_never_strengthens_the_bound(sensitivity: float, sigma: float) -> None:
    delta = Fraction(1, 1000)
    built = dp_bound_claim(
        "gaussian",
        {"sensitivity": sensitivity, "sigma": sigma},
        delta=delta,
        sampler="float",
        assumptions=RESTS,
        certified=False,
    )
    written = built["constants"]
    assert isinstance(written, dict)
    assert Fraction(written["sensitivity"]) >= Fraction(sensitivity)
    assert Fraction(written["sigma"]) <= Fraction(sigma)
    assert (
        Fraction(str(built["eps"])) >= gaussian_eps(sensitivity / sigma, 1e-3) - 1e-7 if sensitivity / sigma < 9 else 1
    )


@pytest.mark.parametrize(
    ("theorem", "found", "options", "message"),
    [
        ("folklore", {}, {}, "expected gaussian,"),
        ("gaussian", {"sensitivity": 1}, {}, "takes sensitivity, sigma"),
        ("gaussian", {"sensitivity": -1, "sigma": 1}, {}, "expected a number above 0"),
        ("gaussian", {"sensitivity": float("nan"), "sigma": 1}, {}, "expected a number above 0"),
        ("gaussian", {"sensitivity": float("inf"), "sigma": 1}, {}, "expected a number above 0"),
        ("gaussian", {"sensitivity": 1, "sigma": 1e-30}, {}, "expected at least 10"),
        ("gaussian", {"sensitivity": 1, "sigma": 1}, {"records": 0}, "0 records"),
        ("gaussian", {"sensitivity": 1, "sigma": 1}, {"delta": Fraction(0)}, "strictly between"),
        ("gaussian", {"sensitivity": 10**6, "sigma": 1}, {}, "no eps up to 1000"),
        ("gaussian", {"sensitivity": 1, "sigma": 1}, {"sampler": "quantum"}, "sampler 'quantum'"),
        ("gaussian", {"sensitivity": 1, "sigma": 1}, {"assumptions": RESTS[:2]}, "rests on release"),
    ],
)
def test_the_builder_refuses(theorem: str, found: Any, options: dict[str, Any], message: str) -> None:
    known: dict[str, Any] = {"delta": Fraction(DELTA), "sampler": "float", "assumptions": RESTS}
    with pytest.raises(UsageError, match=message):
        dp_bound_claim(theorem, found, **(known | options))


def test_every_theorem_has_a_claim_that_is_accepted_somewhere_above() -> None:
    assert set(THEOREMS) == {"gaussian", *(changes["theorem"] for _, changes in OTHERS)}
