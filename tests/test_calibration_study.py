"""The simulation study of ``benchmarks/calibration``: it covers every test, it can fail, and its page is its own.

The study runs in its small form, and in full with CU_CERT_SLOW=1.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise, product
from math import e, exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from scipy import stats

import cu_attacks
from benchmarks.calibration import __main__ as command
from benchmarks.calibration import _artifacts, _laws, _report, _slots
from benchmarks.calibration._study import (
    ALPHA,
    LEAST_RUNS,
    REMEMBERED,
    SHRINK,
    Case,
    Curve,
    Row,
    generator,
    remembered,
    run_case,
    size_of,
)
from cu_attacks import coinflip as coinflip_module
from cu_attacks._combined import fit_combined
from cu_attacks.coinflip import coinflip
from cu_attacks.sequential import sequential
from cu_certificates.check.betting import LAMBDAS
from cu_certificates.check.coins import right_guesses

PAGE = Path(__file__).resolve().parent.parent / "docs" / "calibration.md"
CASES, CURVES = command.study()


def case(trial: Callable[[np.random.Generator], bool], **changes: Any) -> Case:
    fields: dict[str, Any] = {"runs": 4000, "level": 0.05} | changes
    return Case(name="a/b/c", test="a", statement="s", setting="w", trial=trial, **fields)


def row(rejections: int, *, runs: int = 4000, exact: float | None = None, level: float = 0.05) -> Row:
    return Row(case=case(lambda rng: False, exact=exact, level=level), runs=runs, rejections=rejections, seconds=0.0)


# --- The study -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study() -> dict[str, Any]:
    return command.run(small=not SLOW)


@pytest.mark.slow
def test_every_row_is_ok(study: dict[str, Any]) -> None:
    assert study["notOk"] == []
    assert len(study["rows"]) == len(CASES)
    assert study["audits"] > (1_000_000 if SLOW else 8_000)


@pytest.mark.slow
def test_power_rises_from_the_level_to_certainty(study: dict[str, Any]) -> None:
    assert len(study["power"]) == len(CURVES)
    for curve in study["power"]:
        rates = [point["rate"] for point in curve["points"]]
        assert rates[0] * curve["runs"] <= stats.binom.ppf(0.999, curve["runs"], 0.05), curve["name"]
        assert rates[-1] >= 0.75, curve["name"]
        if SLOW:
            assert all(later >= earlier - 0.05 for earlier, later in pairwise(rates))


def test_every_question_and_test_has_rows_under_the_null_and_power() -> None:
    levels = {name for name in cu_attacks.names() if cu_attacks.get(name).kind in ("question", "test")}
    assert levels <= {one.test for one in CASES}
    assert levels <= {curve.test for curve in CURVES}
    assert {f"control of {name}" for name in ("coinflip", "sequential", "conformal", "onerun", "labels", "pools")} <= {
        one.test for one in CASES
    }


def test_names_are_unique_and_say_the_test() -> None:
    names = [one.name for one in CASES] + [curve.name for curve in CURVES]
    assert len(set(names)) == len(names)
    assert all(one.name.startswith(f"{one.test}/") for one in CASES)
    assert all(curve.name.startswith(f"power/{curve.test}/") for curve in CURVES)


def test_a_row_repeated_alone_gives_the_same_count_and_another_seed_another() -> None:
    name = "control of coinflip/dependent/16"
    alone = command.run([name], small=True)["rows"]
    among = command.run(["control of coinflip/*"], small=True)["rows"]
    assert [found["name"] for found in alone] == [name]
    assert alone[0]["rejections"] == next(found for found in among if found["name"] == name)["rejections"]
    draws = [generator(seed, name).random() for seed in ("a", "a", "b")]
    assert draws[0] == draws[1] != draws[2]
    assert generator("a", "x").random() != generator("a", "y").random()


# --- It can fail -----------------------------------------------------------------------------------------------------


def test_a_row_is_held_to_the_binomial_at_999_of_1000() -> None:
    allowed = next(k for k in range(4001) if stats.binom.cdf(k, 4000, 0.05) >= 0.999)
    assert row(allowed).ok
    assert not row(allowed + 1).ok
    assert row(allowed).limit == allowed / 4000
    assert row(0).ok
    assert not row(0, exact=0.05).ok, "a simulation that rejects too seldom"
    assert row(200, exact=0.05).ok


def test_a_case_is_checked() -> None:
    for changes in ({"level": 0.0}, {"level": 1.0}, {"runs": LEAST_RUNS - 1}, {"exact": 0.06}, {"exact": -0.1}):
        with pytest.raises(ValueError, match="a/b/c"):
            case(lambda rng: False, **changes)


def fitted_on_the_judged(rng: np.random.Generator) -> bool:
    coins, signals = rng.integers(0, 2, 32), _laws.SIGNALS["independent"](rng, 32, 60)
    score = fit_combined(signals[coins == 1], signals[coins == 0], signals[coins == 0])
    return coinflip(score(signals), coins.tolist(), alpha=ALPHA).bound > 0


def judged_on_arrival(rng: np.random.Generator) -> bool:
    """Retrained models finish first, and a slot is guessed by when it came."""
    coins = np.sort(rng.integers(0, 2, 64)).tolist()
    return sequential([int(slot >= 32) for slot in range(64)], coins, alpha=ALPHA).bound > 0


@pytest.mark.parametrize("trial", [fitted_on_the_judged, judged_on_arrival])
def test_known_mistakes_are_caught(trial: Callable[[np.random.Generator], bool]) -> None:
    with remembered():
        assert not run_case(case(trial), seed="s", small=True).ok


def test_the_command_ends_with_1_when_a_row_is_not_ok(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = case(lambda rng: False), replace(case(lambda rng: True), name="a/bad")
    monkeypatch.setattr(command, "study", lambda: ((good, bad), ()))
    assert command.main(["--small"]) == 1
    assert "NOT OK a/bad: 16 of 16" in capsys.readouterr().out
    assert command.main(["--small", "--only", "a/b/*"]) == 0
    assert "all 1 rows ok" in capsys.readouterr().out


# --- Closed forms ----------------------------------------------------------------------------------------------------


def test_golden_chances() -> None:
    found = {one.name: one.exact for one in CASES}
    assert found["coinflip/retrain/64"] == pytest.approx(stats.binom.sf(30, 48, 0.5))  # 31 of 48, audit.md section 7
    assert found["coinflip/quarter of alpha/64"] == pytest.approx(stats.binom.sf(32, 48, 0.5))
    assert found["control of coinflip/dependent/64"] == pytest.approx(stats.binom.sf(32, 48, 0.5))
    assert found["conformal/retrain/99"] == 0.04
    assert found["control of conformal/dependent/99, 8"] == pytest.approx(stats.betabinom.sf(2, 8, 5, 95))
    right = next(v for v in range(33) if stats.binom.sf(v - 1, 32, 1 / (1 + exp(-1))) <= 0.05)
    assert found["coinflip/response/128"] == pytest.approx(stats.binom.sf(right - 1, 32, 1 / (1 + exp(-1))), rel=1e-3)


@pytest.mark.parametrize(("chance", "eps", "slots"), [(0.5, 0.0, 11), (0.9, 1.0, 10), (0.3, 0.0, 8)])
def test_the_chance_of_ever_being_refuted_is_that_of_all_sequences(chance: float, eps: float, slots: int) -> None:
    total = 0.0
    for wins in product((True, False), repeat=slots):
        parts, ever = np.ones(len(LAMBDAS)), False
        for won in wins:
            parts *= [1 + float(stake) * exp(-eps) if won else 1 - float(stake) for stake in LAMBDAS]
            ever = ever or parts.mean() >= 4
        total += ever * chance ** sum(wins) * (1 - chance) ** (slots - sum(wins))
    assert _slots.ever_refuted(chance, eps, slots, alpha=0.25) == pytest.approx(total)


def test_the_most_telling_of_2_or_3_is_within_a_factor_e_and_meets_it() -> None:
    shares = np.linspace(0, 1, 1001)[1:]
    found = np.array([_laws.best_chance(share) for share in shares])
    assert (np.diff(np.append(0.0, found)) <= e * np.diff(np.append(0.0, shares)) + 1e-12).all()
    assert found[0] / shares[0] == pytest.approx(e, rel=2e-3)
    assert found[-1] == pytest.approx(1)
    rng = np.random.default_rng(0)
    assert np.mean([_laws.best_of(rng) for _ in range(20_000)]) == pytest.approx(e, abs=0.015)


@pytest.mark.parametrize(("pair", "eps"), [(_laws.LAPLACE, 1.0), (_laws.LAPLACE_TIED, 1.0), (_laws.RESPONSE, 1.0)])
def test_pairs_are_at_their_distance(pair: _laws.Pair, eps: float) -> None:
    """Each half-line of scores: neither share exceeds e^eps times the other, and some event comes near it."""
    rng, bits = np.random.default_rng(1), np.arange(80_000) % 2
    scores = np.array(pair.draw(rng, bits), dtype=np.float64)
    ratios = []
    for cut in np.quantile(scores, np.linspace(0.02, 0.98, 25)):
        for event in (scores >= cut, scores <= cut):
            shares = [event[bits == side].mean() for side in (0, 1)]
            if min(shares) > 0.01:
                ratios.append(abs(float(np.log(shares[1] / shares[0]))))
    assert max(ratios) <= eps + 0.12
    assert max(ratios) >= eps - 0.12
    assert pair.eps == eps


def test_signals_have_the_dependence_and_ties_that_they_are_called_by() -> None:
    rng = np.random.default_rng(2)
    for law, rho in (("independent", 0.0), ("dependent", 0.5)):
        signals = _laws.SIGNALS[law](rng, 20_000, 3)
        assert np.corrcoef(signals.T)[0, 1:] == pytest.approx([rho, rho], abs=0.03)
        assert signals.std(axis=0) == pytest.approx(np.ones(3), abs=0.03)
    assert set(np.unique(_laws.SIGNALS["two levels"](rng, 50, 4))) == {0.0, 1.0}
    assert (_laws.SIGNALS["constant records"](rng, 50, 4).std(axis=0) == 0).tolist() == [True, True, False, False]
    assert len(np.unique(_laws.SCORES["all equal"](rng, 9))) == 1


def test_the_rank_of_the_most_telling_model_by_simulation() -> None:
    pair, rng, references = _laws.BEST, np.random.default_rng(3), 99
    bits = np.arange(references + 1) == 0
    ranks = []
    for _ in range(3000):
        first, *others = pair.draw(rng, bits.astype(np.int64))
        ranks.append(1 + sum((other or 0) >= (first or 0) for other in others))
    expected = next(one.exact for one in _artifacts.conformals() if one.name == f"conformal/best of e/{references}")
    assert expected is not None
    assert np.mean(np.array(ranks) <= 1) == pytest.approx(expected, abs=0.01)


# --- What the study leaves as it was ---------------------------------------------------------------------------------


def test_remembered_tails_are_the_same_and_forgotten_afterwards() -> None:
    rng, before = np.random.default_rng(4), coinflip_module.coinflip_bound
    coins = rng.integers(0, 2, 32).tolist()
    scores = [coin if rng.random() < 0.9 else 1 - coin for coin in coins]
    plain = coinflip(scores, coins, alpha=ALPHA)
    with remembered():
        assert coinflip_module.coinflip_bound is not before
        assert coinflip(scores, coins, alpha=ALPHA) == coinflip(scores, coins, alpha=ALPHA) == plain
    assert coinflip_module.coinflip_bound is before
    with pytest.raises(RuntimeError), remembered():
        raise RuntimeError
    assert coinflip_module.coinflip_bound is before
    assert plain.right == right_guesses(coins, scores, plain.guesses)
    assert all(calls for calls in REMEMBERED.values())


def test_the_small_form_is_smaller() -> None:
    assert size_of(4000, small=True) == 4000 // SHRINK
    assert size_of(LEAST_RUNS, small=True) == LEAST_RUNS
    assert size_of(4000, small=False) == 4000


# --- JSON, text and page ---------------------------------------------------------------------------------------------


@pytest.fixture
def small_study() -> dict[str, Any]:
    return command.run(["coinflip/retrain/8", "power/conformal/99"], small=True)


def test_the_json_holds_each_number(small_study: dict[str, Any]) -> None:
    found = json.loads(_report.to_json(small_study))
    assert found == small_study
    (only,) = found["rows"]
    assert set(only) == {
        "name", "test", "statement", "setting", "basis", "runs", "rejections", "rate", "level", "limit", "exact", "ok",
        "seconds",
    }  # fmt: skip
    assert only["rate"] == only["rejections"] / only["runs"]
    assert [point["effect"] for point in found["power"][0]["points"]] == [0, 1, 1.5, 2, 2.5, 3, 4]
    assert found["form"] == "small"
    assert {"python", "cores"} <= set(found["machine"])


def test_one_command_makes_the_tables_of_a_page_from_the_json(
    small_study: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, source = tmp_path / "page.md", tmp_path / "study.json"
    page.write_text(f"before\n{_report.BEGIN}\nold\n{_report.END}\nafter\n", encoding="utf-8")
    source.write_text(_report.to_json(small_study), encoding="utf-8")
    for _ in range(2):
        assert command.main(["--from", str(source), "--markdown", str(page), "--json"]) == 0
        written = page.read_text(encoding="utf-8")
        assert json.loads(capsys.readouterr().out) == small_study
    assert written.startswith("before\n")
    assert written.endswith(f"{_report.END}\nafter\n")
    assert "old" not in written
    assert "| `coinflip/retrain/8` |" in written
    assert "| `conformal` | one model, 99 references" in written


def test_the_page_in_docs_holds_every_row_of_the_study() -> None:
    text = PAGE.read_text(encoding="utf-8")
    details = re.findall(r"^\| `([^`]+/[^`]+)` \|(.*)\|$", text, re.MULTILINE)
    assert [name for name, _ in details] == [one.name for one in CASES], "python -m benchmarks.calibration --markdown"
    for (_, cells), one in zip(details, CASES, strict=True):
        setting, statement, runs, count, *_, verdict = (cell.strip() for cell in cells.split("|"))
        assert (setting, statement, int(runs)) == (one.setting, one.statement, one.runs)
        made = Row(case=one, runs=int(runs), rejections=int(count), seconds=0.0)
        assert made.ok == (verdict == "ok"), one.name
    assert "full form" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "nothing/like/it"], "--only nothing/like/it: no row is called so"),
        (["--from", "{folder}/absent.json"], "expected what --json prints"),
        (["--from", "{folder}/other.json"], "not of schema cu-cert-calibration/1"),
        (["--small", "--only", "coinflip/retrain/8", "--markdown", "{folder}/other.json"], "the page lacks"),
        (["--small", "--only", "coinflip/retrain/8", "--markdown", "{folder}/absent.md"], "No such file"),
    ],
)
def test_bad_arguments_are_named(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.json").write_text('{"schema": "another"}', encoding="utf-8")
    assert command.main([one.format(folder=tmp_path) for one in arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_curve_names_what_it_measures() -> None:
    for curve in CURVES:
        assert isinstance(curve, Curve)
        assert list(curve.points) == sorted(curve.points)
        assert curve.points[0] in (0, 0.5), "no leak at all"
        assert curve.effect
