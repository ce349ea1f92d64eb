"""``cu-cert drill --out``: coins after the plan, a certificate that verifies, no id handed on, and resumption."""

import hashlib
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from small_project import files_below, fix_secrets, predicate_of, write_project

from cu_cert import drill_certificate
from cu_cert.cli.main import run
from cu_cert.drill_certificate import MODEL, CertifiedDrill, certify_drill
from cu_cert.errors import CuCertError, DataError, Interrupted
from cu_cert.fleet.store import Store
from cu_cert.methods import Work, get
from cu_cert.project import Project, load_project
from cu_certificates.check.coins import coin
from cu_certificates.check.strict import canonical
from cu_certificates.keys import generate_key, local_key
from cu_certificates.trust import load_trust, write_trust
from cu_certificates.verify import Certificate, verify

TRAINING = 'recipe = "mlp"\nhidden = [24]\nepochs = 25\nbatch_size = 64\nlearning_rate = 0.3'
SMALL: dict[str, Any] = {"candidates": 60, "references": 3, "quiet": True}


def make_project(folder: Path, name: str, **settings: Any) -> Project:
    written = write_project(folder, training=TRAINING, **settings)
    fix_secrets(written, name)
    return load_project(written / "cu-cert.toml")


def certify(project: Project, **changes: Any) -> CertifiedDrill:
    return certify_drill(project, **({"out": project.root / "drill-out"} | SMALL | changes))


def certified(folder: Path, name: str, *, method: str, verdict: str) -> tuple[Project, CertifiedDrill]:
    """Drill until the verdict comes out: one drill in twenty may err, and where the bits differ, so do the coins."""
    for attempt in (1, 2, 3):
        project = make_project(folder, name, more=f"attempt = {attempt}")
        done = certify(project, method=method)
        if done.result.verdict == verdict:
            break
    return project, done


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@pytest.fixture(autouse=True)
def own_keys(keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CU_CERT_CONFIG", str(keys))


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> CertifiedDrill:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CU_CERT_CONFIG", str(keys))
        return certified(tmp_path_factory.mktemp("kept"), "kept", method="identity", verdict="REFUTED")[1]


def verified(done: CertifiedDrill, tmp: Path) -> Certificate:
    assert done.key is not None
    trust = tmp / "trust.toml"
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    write_trust(trust, done.key.public_path, not_before=yesterday)
    return verify(done.issued.report, trust=load_trust(trust), model=done.issued.folder / MODEL, now=datetime.now(UTC))


def rows(done: CertifiedDrill, name: str = "onerun") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (done.issued.folder / "evidence" / f"{name}.jsonl").read_text().splitlines()]


def claims(done: CertifiedDrill) -> dict[str, dict[str, Any]]:
    return {claim["id"]: claim for claim in predicate_of(done.issued.folder)["claims"]}


# --- What is written -------------------------------------------------------------------------------------------------


def test_a_stranger_verifies_it_with_the_model_beside_it(done: CertifiedDrill, tmp_path: Path) -> None:
    found = verified(done, tmp_path)
    assert found.verdict == done.result.verdict == "REFUTED"
    assert found.subjects[MODEL] == hashlib.sha256((done.issued.folder / MODEL).read_bytes()).hexdigest()
    assert {step.state for step in found.steps} == {"ok"}
    assert done.issued.result.stated == "REFUTED"


def test_the_certificate_says_what_the_drill_found(done: CertifiedDrill) -> None:
    said, (method, original, _) = claims(done), done.result.subjects
    bound = said["c-eps-procedure"]
    assert (bound["right"], bound["reversed"]) == (method.remembering.right, method.over_forgetting.right)
    assert float(bound["bound"]) == float(method.decisive.request_bound)
    assert float(bound["recordBound"]) == float(method.decisive.record_bound)
    assert said["c-pos-procedure"]["right"] == original.remembering.right
    assert said["c-neg-procedure"]["right"] == done.result.control
    assert said["c-power-procedure"]["critical"] == done.result.resolution.critical
    assert said["m-utility-original"]["value"] == f"{original.accuracy:.4f}"


def test_the_coins_follow_from_plan_and_seed(done: CertifiedDrill) -> None:
    plan = (done.issued.folder / "plan.json").read_bytes()
    assert plan == done.plan.to_bytes()
    opening, *found = rows(done)
    candidates = [row for row in found if row["kind"] == "candidate"]
    digest = hashlib.sha256(plan).hexdigest()
    assert [row["role"] for row in candidates] == [
        ("out", "in")[coin(bytes.fromhex(opening["seed"]), digest, "", "candidates", n)] for n in range(60)
    ]
    assert sum(row["role"] == "in" for row in candidates) == done.result.included
    named = json.loads(plan)["procedure"]["referencesFile"]["sha256"]
    assert named == hashlib.sha256((done.issued.folder / "evidence" / "references.jsonl").read_bytes()).hexdigest()


def test_the_plan_names_no_model_and_the_evidence_does(done: CertifiedDrill) -> None:
    (entry,) = json.loads(done.plan.to_bytes())["subjects"]
    assert "model" not in entry
    (subject,) = [row for row in rows(done) if row["kind"] == "subject"]
    (original,) = [row for row in rows(done) if row["kind"] == "original"]
    assert subject["file"] == predicate_of(done.issued.folder)["scope"]["model"]["digest"]["sha256"]
    assert subject["model"] == original["model"]  # identity changes nothing


def test_it_is_said_that_no_person_asked(done: CertifiedDrill) -> None:
    found = predicate_of(done.issued.folder)
    assert (found["request"]["scenario"], found["request"]["commitment"]["size"]) == ("drill", 60)
    assert "L17" in found["limitations"]
    assert "L7" not in found["limitations"]
    assert "A20" in found["assumptions"]
    assert "A11" not in found["assumptions"]


def test_no_id_leaves_the_private_folder(done: CertifiedDrill) -> None:
    folder = done.issued.folder
    for name, data in files_below(folder).items():
        assert name.startswith("private/") or b"person-" not in data, name
    private = json.loads((folder / "private" / "request.json").read_text())
    assert len(private["openings"]) == 60
    assert all(opened["id"].startswith("canary:person-") for opened in private["openings"])
    assert (folder / "private").stat().st_mode & 0o777 == 0o700


def test_the_page_is_drawn(done: CertifiedDrill) -> None:
    page = done.issued.report.read_text(encoding="utf-8")
    assert MODEL in page
    assert "Drawn records in the audited model" in page
    assert page.count("<svg") >= 3


# --- The same again --------------------------------------------------------------------------------------------------


def test_the_same_drill_gives_the_same_files_and_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(tmp_path / "project", "again")
    first = certify(project, method="identity", out=tmp_path / "first")
    recipe = type(project.make_recipe())
    monkeypatch.setattr(recipe, "train", lambda *given, **named: pytest.fail("a model was trained again"))
    second = certify(project, method="identity", out=tmp_path / "second")
    same = [name for name in files_below(tmp_path / "first") if name.startswith(("plan", "evidence", MODEL))]
    assert len(same) == 5
    for name in same:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert second.result.verdict == first.result.verdict
    assert [predicate_of(tmp_path / name)["sequence"] for name in ("first", "second")] == [1, 2]


def test_what_was_trained_before_an_interruption_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = make_project(tmp_path, "stopped")
    plain, trained = get("retrain"), []

    def stopped(*given: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(drill_certificate, "get", lambda name: replace(plain, work=stopped))
    with pytest.raises(Interrupted, match="what was trained is kept; run the same command again to go on"):
        certify(project, method="identity")
    plan = (tmp_path / "drill-out" / "plan.json").read_bytes()
    assert not (tmp_path / "drill-out" / "report.html").exists()
    monkeypatch.undo()
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "keys"))
    recipe = type(project.make_recipe())
    train = recipe.train

    def counted(self: Any, records: Any, *, rng: Any) -> Any:
        trained.append(len(records))
        return train(self, records, rng=rng)

    monkeypatch.setattr(recipe, "train", counted)
    done = certify(project, method="identity")
    assert (tmp_path / "drill-out" / "plan.json").read_bytes() == plan == done.plan.to_bytes()
    assert len(trained) == 4  # the retrained model and the three controls; references and original were kept


def test_another_attempt_has_other_coins_and_the_same_candidates(tmp_path: Path) -> None:
    project = make_project(tmp_path, "attempts")
    first = certify(project, method="identity", out=tmp_path / "first")
    again = replace(project, audit=replace(project.audit, attempt=2))
    second = certify(again, method="identity", out=tmp_path / "second")
    assert first.plan.digest != second.plan.digest
    assert first.plan.request_root == second.plan.request_root
    roles = [[row["role"] for row in rows(done) if row["kind"] == "candidate"] for done in (first, second)]
    assert roles[0] != roles[1]
    assert rows(first, "references") == rows(second, "references")


def test_a_damaged_store_is_named(tmp_path: Path) -> None:
    project = make_project(tmp_path, "damaged")
    certify(project, method="identity")
    for path in (tmp_path / ".cu-cert" / "store").rglob("*.pt"):
        path.write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"this model of the store is missing or damaged; delete .*\.json and run"):
        certify(project, method="identity")


# --- Other kinds, other methods --------------------------------------------------------------------------------------


def test_an_exact_method_is_not_refuted_and_tested_at_0(tmp_path: Path) -> None:
    _, done = certified(tmp_path, "exact", method="retrain", verdict="NOT_REFUTED")
    assert done.plan.subjects[0].tested_eps == 0
    assert verified(done, tmp_path).verdict == done.result.verdict == "NOT_REFUTED"
    assert done.issued.result.reasons[0].endswith("for records drawn as those of this run were")


def test_a_mixed_drill_shows_each_kind(tmp_path: Path) -> None:
    done = certify(make_project(tmp_path, "mixed"), method="identity", canaries="mixed", candidates=28)
    said = claims(done)
    assert {"m-right-mislabelled", "m-right-random", "m-right-vulnerable", "m-right-typical"} <= set(said)
    scores = [row["score"] for row in rows(done) if row["kind"] == "candidate"]
    assert all(0 < score < 1_000_000 for score in scores)  # ranks within each kind, on one scale
    assert verified(done, tmp_path).verdict == done.result.verdict


def test_a_leak_in_the_pipeline_cannot_be_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retraining that in truth hands the original on: the checker sees one model in two places."""
    plain = get("retrain")
    leak = replace(plain, needs=plain.needs | {"original"}, work=lambda task: Work(model=task.original))
    monkeypatch.setattr(drill_certificate, "get", lambda name: leak)
    with pytest.raises(DataError, match=r"nothing was signed: .*one model digest stands for two runs"):
        certify(make_project(tmp_path, "leak"), method="finetune")
    assert not (tmp_path / "drill-out" / "report.html").exists()


def test_an_id_in_a_name_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    project = make_project(tmp_path, "named")
    ids = sorted(json.loads((certify(project, method="identity").issued.folder / "private/request.json").read_text())
                 ["openings"], key=lambda opened: str(opened["id"]))  # fmt: skip
    name = ids[0]["id"].removeprefix("canary:")
    with pytest.raises(Exception, match="a drawn record") as refused:
        certify(project, method="identity", out=tmp_path / f"drill of {name}")
    assert getattr(refused.value, "exit_code", None) == 2
    assert name not in str(refused.value).replace(str(tmp_path), "")
    assert not (tmp_path / f"drill of {name}").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": 5000}, "--candidates 5000: expected at most 4096 with --out"),
        ({"references": 5000}, "--references 5000: expected at most 4096 with --out"),
        ({"candidates": 8}, "--candidates 8: too few"),
        ({"method": "nop"}, "did you mean npo"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CuCertError, match=message):
        certify(make_project(tmp_path, "bad"), **({"method": "identity"} | changes))
    assert not (tmp_path / "drill-out").exists()


# --- The command -----------------------------------------------------------------------------------------------------

COMMAND = ["drill", "--method", "identity", "--candidates", "60", "--references", "3"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project, _ = certified(tmp_path, "command", method="identity", verdict="REFUTED")
    shutil.rmtree(tmp_path / "drill-out")
    monkeypatch.chdir(project.root)
    return project.root


def test_the_command_writes_and_ends_with_the_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMAND, "--out", "drill-out"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("plan ")
    assert lines[-1] == "verdict      REFUTED"
    assert not any(line.startswith("verdict  ") for line in lines[:-1])
    assert any(line.startswith("certificate  drill-out/certificate.sigstore.json") for line in lines)
    assert not any("writes no certificate" in line for line in lines)
    assert run([*COMMAND, "--out", "drill-out", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["schema"], found["verdict"], found["issued"]["stated"]) == ("cu-cert-drill/1", "REFUTED", "REFUTED")
    assert found["issued"]["signed"]
    assert "seed" not in found
    assert run([*COMMAND]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("verdict ")


def test_a_draft_states_no_verdict(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMAND, "--out", "draft", "--no-sign"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("UNSIGNED DRAFT: it states no verdict")
    assert (folder / "draft" / "certificate.draft.json").exists()
    assert run(["check", "draft/certificate.draft.json"]) == 0
    assert "REFUTED; stated: none (unsigned draft)" in capsys.readouterr().out


def test_a_key_of_the_users_own_signs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate_key(folder / "own.pem", passphrase=None)
    assert run([*COMMAND, "--out", "drill-out", "--key", "own.pem", "--json"]) == 0
    signed = json.loads(capsys.readouterr().out)["issued"]["keyid"]
    assert signed != local_key(None).key.keyid


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--key", "own.pem"], "--key: belongs to a certificate; name its folder with --out DIR too"),
        (["--no-sign"], "--no-sign: belongs to a certificate"),
        (["--passphrase-fd", "0"], "--passphrase-fd: belongs to a certificate"),
        (["--out", "x", "--seed", "mine"], "--seed mine: a certificate's coins follow from its plan"),
        (["--out", "x", "--key", "absent.pem"], "absent.pem"),
        (["--out", "x", "--candidates", "8"], "--candidates 8: too few"),
    ],
)
def test_the_command_refuses_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert run(["drill", "--method", "identity", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "x").exists()


def test_the_gate_stops_a_refuted_drill_and_a_file_that_was_changed(
    folder: Path, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*COMMAND, "--out", "drill-out"]) == 0
    assert run(["key", "trust", str(next(keys.glob("*.pub.pem"))), "--out", "trust.toml"]) == 0
    gate = ["gate", "drill-out/report.html", "--policy", "cu-cert.toml", "--trust", "trust.toml"]
    gate += ["--model", f"drill-out/{MODEL}"]
    assert run(gate) == 1
    assert "REFUTED" in capsys.readouterr().out
    path = folder / "drill-out" / "evidence" / "onerun.jsonl"
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:-1], canonical(json.loads(lines[-1]) | {"score": 0})]) + b"\n")
    assert run(gate) == 4
    assert run(["verify", "drill-out/report.html", "--trust", "trust.toml"]) == 4
    assert "onerun.jsonl" in capsys.readouterr().err


def test_the_store_is_that_of_the_project(done: CertifiedDrill) -> None:
    folder = done.issued.folder.parent / ".cu-cert" / "store"
    entries = list(folder.glob("??/*.json"))
    assert len(entries) == 3 + 2 + 3  # references, original and retrain, controls; the method's model is in the output
    assert all(Store(folder).entry(path.stem).engine == "drill" for path in entries)  # type: ignore[union-attr]
