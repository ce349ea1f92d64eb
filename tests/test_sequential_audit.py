"""Audits that end early: what they conclude and train, that they resume, and that processes change no byte."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import SLOW
from hostile import ORDERS, Hostile
from small_project import SMALLEST, files_below, fix_secrets, predicate_of, store_of, write_project

from benchmarks.sequential import Outcome, Row, main, to_json, to_text
from cu_cert.cli.main import run
from cu_cert.errors import ConfigError, Interrupted, MethodError
from cu_cert.fleet.plan import FleetPlan, Member
from cu_cert.fleet.train import Driver
from cu_cert.fleet.worker import Workshop
from cu_cert.forecast import planned_models, smallest_sizes
from cu_cert.project import Project, load_project
from cu_cert.protocol import Audited, audit_subjects
from cu_cert.release import BLOCK
from cu_cert.subjects import SubjectInput
from cu_cert.training import train_model
from cu_cert.unlearning import unlearn_model
from cu_certificates.check.coins import coin
from cu_certificates.check.result import CheckResult
from cu_certificates.trust import write_trust

METHODS = ("identity", "npo", "retrain")
BOTH = ("procedure", "artifact")
MORE = '\nsequential = true\nquestions = ["procedure"]'
EARLY = SMALLEST | {"slots": 32, "more": SMALLEST["more"] + MORE}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project that stops early, an original and what each method makes of it; only copied."""
    folder = write_project(tmp_path_factory.mktemp("base") / "project", **EARLY)
    fix_secrets(folder, "test_sequential_audit")
    project = load_project(folder / "cu-cert.toml")
    train_model(project, folder / "model.pt")
    for method in METHODS:
        unlearn_model(project, folder / "model.pt", folder / "ids.txt", folder / f"{method}.pt", method=method)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CU_CERT_CONFIG", str(folder.parent / "config"))
        yield folder


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "project"))


def changed(folder: Path, **audit: Any) -> Project:
    project = load_project(folder / "cu-cert.toml")
    return replace(project, audit=replace(project.audit, **audit))


def audited(
    folder: Path, *names: str, said: list[str] | None = None, project: Project | None = None, **options: Any
) -> Audited:
    return audit_subjects(
        project or load_project(folder / "cu-cert.toml"),
        [SubjectInput(model=folder / f"{name}.pt", out=folder / name, method=name) for name in names],
        folder / "ids.txt",
        quiet=False,
        say=(said if said is not None else []).append,
        **options,
    )


def claim(result: CheckResult, identifier: str) -> dict[str, Any]:
    return next(found for found in result.predicate["claims"] if found["id"] == identifier)


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "evidence/slots.jsonl").read_text().splitlines()]


# What it concludes, and what it trains


def test_a_clear_failure_ends_early(folder: Path) -> None:
    said: list[str] = []
    done = audited(folder, "identity", said=said)
    result = done.issued[0].result
    assert result.stated == result.derived == "REFUTED"
    found = claim(result, "c-eps-procedure")
    assert (found["type"], found["ended"]) == ("eps-sequential", "refuted")
    opened = found["opened"]
    assert opened in range(8, 32, 4)
    assert found["right"] == claim(result, "c-pos-procedure")["right"]  # the same slots, the same models
    rounds = [line for line in said if ", round " in line]
    assert len(rounds) == opened // 4
    assert rounds[0].startswith("identity.pt, round 1: 4 of at most 32 slots opened, ")
    made = found["right"] + found["wrong"]
    assert rounds[-1].endswith(
        f"{opened} of at most 32 slots opened, {found['right']} of {made} guesses right, eps >= {found['bound']}; "
        "refuted, no more slots are needed"
    )
    assert done.forecast.expected is not None
    assert done.trained < done.forecast.models
    assert done.forecast.expected < done.forecast.models
    assert len(list(store_of(folder).glob("*/*.json"))) == done.trained
    assert result.predicate["limitations"].count("L14") == 1
    assert {"A13"} <= set(result.predicate["assumptions"])


def test_a_retrained_model_ends_early_too(folder: Path) -> None:
    # As in test_audit: one audit in twenty may err, and other processors give other bits.
    verdicts = []
    for attempt in (1, 2, 3):
        done = audited(folder, "retrain", project=changed(folder, attempt=attempt))
        verdicts.append(done.issued[0].result.stated)
        if verdicts[-1] == "NOT_REFUTED":
            break
    assert verdicts[-1] == "NOT_REFUTED", verdicts
    found = claim(done.issued[0].result, "c-eps-procedure")
    assert found["ended"] in ("nothing", "budget")
    power = claim(done.issued[0].result, "c-power-procedure")
    assert power["reached"] is True
    assert power["bets"] >= power["needed"]


def test_subjects_share_slots_and_controls_and_end_each_on_its_own(folder: Path) -> None:
    done = audited(folder, *METHODS)
    tables = {name: rows_of(folder / name) for name in METHODS}
    opened = {name: sum(row.get("group") == "main" for row in rows) for name, rows in tables.items()}
    assert all(count in range(8, 33, 4) for count in opened.values())

    def models(name: str, *groups: str) -> dict[tuple[str, int], str]:
        return {
            (row["group"], row["slot"]): row["model"]
            for row in tables[name]
            if row.get("group") in groups and row.get("role") != "unlearned"
        }

    for name in METHODS[1:]:
        assert models("identity", "negative") == models(name, "negative")
        own, other = models("identity", "main", "positive"), models(name, "main", "positive")
        shared = own.keys() & other.keys()
        assert len(shared) >= 8
        assert {key: other[key] for key in shared} == {key: own[key] for key in shared}
    assert not any(issued.result.rejected for issued in done.issued)


def test_evidence_holds_a_prefix_and_every_threshold(folder: Path) -> None:
    done = audited(folder, "npo")
    rows = rows_of(folder / "npo")
    seed = bytes.fromhex(rows[0]["seed"])
    main = [row for row in rows if row.get("group") == "main"]
    positive = [row for row in rows if row.get("group") == "positive"]
    assert [row["slot"] for row in main] == [row["slot"] for row in positive] == list(range(len(main)))
    for row, other in zip(main, positive, strict=True):
        bit = coin(seed, done.plan.digest, "", "slots", row["slot"])
        assert row["role"] == ("unlearned" if bit else "retrained")
        assert other["role"] == ("original" if bit else "retrained")
        assert (row["model"] == other["model"]) == (not bit)
    assert {(row["threshold"], row["margin"]) for row in (*main[:4], *positive[:4])} == {(main[0]["threshold"], 0)}
    assert len({row["threshold"] for row in positive}) > 1  # it learned
    negative = [row for row in rows if row.get("group") == "negative"]
    assert len(negative) == 16
    assert {row["role"] for row in negative} <= {"rerun", "retrained"}
    assert not {row["model"] for row in negative} & {row["model"] for row in (*main, *positive)}


def test_a_failed_run_is_a_lost_bet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = Workshop._model

    def failing(workshop: Workshop, member: Member, *arguments: Any) -> Any:
        if member.label in ("slots 1, unlearned", "slots 1, retrained", "control 3, rerun", "control 3, retrained"):
            raise MethodError("it does not work today")
        return make(workshop, member, *arguments)

    monkeypatch.setattr(Workshop, "_model", failing)
    result = audited(folder, "identity").issued[0].result
    found = claim(result, "c-eps-procedure")
    assert found["failed"] == 1
    assert not result.rejected
    failed = [row for row in rows_of(folder / "identity") if row.get("status") == "failed"]
    assert {(row["group"], row["slot"]) for row in failed} >= {("main", 1), ("negative", 3)}
    assert all("score" not in row and "threshold" not in row for row in failed)


# Processes and interruptions


def test_processes_and_what_is_trained_ahead_change_no_byte(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for workers in (1, 2):
        own = Path(shutil.copytree(folder, folder.parent / f"workers-{workers}"))
        found[str(workers)] = (audited(own, "retrain", project=changed(own, workers=workers)), own)
    # On a machine that trains seven at a time, idle workers begin the slots of rounds that are not judged yet; and
    # models arrive in orders that tell the coins.
    for name, order in ORDERS.items():
        own = Path(shutil.copytree(folder, folder.parent / name))
        monkeypatch.setattr("cu_cert.protocol.make_executor", lambda _, shop, __, order=order: Hostile(shop, 7, order))
        found[name] = (audited(own, "retrain"), own)
    evidence = {
        name: {path: data for path, data in files_below(own).items() if "evidence/" in path or "plan.json" in path}
        for name, (_, own) in found.items()
    }
    assert len(evidence["1"]) >= 4
    assert all(one == evidence["1"] for one in evidence.values())
    verdicts = {name: [issued.result.stated for issued in done.issued] for name, (done, _) in found.items()}
    assert all(one == verdicts["1"] for one in verdicts.values())
    trained = {name: done.trained for name, (done, _) in found.items()}
    assert trained["1"] == min(trained.values())


def test_an_interrupted_run_goes_on_and_makes_nothing_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path(shutil.copytree(folder, folder.parent / "whole"))
    done = audited(whole, "npo", project=changed(whole, engine="single"))
    train, made = Workshop._train, []

    def stopping(limit: int) -> Any:
        def watched(workshop: Workshop, member: Member, *arguments: Any) -> Any:
            if len(made) >= limit:
                raise KeyboardInterrupt
            made.append(member.seed)
            return train(workshop, member, *arguments)

        return watched

    pilots = 3 * SMALLEST["pilots"]
    for limit in (5, pilots + 3, pilots + 9, done.trained - 2):
        monkeypatch.setattr(Workshop, "_train", stopping(limit))
        with pytest.raises(Interrupted, match="run the same command to go on"):
            audited(folder, "npo", project=changed(folder, engine="single"))
        assert not (folder / "npo/certificate.sigstore.json").exists()
    monkeypatch.setattr(Workshop, "_train", stopping(10**6))
    again = audited(folder, "npo", project=changed(folder, engine="single"))
    assert len(made) == done.trained
    assert again.trained == 2
    for name in ("slots", "pilots"):
        path = f"npo/evidence/{name}.jsonl"
        assert (folder / path).read_bytes() == (whole / path).read_bytes()


# The plan, the forecast, the options


def test_a_dry_run_names_the_expected_and_the_most_models(folder: Path) -> None:
    said: list[str] = []
    done = audited(folder, "npo", said=said, dry_run=True)
    assert done.forecast.expected is not None
    assert f"at most {done.forecast.models} models, about {done.forecast.expected} when there is nothing" in said[0]
    assert done.forecast.models <= planned_models(done.plan, BLOCK)
    assert done.plan.to_json()["procedure"] == {
        "design": "sequential",
        "slots": 32,
        "controlSlots": 16,
        "controlGuesses": 12,
        "direction": "both",
        "round": 4,
        "lambdas": ["0.05", "0.1", "0.2", "0.35", "0.5", "0.7", "0.9"],
    }
    assert done.plan.to_json()["attacks"] == ["eps-sequential"]
    every = audited(folder, "npo", project=changed(folder, sequential=False), dry_run=True)
    assert "design" not in every.plan.to_json()["procedure"]
    assert every.forecast.expected is None


def test_sizes_that_cannot_show_enough_are_refused_with_the_smallest(folder: Path) -> None:
    with pytest.raises(ConfigError, match="6 slots one after another cannot refute") as error:
        audited(folder, "npo", project=changed(folder, slots=6), dry_run=True)
    assert "slots = 11" in str(error.value)
    plan = audited(folder, "npo", project=changed(folder, slots=11), dry_run=True).plan
    assert smallest_sizes(plan)["slots"] == 11
    with pytest.raises(ConfigError, match=r"10 slots do not exceed eps\* = 0"):
        audited(folder, "npo", project=changed(folder, slots=10), dry_run=True)
    with pytest.raises(ConfigError, match="slots that share one original cannot be judged one after another"):
        audited(folder, "npo", project=changed(folder, original="fixed"), dry_run=True)


def test_a_budget_shrinks_the_most_and_keeps_the_control(folder: Path) -> None:
    large = changed(folder, slots=64, references=90, questions=BOTH)
    most = planned_models(audited(folder, "npo", project=large, dry_run=True).plan, BLOCK)
    done = audited(folder, "npo", project=large, budget=most - 60, dry_run=True)
    assert done.forecast.models <= most - 60
    assert done.plan.sizes.slots < 64
    assert (done.plan.sizes.control_slots, done.plan.sizes.control_guesses) == (16, 12)


def test_the_option_is_true_or_false(folder: Path) -> None:
    text = (folder / "cu-cert.toml").read_text()
    (folder / "cu-cert.toml").write_text(text.replace("sequential = true", 'sequential = "yes"'))
    with pytest.raises(ConfigError, match=r'sequential = "yes"; expected true or false, without quotes'):
        load_project(folder / "cu-cert.toml")


def test_the_method_with_nothing_to_forget_may_follow_each_retrain(folder: Path) -> None:
    done = audited(folder, "npo", project=changed(folder, reference="retrain+noop"))
    result = done.issued[0].result
    assert not result.rejected
    assert result.stated in ("REFUTED", "NOT_REFUTED", "INCONCLUSIVE")


def test_the_command_line_audits_checks_and_gates(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    text = (folder / "cu-cert.toml").read_text()
    (folder / "cu-cert.toml").write_text(text.replace('["procedure"]', '["procedure", "artifact"]'))
    assert run(["audit", "identity.pt", "--forget", "ids.txt", "--method", "identity"]) == 0
    said = capsys.readouterr().out
    assert "identity.pt, round 2: 8 of at most 32 slots opened" in said
    assert said.splitlines()[-1].startswith("verdict      ")
    assert run(["check", "audit-out/certificate.sigstore.json"]) == 0
    assert " of at most 32 slots: eps >= " in capsys.readouterr().out
    page = (folder / "audit-out/report.html").read_text()
    assert "Wealth of the bets, slot by slot" in page
    assert "slots opened; ended " in page
    assert predicate_of(folder / "audit-out")["verdict"]["basis"] == ["c-eps-procedure", "c-eps-artifact"]
    public = next(Path(os.environ["CU_CERT_CONFIG"]).glob("*.pub.pem"))
    write_trust(folder / "trust.toml", public, not_before=datetime.now(UTC) - timedelta(days=1))
    given = ["--policy", "cu-cert.toml", "--trust", "trust.toml", "--model", "identity.pt"]
    gated = run(["gate", "audit-out/certificate.sigstore.json", *given])
    assert gated == {"REFUTED": 1, "INCONCLUSIVE": 3}[predicate_of(folder / "audit-out")["verdict"]["value"]]
    assert "claims re-derived" in capsys.readouterr().out
    assert run(["audit", "identity.pt", "--forget", "ids.txt", "--method", "identity", "--json", "--dry-run"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["expected"] < found["models"]


def test_a_round_trains_no_more_than_its_slots(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[FleetPlan] = []
    finish = Driver.finish

    def watched(driver: Driver, plan: FleetPlan, **options: Any) -> None:
        plans.append(plan)
        finish(driver, plan, **options)

    monkeypatch.setattr(Driver, "finish", watched)
    done = audited(folder, "identity")
    opened = claim(done.issued[0].result, "c-eps-procedure")["opened"]
    assert len(plans) == 1 + opened // 4 + 1  # what is needed anyway, its rounds, and the negative control
    seeds = {member.seed for plan in plans for group in plan.groups for member in group}
    assert len(seeds) == done.trained


@pytest.mark.parametrize("workers", [1, 7])
def test_a_clear_failure_trains_only_the_cohorts_of_its_slots(
    workers: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cu_cert.protocol.make_executor", lambda _, shop, __: Hostile(shop, workers, ORDERS["random"]))
    done = audited(folder, "identity", project=changed(folder, slots=64, engine="auto"))
    found = claim(done.issued[0].result, "c-eps-procedure")
    assert (found["ended"], found["opened"] <= 24) == ("refuted", True)
    labels = [json.loads(path.read_bytes())["label"] for path in store_of(folder).glob("*/*.json")]
    slots = {int(label.split()[1].rstrip(",")) for label in labels if label.startswith("slots ")}
    assert max(slots) < 16 * -(-found["opened"] // 16)  # cohorts are of sixteen slots


# The benchmark


def test_the_benchmark_prints_medians_and_verdicts() -> None:
    outcomes = [
        Outcome(verdict=verdict, models=models, slots=slots, needed={"frozen score": needed})
        for verdict, models, slots, needed in (
            ("REFUTED", 60, 12, 12),
            ("REFUTED", 64, 16, None),
            ("INCONCLUSIVE", 90, 40, None),
        )
    ]
    row = Row(case="original", design="one by one", outcomes=outcomes)
    found = json.loads(to_json([row], 3, 64))
    assert found["schema"] == "cu-cert-benchmark/1"
    assert found["rows"][0] == {
        "case": "original",
        "design": "one by one",
        "models": 64,
        "quartiles": [62.0, 77.0],
        "slots": 16,
        "verdicts": {"INCONCLUSIVE": 1, "REFUTED": 2},
        "refutedAfter": {"frozen score": {"refuted": 1, "slots": None}},
    }
    text = to_text([row], 3, 64)
    assert "64 (62 to 77)  slots  16  1 INCONCLUSIVE, 2 REFUTED" in text
    assert "frozen score not within all (1)" in text


@pytest.mark.slow
@pytest.mark.skipif(not SLOW, reason="trains some 200 models of digits")
def test_the_benchmark_runs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--json", "--seeds", "1", "--slots", "32", "--case", "original", "--case", "rewind 3"])
    found = json.loads(capsys.readouterr().out)
    by_design = {(row["case"], row["design"]): row for row in found["rows"]}
    assert by_design["original", "one by one"]["models"] < by_design["original", "all slots"]["models"]
    assert by_design["original", "one by one"]["verdicts"] == {"REFUTED": 1}
