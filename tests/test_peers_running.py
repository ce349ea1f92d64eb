"""The comparison with other libraries: the race, the environments, the command; the peers themselves are slow.

``CU_CERT_PEERS`` names a folder of environments (``benchmarks.peers --install``) for the one test that needs them.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import SLOW
from small_peers import small_scores

from benchmarks import _peers_compare, _peers_environments, _peers_race, peers
from benchmarks._peers_bayes import CASE, bayes, interval, library_density, plain_density, posterior_mass
from benchmarks._peers_environments import PEERS, PRIVACY_METER, Answer, Environment, Peer, install, privacy_meter
from cu_attacks._extrapolations import joint_beta, posterior_private
from cu_attacks._roc import area

HERE = Environment(peer=PEERS[0], python=Path(sys.executable), status="installed")


@pytest.fixture(scope="module")
def arrays() -> dict[str, npt.NDArray[Any]]:
    return small_scores()


@pytest.fixture(scope="module")
def file(arrays: dict[str, npt.NDArray[Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peers") / "scores.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


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
