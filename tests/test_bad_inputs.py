"""What a stranger gets wrong: exit code 2, one message that names the place, no traceback, nothing half-written."""

import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import AUDIT, TRAIN, UNLEARN, change, refused
from small_project import write_project

from cu_cert.cli.main import run
from cu_cert.data import load_records
from cu_cert.project import load_project
from cu_cert.training import train_model
from cu_cert.unlearning import unlearn_model

MODEL_OF = {AUDIT: "unlearned.pt", UNLEARN: "model.pt"}

Prepare = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One mistake.

    Args:
        name: For the test's id.
        arguments: The command.
        told: What the message must hold; ``{folder}`` stands for the project's folder.
        prepare: Makes the mistake in the project's folder, which is the working directory.
    """

    name: str
    arguments: Sequence[str]
    told: Sequence[str]
    prepare: Prepare = lambda folder: None

    def __str__(self) -> str:
        return f"{self.arguments[0]}, {self.name}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a model and an unlearned one, to be copied."""
    folder = write_project(tmp_path_factory.mktemp("trained"))
    project = load_project(folder / "cu-cert.toml")
    train_model(project, folder / "model.pt")
    unlearn_model(project, folder / "model.pt", folder / "ids.txt", folder / "unlearned.pt", method="npo")
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one's own, which is also the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "config"))
    return folder


class Trap:
    """Unpickling this object makes the folder ``sprung``."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("sprung",)


def put(name: str, content: str | bytes) -> Prepare:
    """Write a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def without(name: str) -> Prepare:
    """Delete a file."""
    return lambda folder: (folder / name).unlink()


def toml(old: str, new: str) -> Prepare:
    """Change a line of the project file."""
    return lambda folder: change(folder / "cu-cert.toml", old, new)


def saved(name: str, content: object) -> Prepare:
    """Write a model file with torch."""
    return lambda folder: torch.save(content, folder / name)


def other_shapes(name: str) -> Prepare:
    def prepare(folder: Path) -> None:
        state = torch.load(folder / name, weights_only=True)
        torch.save(state | {"1.weight": torch.zeros(7, 24)}, folder / name)

    return prepare


def with_nan(folder: Path) -> None:
    arrays = dict(np.load(folder / "data.npz"))
    arrays["x"][3, 5] = np.nan
    np.savez(folder / "data.npz", **arrays)


def model_cases(verb: tuple[str, ...]) -> list[Case]:
    name = MODEL_OF[verb]
    convolution = torch.nn.Conv2d(1, 2, 3)
    return [
        Case("missing model", verb, (f"{name}: does not exist", "state_dict"), without(name)),
        Case("foreign model", verb, (name, "0.mean", "weight", "recipe"), saved(name, convolution.state_dict())),
        Case("wrong shapes", verb, (name, "1.weight", "7x24", "24x24"), other_shapes(name)),
        Case("whole module", verb, (name, "Conv2d", "model.state_dict()"), saved(name, convolution)),
        Case("trap in an archive", verb, (name, "runs code"), saved(name, {"0.mean": Trap()})),
        Case("trap as a pickle", verb, (name,), put(name, pickle.dumps(Trap()))),
        Case("trap of old", verb, (name,), put(name, pickle.dumps(Trap(), protocol=2))),
        Case("no model at all", verb, (name, "not a PyTorch"), put(name, "hello")),
        Case("empty model", verb, (name,), put(name, "")),
    ]


def request_cases(verb: tuple[str, ...]) -> list[Case]:
    one, two, unknown = "person-000@example", "person-002@example", "person-9999@example"
    twice = put("ids.txt", f"{one}\n{two}\n{one}\n")
    return [
        Case("no list", verb, ("ids.txt", "No such file"), without("ids.txt")),
        Case("empty list", verb, ("ids.txt", "names no id"), put("ids.txt", "\n# nothing\n")),
        Case("unknown id", verb, ("ids.txt:2", f"'{unknown}'"), put("ids.txt", f"{one}\n{unknown}\n")),
        Case("id twice", verb, ("ids.txt:3", f"'{one}'", "line 1"), twice),
        Case("no text", verb, ("ids.txt:1", "UTF-8"), put("ids.txt", b"\xff\xfe\n")),
    ]


def project_cases(verb: tuple[str, ...]) -> list[Case]:
    nearest = ("cu-cert.toml:11", "slotz", "did you mean", "'slots'")
    return [
        Case("no project", verb, ("no cu-cert.toml", "{folder}", "cu-cert init"), without("cu-cert.toml")),
        Case("malformed TOML", verb, ("cu-cert.toml:11", "not valid TOML"), toml("slots = 32", "slots 32")),
        Case("unknown key", verb, nearest, toml("slots = 32", "slotz = 32")),
        Case("unknown recipe key", verb, ("cu-cert.toml:7", "epoch", "epochs"), toml("epochs = 12", "epoch = 12")),
        Case("wrong type", verb, ("cu-cert.toml:11", "whole number"), toml("slots = 32", 'slots = "32"')),
        Case("NaN in the data", verb, ("data.npz", "'person-003@example'", "NaN"), with_nan),
        Case("no data", verb, ("data.npz", "No such file"), without("data.npz")),
    ]


def method_cases(verb: tuple[str, ...]) -> list[Case]:
    npo = (*verb[:4], "--method", "npo", "--set")
    return [
        Case("unknown method", (*verb[:4], "--method", "npoo"), ("npoo", "did you mean npo")),
        Case("unknown parameter", (*npo, "epoch=3"), ("epoch", "npo", "epochs")),
        Case("parameter of another type", (*npo, "epochs=lots"), ("epochs", "'lots'")),
        Case("parameter without a value", (*npo, "epochs"), ("'epochs'", "key=value")),
        Case("parameter twice", (*npo, "a=1", "--set", "a=2"), ("--set a", "twice")),
    ]


FEW_REFERENCES = toml("references = 70", "references = 20")
AUDITS = [
    Case("too few references", AUDIT, ("cu-cert.toml:10", "20 references", "at least 65"), FEW_REFERENCES),
    Case("too few slots", AUDIT, ("cu-cert.toml:10", "slots"), toml("slots = 32", "slots = 4")),
    Case("budget too small", (*AUDIT, "--budget", "5"), ("--budget 5", "models")),
    Case("gate without a signature", (*AUDIT, "--gate", "--no-sign"), ("--gate", "--no-sign")),
    Case("gate after a dry run", (*AUDIT, "--gate", "--dry-run"), ("--gate", "--dry-run")),
    Case("gate without trust", (*AUDIT, "--gate"), ("trust.toml", "cu-cert key trust")),
    Case("a file for a folder", AUDIT, ("'audit-out'", "cannot be made"), put("audit-out", "mine")),
    Case("unknown original", (*AUDIT, "--original", "none.pt"), ("none.pt: does not exist",)),
    Case("parameters without a method", (*AUDIT, "--set", "epochs=1"), ("--set", "--method")),
    Case("unknown way to ask", (*AUDIT, "--procedure", "maybe"), ("--procedure maybe", "none")),
]
OTHERS = [
    Case("no method", UNLEARN[:4], ("no method", "--method", "cu-cert.toml")),
    Case("output over input", (*UNLEARN[:-1], "model.pt"), ("--out model.pt", "another file")),
    Case("no such folder", (*UNLEARN[:-1], "none/new.pt"), ("none/new.pt", "no folder none")),
    Case("no such folder", (*TRAIN[:-1], "none/new.pt"), ("none/new.pt", "no folder none")),
    Case("a folder for a file", (*TRAIN[:-1], "."), ("--out .", "is a folder")),
    Case("a folder for a file", (*UNLEARN[:-1], ".."), ("--out ..", "is a folder")),
    Case("a file for a folder", (*TRAIN[:-1], "data.npz/new.pt"), ("data.npz/new.pt", "no folder data.npz")),
    Case("a project file is there", ("init",), ("cu-cert.toml", "exists already", "--force")),
    Case("no data", ("init", "--force", "--data", "none.csv"), ("none.csv", "No such file")),
    Case("data of another kind", ("init", "--force", "--data", "ids.txt"), ("ids.txt", "a .npz file, a .csv file")),
    Case("other files are there", ("demo", "--out", "."), ("--out .", "holds other files")),
    Case("a file for a folder", ("demo", "--out", "ids.txt"), ("--out ids.txt", "is a file")),
]
CASES = [
    *(case for verb in (AUDIT, UNLEARN) for case in model_cases(verb)),
    *(case for verb in (AUDIT, UNLEARN) for case in request_cases(verb)),
    *(case for verb in (AUDIT, UNLEARN, TRAIN) for case in project_cases(verb)),
    *(case for verb in (AUDIT, UNLEARN) for case in method_cases(verb)),
    *AUDITS,
    *OTHERS,
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_mistake_is_told_in_one_line(case: Case, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case.prepare(project)
    message = refused(case.arguments, project, capsys)
    assert message.startswith("cu-cert: ")
    for needle in case.told:
        assert needle.replace("{folder}", str(project)) in message, message
    assert not (project / "sprung").exists()


def test_the_trap_would_spring(project: Path) -> None:
    pickle.loads(pickle.dumps(Trap()))
    assert (project / "sprung").exists()


@pytest.mark.parametrize("verb", [AUDIT, UNLEARN], ids=lambda verb: verb[0])
def test_a_request_for_all_records_is_refused(
    verb: tuple[str, ...], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained_on = load_records(load_project(project / "cu-cert.toml").data, project).train.ids
    (project / "ids.txt").write_text("\n".join(trained_on))
    message = refused(verb, project, capsys)
    assert f"ids.txt:{len(trained_on)}" in message
    assert f"all {len(trained_on)} training records" in message


@pytest.mark.parametrize("verb", [AUDIT, UNLEARN], ids=lambda verb: verb[0])
def test_a_held_out_id_is_refused(verb: tuple[str, ...], project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = load_records(load_project(project / "cu-cert.toml").data, project)
    (project / "ids.txt").write_text(f"{dataset.train.ids[0]}\n{dataset.holdout[0]}\n")
    assert f"ids.txt:2: id '{dataset.holdout[0]}' is held out" in refused(verb, project, capsys)


def test_nan_in_a_csv_is_told_with_its_line(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "data.csv").write_text("id,label,a\np1,x,1.5\np2,y,nan\np3,x,2\n")
    columns = 'source = "data.csv"\nid_column = "id"\nlabel_column = "label"\nnumeric = ["a"]'
    change(project / "cu-cert.toml", 'source = "data.npz"', columns)
    assert "data.csv:3: id 'p2' has no value in column 'a'" in refused(TRAIN, project, capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere; the cases of a file for a folder remain")
@pytest.mark.parametrize("arguments", [(*AUDIT, "--out", "locked"), (*TRAIN[:-1], "locked/new.pt")])
def test_a_read_only_folder(arguments: tuple[str, ...], project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "locked").mkdir(mode=0o500)
    assert "locked" in refused(arguments, project, capsys)


def test_debug_shows_the_traceback(project: Path) -> None:
    (project / "unlearned.pt").unlink()
    with pytest.raises(Exception, match=r"unlearned\.pt: does not exist"):
        run(["--debug", *AUDIT])
