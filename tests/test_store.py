"""The store: failed runs, damaged files, a full disk. What is no failure of a run is never kept as one."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_fleet import OPTIONS, bits, edited, run, several, trained, workshop
from small_project import SMALLEST, store_of, write_project

from cu_cert.cli.main import run as cli
from cu_cert.errors import ConfigError, DataError, EnvironmentProblem
from cu_cert.fleet.store import Store
from cu_cert.model_file import load_state
from cu_certificates.errors import UsageError

# Failed runs

FAILS = """
from dataclasses import dataclass

from cu_cert.errors import MethodError
from cu_cert.methods import UnlearningMethod, Work


@dataclass(frozen=True)
class Params:
    pass


def work(task):
    with open(__file__ + ".calls", "a") as calls:
        calls.write("x")
    raise MethodError("refused, for a reason of its own")


METHOD = UnlearningMethod(
    name="fails", kind="approximate", guarantee="none", level="EMPIRICAL", needs=frozenset({"original"}),
    paper="none", summary="always refuses", params_type=Params, work=work,
)
"""


def test_a_failed_run_is_kept_as_failed_and_never_tried_again(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS)
    shop = workshop(tmp_path / "store", root=str(tmp_path))
    member = replace(edited(1, trained(1)), method="python:fails:METHOD", options={})
    grandchild = edited(2, member)
    assert run([member, grandchild], shop) == 3
    assert run([member, grandchild], shop) == 0
    assert (tmp_path / "fails.py.calls").read_text() == "x"
    store = Store(tmp_path / "store")
    entry, after = (store.entry(shop.identity.key(one)) for one in (member, grandchild))
    assert entry is not None
    assert (entry.model, entry.problem) == ("", "refused, for a reason of its own")
    assert after is not None
    assert after.problem == "the model to start from failed: refused, for a reason of its own"
    assert not store.model_path(shop.identity.key(member)).exists()


def test_a_diverged_run_is_a_failed_run(tmp_path: Path) -> None:
    shop = workshop(tmp_path, options=OPTIONS | {"learning_rate": 1e30})
    assert run([trained(1)], shop) == 1
    entry = Store(tmp_path).entry(shop.identity.key(trained(1)))
    assert entry is not None
    assert "NaN or infinite after training: it diverged" in entry.problem
    assert run([trained(1)], shop) == 0


def test_changed_code_is_no_failed_run(tmp_path: Path) -> None:
    shop = workshop(tmp_path, recipe_digest="0" * 64)
    with pytest.raises(ConfigError, match="its code was changed while models were trained"):
        run([trained(1)], shop)
    assert not list(tmp_path.rglob("*.json"))


# Damage


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b'{"model":"ab"}', b"\xff\xfe", b'{"other":1}'])
def test_a_damaged_entry_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    shop, member = workshop(tmp_path), trained(1)
    run([member], shop)
    path = Store(tmp_path).entry_path(shop.identity.key(member))
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged store entry .*; delete this file and run again") as error:
        run([member], shop)
    assert str(path) in str(error.value)
    path.unlink()
    assert run([member], shop) == 1


@pytest.mark.parametrize("cut", [0, 1, 100, -40])
def test_damaged_signals_are_one_clear_error(tmp_path: Path, cut: int) -> None:
    shop, member = workshop(tmp_path), trained(1)
    run([member], shop)
    (path,) = tmp_path.rglob("*.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with pytest.raises(DataError, match=r"damaged signals .*; delete this file and run again"):
        run([member], shop)
    path.unlink()
    assert run([member], shop) == 1
    assert path.read_bytes()[:100] == whole[:100]


@pytest.mark.parametrize("how", ["missing", "cut", "exchanged"])
def test_a_damaged_model_stops_the_run_and_fails_no_other(tmp_path: Path, how: str) -> None:
    shop, parent = workshop(tmp_path), trained(1)
    run([parent, trained(2)], shop)
    store = Store(tmp_path)
    path, other = (store.model_path(shop.identity.key(one)) for one in (parent, trained(2)))
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-300] if how == "cut" else other.read_bytes())
    child = edited(1, parent)
    with pytest.raises(DataError, match=r"this model of the store is (missing|damaged); delete .*json and run"):
        run([child], shop)
    assert store.entry(shop.identity.key(child)) is None
    store.entry_path(shop.identity.key(parent)).unlink()
    assert run([child], shop) == 2
    assert load_state(path)


# A full disk


def test_a_model_that_found_no_room_is_no_failed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop, original = workshop(tmp_path), os.open

    def full(path: Any, *rest: Any, **named: Any) -> int:
        if ".pt." in str(path):  # a temporary name: a small file still finds the room that a model does not
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *rest, **named)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        run([trained(1)], shop)
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.json"))
    assert run([trained(1)], shop) == 1


@pytest.mark.parametrize("call", ["replace", "open"])
def test_a_full_disk_stops_with_one_error_and_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    shop, members = workshop(tmp_path), several()
    original, left = getattr(os, call), [7]

    def full(path: Any, *rest: Any, **named: Any) -> Any:
        if str(path).startswith(str(tmp_path)):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        return original(path, *rest, **named)

    monkeypatch.setattr(os, call, full)
    with pytest.raises((EnvironmentProblem, UsageError), match=r"the disk is full; free some space and run the same"):
        run(members, shop)
    monkeypatch.undo()
    # Seven files are two models and the weights of a third.
    entries = [Store(tmp_path).entry(path.stem) for path in tmp_path.rglob("*.json")]
    assert [entry.problem for entry in entries if entry] == ["", ""]
    assert not list(tmp_path.rglob(".*"))
    assert run(members, shop) == len(members) - 2
    fresh = workshop(tmp_path / "fresh")
    run(members, fresh)
    assert bits(members, shop) == bits(members, fresh)


def test_a_full_disk_ends_the_command_with_one_line_and_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_project(tmp_path / "project", **SMALLEST)
    monkeypatch.chdir(folder)
    assert cli(["train"]) == 0
    original, left = os.replace, [100]

    def full(source: Any, target: Any) -> None:
        left[0] -= str(target).startswith(str(store_of(folder)))
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        original(source, target)

    monkeypatch.setattr(os, "replace", full)
    command = ["audit", "model.pt", "--forget", "ids.txt", "--method", "npo", "--json"]
    capsys.readouterr()
    assert cli(command) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("cu-cert: ")
    assert said.err.endswith("the disk is full; free some space and run the same command again\n")
    assert len(said.err.splitlines()) == 1
    kept = len(list(store_of(folder).glob("*/*.json")))
    assert kept >= 33
    monkeypatch.setattr(os, "replace", original)
    assert cli(command) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["models"] - kept <= outcome["trained"] <= outcome["models"] - 33


# A process that dies

DIES = """
import os
import torch


class Dies:
    def build(self, seed):
        return torch.nn.Linear(6, 3)

    def train(self, model, records, rng):
        if len(records) < 34 and os.path.exists(__file__ + ".deadly"):
            os._exit(137)  # as if the system had run out of memory
        return model
"""


def test_a_process_that_dies_stops_the_run_and_keeps_what_is_finished(tmp_path: Path) -> None:
    (tmp_path / "dies.py").write_text(DIES)
    deadly = tmp_path / "dies.py.deadly"
    deadly.touch()
    shop = workshop(tmp_path / "store", recipe="python:dies:Dies", options={}, root=str(tmp_path))
    members = [trained(1), trained(2), trained(3, "retain"), trained(4, "retain")]
    with pytest.raises(EnvironmentProblem, match=r"a worker process died \(\d of 4 models are finished and kept\)"):
        run(members, shop, workers=2)
    kept = sum(shop.finished(member) for member in members[:2])
    assert not any(shop.finished(member) for member in members[2:])
    deadly.unlink()
    assert run(members, shop) == 4 - kept
