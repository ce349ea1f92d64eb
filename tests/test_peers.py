"""The comparison with other libraries: definitions, published numbers and the machinery; the peers themselves are slow.

``CU_CERT_PEERS`` names a folder of environments (``benchmarks.peers --install``) for the one test that needs them.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks import _peers_attacks, _peers_compare, _peers_environments, _peers_race, _peers_vectors, peers
from benchmarks import _peers_definitions as definitions
from benchmarks._peers_bayes import CASE, bayes, interval, library_density, plain_density, posterior_mass
from benchmarks._peers_compare import Row
from benchmarks._peers_environments import PEERS, PRIVACY_METER, Answer, Environment, Peer, install, privacy_meter
from benchmarks._peers_scores import Sizes, make, outside_only, paired_masks
from cu_attacks._extrapolations import gaussian_eps, joint_beta, posterior_private
from cu_attacks._roc import area, rate_at
from cu_certificates.check.onerun import onerun_tail
from cu_certificates.check.tails import cp_lower, cp_upper

SMALL = Sizes(shadows=4, epochs=1, race_shadows=4, null_audits=3, null_canaries=20)
STEP = 1e-4
HERE = Environment(peer=PEERS[0], python=Path(sys.executable), status="installed")


@pytest.fixture(scope="module")
def arrays() -> dict[str, npt.NDArray[Any]]:
    return make(SMALL)


@pytest.fixture(scope="module")
def file(arrays: dict[str, npt.NDArray[Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peers") / "scores.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


# --- Definitions ------------------------------------------------------------------------------------------------------


def points(inside: list[float], outside: list[float]) -> definitions.Points:
    return definitions.roc_counts(inside + outside, [True] * len(inside) + [False] * len(outside))


def test_hull_area_and_rate_of_jax_privacys_own_examples() -> None:
    assert definitions.area(definitions.hull(points([0, 4, 6, 7], [1, 2, 3, 5]))) == 13 / 16
    curve = definitions.hull(points([1, 3], [0, 2]))
    rates = [definitions.interpolated_rate(curve, rate) for rate in (0, 0.25, 0.5, 0.75, 1)]
    assert rates == [0.5, 0.75, 1, 1, 1]
    shifted = definitions.hull(points([k + 9.5 for k in range(100)], [float(k) for k in range(100)]))
    assert definitions.interpolated_rate(shifted, 0.01) == pytest.approx(0.11, abs=0.005)
    assert definitions.area(shifted) == pytest.approx(0.595)


def test_worst_and_tied_scores_have_the_hull_of_a_coin() -> None:
    for curve in (points([0.0] * 3, [1.0] * 5), points([2.0] * 3, [2.0] * 5)):
        assert definitions.hull(curve).tolist() == [[0, 0], [5, 3]]
        assert definitions.interpolated_rate(definitions.hull(curve), 0.3) == pytest.approx(0.3)


SCORES = st.lists(st.integers(0, 6), min_size=4, max_size=40)


@given(scores=SCORES, data=st.data(), rate=st.floats(0, 1))
@settings(max_examples=150, deadline=None)
def test_definitions_agree_with_ours_and_scikit_learn_and_are_ordered(
    scores: list[int], data: st.DataObject, rate: float
) -> None:
    member = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    member[:4] = [True, True, False, False]
    values = np.array(scores, dtype=np.float64)
    curve = definitions.roc_counts(values, member)
    assert definitions.area(curve) == pytest.approx(area(values, member, name="AUC").value)
    assert definitions.area(curve) == pytest.approx(roc_auc_score(member, values))
    assert definitions.step_rate(curve, rate) == rate_at(values, member, false_rate=rate, name="TPR").value
    false, true, _ = roc_curve(member, values, drop_intermediate=False)
    assert definitions.interpolated_rate(curve, rate) == pytest.approx(np.interp(rate, false, true), abs=1e-6) or (
        rate in false
    )
    hull = definitions.hull(curve)
    assert definitions.area(hull) >= definitions.area(curve) - 1e-12
    steps = definitions.step_rate(curve, rate)
    lines = definitions.interpolated_rate(curve, rate)
    assert steps <= lines + 1e-9 <= definitions.interpolated_rate(hull, rate) + 2e-9


def test_the_hull_lies_above_every_point_and_is_concave() -> None:
    rng = np.random.default_rng(5)
    member = rng.random(60) < 0.5
    curve = definitions.roc_counts(np.round(rng.normal(size=60) + member, 1), member)
    corners = definitions.hull(curve).tolist()
    slopes = [
        np.inf if right[0] == left[0] else (right[1] - left[1]) / (right[0] - left[0])
        for left, right in pairwise(corners)
    ]
    assert all(first > second for first, second in pairwise(slopes))
    for x, y in curve.tolist():
        assert y <= np.interp(x, *np.array(corners[1:] if corners[1][0] == 0 else corners).T) + 1e-9


# --- Published numbers ------------------------------------------------------------------------------------------------


def test_ours_reproduces_the_published_clopper_pearson_intervals() -> None:
    for hits, (low, high) in _peers_vectors.INTERVALS.items():
        assert 0 <= low - float(cp_lower(10, hits, Fraction(1, 40))) < STEP
        assert 0 <= float(cp_upper(10, hits, Fraction(1, 40))) - high < STEP
    for (hits, trials, alpha), end in _peers_vectors.UPPER.items():
        assert 0 <= float(cp_upper(trials, hits, alpha)) - end < STEP


def test_ours_reproduces_the_published_one_run_numbers() -> None:
    for case, published in _peers_vectors.ONE_RUN_P.items():
        low, high = onerun_tail(*case)
        assert float(low) <= published + 5e-11
        assert float(high) == pytest.approx(published, abs=5e-11)
        assert _peers_vectors.one_run_p(case) == float(high)
    for bound, published in _peers_vectors.ONE_RUN_EPS.items():
        assert 0 <= published - _peers_vectors.one_run_eps(bound) <= STEP + 1e-12


@pytest.mark.parametrize("shift", [1, 2, 4])
def test_ours_reproduces_jax_privacys_published_one_run_eps(shift: int) -> None:
    corners = _peers_vectors.normal_curve(shift).tolist()
    assert list(_peers_vectors.CLOSE_AT[shift]) in corners
    published = _peers_vectors.CLOSE[shift]
    assert -1e-5 < published - _peers_vectors.close_eps(shift) < STEP + 1e-5


def naive_one_run_p(candidates: int, guesses: int, right: int, eps: float, delta: float) -> float:
    """Steinke, Nasr and Jagielski's formula summed term by term."""
    chance = 1 / (1 + np.exp(-eps))
    tail = stats.binom.sf(right - 1, guesses, chance)
    steps = np.arange(1, right + 1)
    masses = np.cumsum(stats.binom.pmf(right - steps, guesses, chance))
    return float(min(tail + 2 * candidates * delta * (masses / steps).max(), 1))


@pytest.mark.parametrize(("guesses", "right"), [(1, 1), (10, 9), (60, 44)])
@pytest.mark.parametrize(("eps", "delta"), [(0, 0), (1, 1e-6), (0.5, 1e-3)])
def test_our_one_run_chance_is_the_formula_summed_term_by_term(
    guesses: int, right: int, eps: float, delta: float
) -> None:
    ours = onerun_tail(100, guesses, right, Fraction(eps), Fraction(delta))
    assert float(ours[1]) == pytest.approx(naive_one_run_p(100, guesses, right, eps, delta), rel=1e-9)


def test_ours_reproduces_the_published_gaussian_numbers() -> None:
    for delta, eps in _peers_vectors.GAUSSIAN.items():
        assert gaussian_eps(1.0, delta) == pytest.approx(eps, abs=1e-6)


def test_ours_reproduces_jax_privacys_published_gaussian_curve() -> None:
    assert _peers_vectors.close_fdp(4) == pytest.approx(_peers_vectors.CLOSE_FDP[4], rel=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not SLOW, reason="CU_CERT_SLOW is not 1")
def test_the_published_corner_is_the_best_of_all() -> None:
    level = 0.05 / len(_peers_vectors.normal_curve(1))
    for false, true in _peers_vectors.normal_curve(1).tolist():
        if true:
            assert naive_one_run_p(20_000, false + true, true, _peers_vectors.CLOSE[1] + 2e-5, 1e-6) > level


def test_rows_of_published_numbers_name_what_a_peer_gets_wrong() -> None:
    told = {
        "dp-accounting": {"gaussian": list(_peers_vectors.GAUSSIAN.values())},
        "statsmodels": {
            "two-sided": list(_peers_vectors.INTERVALS.values()),
            "upper": list(_peers_vectors.UPPER.values()),
        },
    }
    assert [row.agrees for row in _peers_vectors.rows(told)] == [True] * 10
    told["dp-accounting"]["gaussian"] = [4.4, 1.2]
    assert [row.agrees for row in _peers_vectors.rows(told)] == [True] * 8 + [False] * 2


# --- Rows -------------------------------------------------------------------------------------------------------------


def row(**changes: Any) -> Row:
    return replace(Row(peer="p", quantity="q", ours=1.0, theirs=1.0, expected=1.0), **changes)


def test_a_row_agrees_within_rounding_to_one_side_only() -> None:
    assert row().agrees is True
    assert row(theirs=1.0 + 1e-6).agrees is False
    assert row(theirs=1.0 + 5e-5, rounding=1e-4).agrees is True
    assert row(theirs=1.0 - 5e-5, rounding=1e-4).agrees is False
    assert row(expected=None).agrees is None


def test_rates_are_compared_by_each_peers_definition(arrays: dict[str, npt.NDArray[Any]]) -> None:
    told: dict[str, dict[str, dict[str, float]]] = {"statsmodels": {}, "jax-privacy": {}, "opake-auditing": {}}
    for key in (key for key in arrays if key.startswith("score:")):
        curve = definitions.roc_counts(arrays[key], arrays["member"])
        for peer, numbers in told.items():
            measure, _ = _peers_compare.AREAS[peer]
            rule, _ = _peers_compare.RATES[peer]
            numbers[key.removeprefix("score:")] = {"auc": measure(curve)} | {
                f"tpr@{rate}": rule(curve, rate) for rate in _peers_compare.FALSE_RATES
            }
    rows = _peers_compare.rates(arrays, told)
    assert len(rows) == 6 * 3 * 3
    assert all(found.agrees for found in rows)
    told["statsmodels"]["loss"]["auc"] += 0.01
    wrong = [found for found in _peers_compare.rates(arrays, told) if not found.agrees]
    assert [(found.peer, found.quantity) for found in wrong] == [("statsmodels", "AUC, loss")]
    assert _peers_compare.rates(arrays, {"statsmodels": None}) == []


def test_counts_at_a_threshold() -> None:
    counts = _peers_compare.count(np.array([1.0, 2.0, 3.0, 2.0]), np.array([True, True, False, False]), 2.0)
    assert (counts.true, counts.included, counts.false, counts.excluded) == (1, 2, 2, 2)
    assert (counts.candidates, counts.right) == (4, 1)


def test_null_audits_are_mostly_silent(arrays: dict[str, npt.NDArray[Any]]) -> None:
    rng = np.random.default_rng(2)
    shape = 100, 60
    many = arrays | {"null:scores": rng.normal(size=shape), "null:coins": rng.random(shape) < 0.5}
    found = _peers_compare.null(many, {"peer": {"x": {"above 0": 1.0, "mean": 2.0}}, "gone": None})
    assert set(found) == {"cu-cert", "peer"}
    for told in found["cu-cert"].values():
        assert told["above 0"] <= stats.binom.ppf(0.999, 100, 0.05) / 100


# --- Scores and attacks -----------------------------------------------------------------------------------------------


def test_every_record_is_inside_exactly_half_of_the_shadow_models() -> None:
    masks = paired_masks(6, 9, np.random.default_rng(0))
    assert masks.sum(axis=0).tolist() == [3] * 9
    margins = np.arange(54, dtype=np.float64).reshape(6, 9)
    outside = outside_only(margins, masks)
    for record in range(9):
        assert outside[:, record].tolist() == [margins[k, record] for k in range(6) if not masks[k, record]]


def test_the_scores_are_made_once_and_the_threshold_knows_no_coin(arrays: dict[str, npt.NDArray[Any]]) -> None:
    again = make(SMALL)
    assert set(again) == set(arrays)
    assert all(np.array_equal(arrays[key], again[key]) for key in arrays)
    assert arrays["shadow_mask"].shape == (4, 1397)
    assert np.array_equal(arrays["canary"], arrays["score:lira offline"])
    assert np.array_equal(arrays["coins"], arrays["member"])
    above = arrays["canary"] >= arrays["threshold"]
    assert arrays["counts"].tolist() == [
        [int((above & side).sum()), int(side.sum())] for side in (arrays["coins"], ~arrays["coins"])
    ]


@pytest.mark.parametrize(
    "changes", [{"shadows": 3}, {"shadows": 2}, {"race_shadows": 2}, {"epochs": 0}, {"null_canaries": 0}]
)
def test_bad_sizes_are_refused(changes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Sizes(**changes)


def test_privacy_meters_mean_is_of_the_larger_half(arrays: dict[str, npt.NDArray[Any]]) -> None:
    found = _peers_attacks.privacy_meter_rmia(arrays)
    mask, out = arrays["shadow_mask"], arrays["shadow_own"]
    for record in range(0, 1397, 200):
        seen = [out[k, record] for k in range(4) if not mask[k, record]]
        ratio = arrays["target_own"][record] / (0.65 * np.mean(seen) + 0.35)
        beaten = 0
        for z, p in enumerate(arrays["target_own_population"]):
            larger = sorted(arrays["shadow_own_population"][:, z])[-2:]
            beaten += ratio > p / (0.65 * np.mean(larger) + 0.35)
        assert found[record] == pytest.approx(beaten / 400)


def test_attack_rows_agree_when_the_peer_answers_as_described(arrays: dict[str, npt.NDArray[Any]]) -> None:
    told = {
        "adversarial-robustness-toolbox": {
            "rule": (arrays["target_probability"].argmax(axis=1) == arrays["y"]).astype(int),
            "shokri": _peers_attacks.art_learned(arrays),
        },
        "ml_privacy_meter": {"rmia": _peers_attacks.privacy_meter_rmia(arrays)},
    }
    rows = _peers_attacks.attacks(arrays, told)
    assert len(rows) == 6
    assert all(found.agrees for found in rows)
    told["ml_privacy_meter"]["rmia"] = -told["ml_privacy_meter"]["rmia"]
    assert [found.agrees for found in _peers_attacks.attacks(arrays, told)][4] is False


# --- The race ---------------------------------------------------------------------------------------------------------


def lap(seconds: float, scores: npt.NDArray[Any]) -> Answer:
    return Answer(result={"shokri": {"train": seconds, "attack": 1.0, "scores": scores.tolist()}})


def test_racers_run_in_turn_and_a_failure_is_told(arrays: dict[str, npt.NDArray[Any]]) -> None:
    order: list[str] = []

    def racer(name: str, answers: list[Answer]) -> Callable[[str, Path], Answer]:
        def call(task: str, source: Path) -> Answer:
            order.append(f"{name}:{task}")
            return answers.pop(0)

        return call

    scores = arrays["score:loss"]
    racers = {
        "ours": racer("ours", [lap(2.0, scores), lap(1.0, scores), lap(9.0, scores)]),
        "theirs": racer("theirs", [lap(4.0, scores), lap(5.0, scores), lap(6.0, scores)]),
        "broken": racer("broken", [lap(1.0, scores), Answer(result=None, reason="race: no such thing")]),
    }
    laps, failed = _peers_race.race(racers, arrays, Path("scores.npz"), runs=3)
    assert order[:6] == ["ours:race", "theirs:race", "broken:race"] * 2
    assert failed == {"broken": "race: no such thing"}
    assert [found.who for found in laps] == ["ours", "theirs"]
    told = laps[1].document(laps[0])
    assert told["medianSeconds"] == {"train": 5.0, "attack": 1.0, "total": 6.0}
    assert told["rangeSeconds"] == {"train": [4.0, 6.0], "attack": [1.0, 1.0], "total": [5.0, 7.0]}
    assert told["ratios"] == {"train": 2.5, "attack": 1.0, "total": 2.0}
    assert laps[0].auc == area(scores, arrays["member"], name="AUC").value
    with pytest.raises(ValueError, match="2 runs; expected at least 3"):
        _peers_race.race(racers, arrays, Path("scores.npz"), runs=2)


def test_waiting_for_a_quiet_machine_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    loads = [9.0, 9.0, 0.0]
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert _peers_race.wait_until_quiet(60.0, load=lambda: loads.pop(0))
    assert not _peers_race.wait_until_quiet(0.0, load=lambda: 9.0)


def test_ours_races_in_a_process_of_its_own(file: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    answer = replace(HERE, peer=peers.OURS).call("race", file)
    assert answer.reason == ""
    assert answer.result is not None
    assert set(answer.result) == {"shokri", "lira offline", "lira online"}
    for told in answer.result.values():
        assert told["train"] > 0
        assert told["attack"] > 0
        assert np.isfinite(told["scores"]).all()
        assert len(told["scores"]) == len(arrays["member"])


@pytest.mark.parametrize("eps", [0.3, 1.0, 2.5])
def test_the_double_integral_is_the_posterior_that_ours_computes_in_one(eps: float) -> None:
    true, unlearned, false, retrained = CASE
    counts = (unlearned - true, true, false, retrained - false)
    mass = posterior_mass(plain_density(CASE), eps, error=1e-8)
    assert mass == pytest.approx(posterior_private(counts, eps, 0.0), abs=1e-6)
    assert library_density(CASE)(0.2, 0.1) == pytest.approx(plain_density(CASE)(0.2, 0.1))
    assert plain_density(CASE)(0.0, 0.5) == 0


def test_the_interval_by_double_integral_is_ours() -> None:
    found = joint_beta(*CASE, alpha=Fraction(1, 20))
    assert interval(CASE, plain_density(CASE), error=1e-8, step=1e-6) == pytest.approx(
        (found.low, found.high), abs=1e-5
    )


@pytest.mark.slow
@pytest.mark.skipif(not SLOW, reason="CU_CERT_SLOW is not 1")
def test_the_coarse_double_integral_comes_near() -> None:
    ends: Any = bayes(1)["ends"]
    assert ends["dblquad, scipy.stats density, coarse"] == pytest.approx(ends["cu-cert"], abs=0.02)


# --- Environments -----------------------------------------------------------------------------------------------------


def test_a_worker_answers_from_its_own_process(file: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    rates = HERE.call("rates", file)
    assert rates.reason == ""
    assert {"statsmodels", "scikit-learn"} <= set(rates.versions)
    rows = _peers_compare.rates(arrays, {"statsmodels": rates.result})
    assert len(rows) == 18
    assert all(found.agrees for found in rows)
    bounds = _peers_compare.bounds(arrays, {"statsmodels": HERE.call("bounds", file).result})
    assert len(bounds) == 4
    assert all(found.agrees for found in bounds)


def test_a_failed_worker_and_an_absent_environment_give_reasons(file: Path) -> None:
    assert HERE.call("no such task", file) == Answer(result=None, reason="no such task: KeyError: 'no such task'")
    gone = replace(HERE, status="not installed", reason="no wheel")
    assert gone.call("rates", file) == Answer(result=None, reason="no wheel")


def test_an_installation_that_fails_gives_pips_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def command(arguments: list[str]) -> str:
        commands.append(list(arguments))
        return "ERROR: No matching distribution found for nothing" if "pip" in arguments else ""

    monkeypatch.setattr(_peers_environments, "_command", command)
    peer = Peer(name="nothing", requirements=("nothing==1",), worker="_peers_none", proof="import nothing", tasks=())
    found = install(peer, tmp_path)
    assert (found.status, found.reason) == ("not installed", "ERROR: No matching distribution found for nothing")
    assert "nothing==1" in commands[1]
    assert str(_peers_environments.CONSTRAINTS) in commands[1]
    assert not (tmp_path / "nothing" / ".cu-cert-peer").exists()


def test_an_installed_environment_is_used_again_until_its_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(_peers_environments, "_command", lambda arguments: commands.append(list(arguments)) or "")
    (tmp_path / "thing").mkdir()
    peer = Peer(name="thing", requirements=("thing==1",), worker="_peers_none", proof="import thing", tasks=())
    assert install(peer, tmp_path).status == "installed"
    assert len(commands) == 3
    install(peer, tmp_path)
    assert commands[3:] == [[str(tmp_path / "thing" / "bin" / "python"), "-c", "import thing"]]
    install(replace(peer, requirements=("thing==2",)), tmp_path)
    assert len(commands) == 7


def test_an_import_that_fails_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        _peers_environments, "_command", lambda arguments: "ImportError: no packaging" if "-c" in arguments else ""
    )
    (tmp_path / "thing").mkdir()
    peer = Peer(name="thing", requirements=("thing",), worker="_peers_none", proof="import thing", tasks=())
    assert install(peer, tmp_path).reason == "ImportError: no packaging"


def test_the_last_complaint_is_the_reason() -> None:
    assert _peers_environments.last_line("noise\nERROR: first\nERROR: second\nhint\n") == "ERROR: second"
    assert _peers_environments.last_line("Traceback\n\nValueError: x\n") == "ValueError: x"
    assert _peers_environments.last_line("") == "it gave no reason"


def test_privacy_meter_is_skipped_without_a_source_tree_and_refused_without_its_files(tmp_path: Path) -> None:
    skipped = privacy_meter(None, tmp_path)
    assert (skipped.status, "--privacy-meter" in skipped.reason) == ("skipped", True)
    absent = privacy_meter(tmp_path, tmp_path)
    assert absent.status == "not installed"
    assert "trainers/default_trainer.py" in absent.reason


def test_environments_never_lie_in_the_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="lies in the repository"):
        _peers_environments.outside_repository(_peers_environments.ROOT / "peers")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with peers.environments_folder(None) as folder:
        assert folder.is_relative_to(tmp_path)
        assert folder.is_dir()
    assert not folder.exists()
    with peers.environments_folder(tmp_path / "kept") as folder:
        pass
    assert folder.is_dir()


def test_every_peer_names_a_worker_that_exists() -> None:
    for peer in (*PEERS, PRIVACY_METER, peers.OURS):
        text = (_peers_environments.ROOT / "benchmarks" / f"{peer.worker}.py").read_text(encoding="utf-8")
        assert all(f'"{task}": ' in text for task in peer.tasks)


# --- The command ------------------------------------------------------------------------------------------------------


def test_the_command_reports_a_skipped_peer(
    arrays: dict[str, npt.NDArray[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(peers, "make", lambda sizes: arrays)
    chosen = ["--only", "ml_privacy_meter", "--runs", "0", "--install", str(tmp_path)]
    assert peers.main(["--json", *chosen]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "cu-cert-benchmark-peers/1"
    assert document["peers"]["ml_privacy_meter"]["status"] == "skipped"
    assert document["differences"] == 0
    assert peers.main(chosen) == 0
    assert "| ml_privacy_meter | skipped |" in capsys.readouterr().out
    assert peers.main([*chosen[:-1], str(_peers_environments.ROOT / "here")]) == 2
    assert "lies in the repository" in capsys.readouterr().err


def test_the_command_ends_with_1_when_a_number_differs(
    arrays: dict[str, npt.NDArray[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told = {"loss": {"auc": 0.9}}

    def call(self: Environment, task: str, source: Path) -> Answer:
        return (
            Answer(result=told, versions={"x": "1"}) if task == "rates" else Answer(result=None, reason=f"{task}: no")
        )

    monkeypatch.setattr(peers, "make", lambda sizes: arrays)
    monkeypatch.setattr(peers, "install", lambda peer, folder: replace(HERE, peer=peer))
    monkeypatch.setattr(Environment, "call", call)
    arguments = ["--only", "statsmodels", "--runs", "0", "--install", str(tmp_path)]
    assert peers.main([*arguments, "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["differences"] == 1
    assert document["peers"]["statsmodels"] == {"status": "failed", "reason": "vectors: no", "versions": {"x": "1"}}
    assert peers.main(arguments) == 1
    assert "**no**" in capsys.readouterr().out


def test_bad_arguments_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, wanted in ((["--runs", "2"], "at least 3"), (["--only", "nobody"], "invalid choice")):
        with pytest.raises(SystemExit):
            peers.main(arguments)
        assert wanted in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not SLOW or not os.environ.get("CU_CERT_PEERS"), reason="CU_CERT_PEERS names no environments")
def test_no_number_of_a_peer_differs_that_should_not(capsys: pytest.CaptureFixture[str]) -> None:
    code = peers.main(["--json", "--runs", "0", "--install", os.environ["CU_CERT_PEERS"]])
    document = json.loads(capsys.readouterr().out)
    assert code == document["differences"] == 0
    assert any(told["status"] == "installed" for told in document["peers"].values())
