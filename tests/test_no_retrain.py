"""``audit --no-retrain``: one given model, no other one trained; what it concludes, refuses and writes."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_project import MLP, files_below, fix_secrets, predicate_of, request_ids, store_of, write_project

from cu_attacks._same_kind import MOST_KEPT
from cu_cert import no_retrain
from cu_cert.cli.main import run
from cu_cert.errors import ConfigError, DataError
from cu_cert.label_claims import records_plot
from cu_cert.no_retrain import NEVER_CLEARS, audit_without_retraining, comparable
from cu_cert.project import load_project
from cu_cert.records import Records, make_records
from cu_cert.training import train_model
from cu_cert.unlearning import unlearn_model
from cu_certificates.check.label_table import LabelTable
from cu_certificates.check.main import check_file
from cu_certificates.check.result import CheckResult

CLEARS_NOT = "artifact: compares with no retrained model, so it can refute but never clear"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with an original that knows its records by heart, and a retrained model; only copied."""
    folder = write_project(tmp_path_factory.mktemp("base") / "project", training=MLP, forget=20)
    fix_secrets(folder, "test_no_retrain")
    project = load_project(folder / "cu-cert.toml")
    train_model(project, folder / "model.pt")
    unlearn_model(project, folder / "model.pt", folder / "ids.txt", folder / "retrained.pt", method="retrain")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CU_CERT_CONFIG", str(folder.parent / "config"))
        yield folder


@pytest.fixture
def folder(base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(base, tmp_path / "project"))


def audited(folder: Path, name: str = "model.pt", **options: Any) -> CheckResult:
    project = options.pop("project", load_project(folder / "cu-cert.toml"))
    given: dict[str, Any] = {"out": folder / "out", "procedure": False, "say": lambda line: None} | options
    return audit_without_retraining(folder / name, folder / "ids.txt", project=project, **given).issued[0].result


def claim(result: CheckResult, identifier: str) -> dict[str, Any]:
    return next(found for found in result.predicate["claims"] if found["id"] == identifier)


# What it concludes


def test_an_original_is_refuted_and_no_model_is_trained(folder: Path) -> None:
    before = files_below(store_of(folder)) if store_of(folder).exists() else {}
    result = audited(folder, original=folder / "model.pt")
    assert result.stated == result.derived == "REFUTED"
    assert [found.detail for found in result.rejected] == []
    assert result.reasons[0].startswith("artifact: eps >= ")
    assert claim(result, "c-pos-artifact")["outcome"] == "detected"
    assert claim(result, "c-neg-artifact")["outcome"] == "sound"
    assert float(claim(result, "m-shift")["value"]) > float(claim(result, "m-shift")["interval"][1])
    assert (files_below(store_of(folder)) if store_of(folder).exists() else {}) == before


def test_a_retrained_model_is_never_cleared(folder: Path) -> None:
    # One audit in twenty errs here; the secret was fixed before the first look, and further attempts draw anew.
    for attempt in (1, 2, 3):
        project = load_project(folder / "cu-cert.toml")
        project = replace(project, audit=replace(project.audit, attempt=attempt))
        result = audited(folder, "retrained.pt", project=project, method="retrain", procedure=True,
                         original=folder / "model.pt")  # fmt: skip
        assert result.predicate["plan"]["testedEps"] == "0"
        if result.stated == "INCONCLUSIVE":
            break
    assert (result.stated, result.reasons) == ("INCONCLUSIVE", (CLEARS_NOT,))


def test_the_certificate_says_what_it_rests_on(folder: Path) -> None:
    result = audited(folder)
    predicate = result.predicate
    assert predicate["plan"]["attacks"] == ["label-p"]
    assert predicate["plan"]["questions"] == ["artifact"]
    assert predicate["assumptions"] == ["A1", "A2", "A4", "A5", "A6", "A7", "A8", "A9", "A12"]
    assert "L13" in predicate["limitations"]
    assert not {"L7", "L8"} & set(predicate["limitations"])
    assert not any(found["id"] == "c-pos-artifact" for found in predicate["claims"])
    page = (folder / "out" / "report.html").read_text()
    assert "We compared what the model says about those records" in page
    assert "exchangeable" in page
    # What readers ask for is listed, this design's own counter-evidence is there, and nothing else is called missing.
    asked = "tests that failed or are missing"
    assert page.count("are missing") == page.count(asked) == 1
    assert '<span class="mark full">present</span>' in page.partition(asked)[2].partition("</tr>")[0]


def test_evidence_and_page_name_no_record(folder: Path) -> None:
    audited(folder, original=folder / "model.pt")
    ids = request_ids(folder)
    for name, data in files_below(folder / "out").items():
        if not name.startswith("private"):
            assert not any(one.encode() in data for one in ids), name


def test_no_bin_of_the_plot_singles_out_a_record(folder: Path) -> None:
    result = audited(folder)
    plot = result.predicate["plots"]["artifact"]
    counts = [count for series in plot["series"] for count in series["counts"]]
    assert all(count == 0 or count >= 5 for count in counts)
    drawn = {series["role"]: sum(series["counts"]) for series in plot["series"]}
    assert drawn == {role: claim(result, "c-p-artifact")[role] for role in ("request", "never")}


def test_a_handful_of_records_is_not_drawn() -> None:
    table = LabelTable(file="", strata=(0,) * 9, request=(True,) * 4 + (False,) * 5, scores=tuple(range(9)),
                       originals=(), blind=((0,) * 9,), near=((),) * 9, key=b"", permutations=1)  # fmt: skip
    assert records_plot(table) is None
    drawn = records_plot(replace(table, request=(True, False) * 4 + (False,), scores=(7,) * 9))
    assert drawn is None
    both = replace(table, strata=(0,) * 10, request=(True, False) * 5, scores=(7_000_000,) * 10, near=((),) * 10)
    plot = records_plot(both)
    assert plot is not None
    assert [series["counts"] for series in plot["series"]] == [[5], [5]]  # type: ignore[attr-defined]
    assert plot["binEdges"] == ["7.00", "7.01"]


def test_the_same_audit_again_gives_the_same_evidence(folder: Path) -> None:
    audited(folder, original=folder / "retrained.pt")
    first = files_below(folder / "out" / "evidence")
    audited(folder, original=folder / "retrained.pt")
    assert files_below(folder / "out" / "evidence") == first
    assert set(first) == {"labels.jsonl", "utility.jsonl"}


def test_another_attempt_draws_other_assignments(folder: Path) -> None:
    project = load_project(folder / "cu-cert.toml")
    audited(folder)
    again = replace(project, audit=replace(project.audit, attempt=2))
    audited(folder, project=again, out=folder / "again")
    first, second = ((folder / name / "evidence" / "labels.jsonl").read_text() for name in ("out", "again"))
    assert first.splitlines()[0] != second.splitlines()[0]
    assert first.splitlines()[1:] == second.splitlines()[1:]


# Requests that cannot be judged this way


def small(y: list[int], name: str, x: float = 0.0) -> Records:
    return make_records([f"{name}{row}" for row in range(len(y))], np.full((len(y), 2), x), y, ["zero", "one", "two"])


def test_only_classes_that_all_sides_have_are_judged() -> None:
    found = comparable(small([0, 1, 2, 0], "f"), small([0, 0, 1], "h"), small([0, 2, 2], "r"))
    assert found.classes.tolist() == [0]
    assert found.request.tolist() == [0, 3]
    assert found.never.tolist() == [0, 1]
    assert (found.sizes, found.left_out) == ((2, 2), 2)


@pytest.mark.parametrize(
    ("asked", "never", "kept", "said"),
    [
        ([1, 1], [0, 1], [0, 2], "every training record of class 'one', so nothing of that kind stays"),
        ([1, 1], [0, 2], [0, 1], "no held-out record is of class 'one', so there is no never-trained record"),
        ([1, 0], [1], [2, 0], "every training record of class 'one'"),
    ],
)
def test_what_has_no_counterpart_is_refused_in_clear_words(
    asked: list[int], never: list[int], kept: list[int], said: str
) -> None:
    with pytest.raises(DataError) as problem:
        comparable(small(asked, "f"), small(never, "h"), small(kept, "r"))
    assert said in str(problem.value)
    assert "audit" in str(problem.value)
    assert "leave out --no-retrain" in str(problem.value)


def test_a_whole_class_is_refused(folder: Path) -> None:
    from cu_cert.data import load_records

    project = load_project(folder / "cu-cert.toml")
    train = load_records(project.data, project.root).train
    ids = [name for name, label in zip(train.ids, train.y, strict=True) if label == 1]
    (folder / "ids.txt").write_text("\n".join(ids) + "\n")
    with pytest.raises(DataError, match="the request holds every training record of class"):
        audited(folder)
    # With records of other classes beside it, the class alone is left out, and the lines say so.
    others = [name for name, label in zip(train.ids, train.y, strict=True) if label == 0][:15]
    (folder / "ids.txt").write_text("\n".join(ids + others) + "\n")
    told: list[str] = []
    result = audited(folder, say=told.append)
    assert any(f"{len(ids)} records of the request are not judged" in line for line in told)
    assert claim(result, "c-p-artifact")["request"] == 15
    assert result.predicate["request"]["commitment"]["size"] == len(ids) + 15


def test_outliers_void_the_question(folder: Path) -> None:
    """The request is a cluster far from all else: its negative control fails, so even an original is not refuted."""
    project = load_project(folder / "cu-cert.toml")
    stored = np.load(folder / "data.npz")
    x, asked = stored["x"].copy(), np.isin(stored["ids"], request_ids(folder))
    x[asked] = 4 + 0.2 * x[asked]
    np.savez(folder / "data.npz", x=x, y=stored["y"], ids=stored["ids"])
    train_model(project, folder / "model.pt")
    result = audited(folder)
    assert claim(result, "c-neg-artifact")["outcome"] == "failed"
    assert (result.stated, result.reasons) == (
        "INCONCLUSIVE", ("artifact: its negative control failed, so it makes no claim",)
    )  # fmt: skip


def test_one_record_among_few_is_refused(folder: Path) -> None:
    (folder / "ids.txt").write_text(request_ids(folder)[0] + "\n")
    with pytest.raises(ConfigError, match="with so few the negative control can never fail; hold out more records"):
        audited(folder)


def test_one_record_among_many_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "config"))
    folder = write_project(tmp_path / "project", training=MLP, forget=1)
    stored = np.load(folder / "data.npz")
    ids = [f"new-{row:03d}" for row in range(330)]
    x = np.random.default_rng(5).normal(size=(330, 24)).astype(np.float32)
    y = np.arange(330) % 3
    np.savez(folder / "data.npz", x=np.vstack([stored["x"], x]), y=np.append(stored["y"], y),
             ids=np.append(stored["ids"], ids))  # fmt: skip
    (folder / "never.txt").write_text("\n".join(ids) + "\n")
    settings = (folder / "cu-cert.toml").read_text()
    (folder / "cu-cert.toml").write_text(
        settings.replace('source = "data.npz"', 'source = "data.npz"\nholdout = "never.txt"')
    )
    train_model(load_project(folder / "cu-cert.toml"), folder / "model.pt")
    result = audited(folder)
    assert claim(result, "c-p-artifact")["permutations"] == 110
    assert claim(result, "c-neg-artifact")["outcome"] in ("sound", "failed")
    assert not any("auc" in found["id"] for found in result.predicate["claims"])
    assert "artifact" not in result.predicate["plots"]


# Plan and proxies


def test_a_larger_request_gets_fewer_permutations(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert claim(audited(folder), "c-p-artifact")["permutations"] == 9999
    monkeypatch.setattr(no_retrain, "EASY_DRAWS", 20 * 1500)
    assert claim(audited(folder), "c-p-artifact")["permutations"] == 1500
    monkeypatch.setattr(no_retrain, "EASY_DRAWS", 20)
    assert claim(audited(folder), "c-p-artifact")["permutations"] == 999
    monkeypatch.setattr(no_retrain, "MAX_DRAWS", 20 * 150)
    assert claim(audited(folder), "c-p-artifact")["permutations"] == 150


def test_the_proxy_sees_a_bounded_balanced_choice_of_kept_records(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = small([0] * 50 + [1] * 5 + [2] * 45, "r")
    assert no_retrain._proxy_ids(kept, np.array([1])) == list(kept.ids)
    monkeypatch.setattr(no_retrain, "MOST_KEPT", 21)
    chosen = no_retrain._proxy_ids(kept, np.array([1]))
    assert len(set(chosen)) == 21
    assert np.bincount(kept.select(chosen).y).tolist() == [8, 5, 8]
    assert no_retrain._proxy_ids(kept, np.array([1])) == chosen
    monkeypatch.setattr(no_retrain, "MOST_KEPT", 2)
    assert 1 in kept.select(no_retrain._proxy_ids(kept, np.array([1]))).y
    assert MOST_KEPT > 21


# The command


def command(folder: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.chdir(folder)
    return run(["audit", "model.pt", "--forget", "ids.txt", "--no-retrain", *more])


def test_the_command_prints_plan_and_verdict(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(folder, monkeypatch, "--original", "model.pt") == 0
    out = capsys.readouterr().out
    assert "no model is trained; 20 records of the request against" in out
    assert NEVER_CLEARS in out
    assert out.splitlines()[-1] == "verdict      REFUTED"
    found = check_file(folder / "audit-out" / "report.html")
    assert found.derived == "REFUTED"
    assert predicate_of(folder / "audit-out")["verdict"]["value"] == "REFUTED"


def test_the_command_in_json_and_dry(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(folder, monkeypatch, "--json", "--no-sign") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["models"], found["trained"], found["signed"], found["derived"]) == (0, 0, False, "REFUTED")
    assert found["resolution"] == [
        {"question": "artifact", "testedEps": "0.5000", "maxEps": "6.2146", "accuracy": None, "powerReached": True}
    ]
    shutil.rmtree(folder / "audit-out")
    assert command(folder, monkeypatch, "--dry-run") == 0
    assert not (folder / "audit-out").exists()
    assert "dry run" in capsys.readouterr().out


def test_the_command_refuses_a_budget(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(folder, monkeypatch, "--budget", "5") == 2
    assert "--no-retrain: trains no model; leave out --budget" in capsys.readouterr().err
