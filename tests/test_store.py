"""The store: failed runs, damaged files, a full disk. What is no failure of a run is never kept as one."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_fleet import FAILS, OPTIONS, bits, edited, run, several, trained, workshop
from small_project import SMALLEST, store_of, write_project

from cu_cert.cli.main import run as cli
from cu_cert.errors import ConfigError, DataError, EnvironmentProblem
from cu_cert.fleet._store_entry import Damaged
from cu_cert.fleet._store_signals import read_signals, signals_bytes
from cu_cert.fleet.environment import code_digest
from cu_cert.fleet.plan import in_cohorts
from cu_cert.fleet.store import Store
from cu_cert.model_file import load_state
from cu_cert.signals import Signals
from cu_certificates.errors import UsageError

# Failed runs


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
    assert not list(tmp_path.glob("??/*.json"))


# Damage: found when it is read, moved aside with a warning, and made again


def aside(root: Path) -> list[str]:
    return sorted(path.name.rsplit(".", 1)[0] for path in (root / "damaged").glob("*"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[" * 10**5, "no JSON"),
        (b"[]", "holds a list, no object"),
        (b"7", "holds a int, no object"),
        (b'{"model":"ab"}', "it lacks seconds, engine, environment"),
        (b"\xff\xfe", "no JSON"),
        (b'{"other":1}', "it lacks model, seconds, engine, environment"),
        (b" " * (1 << 20) + b"{}", "more than 1048576 bytes"),
        (b'{"model":"ab","seconds":NaN,"engine":"e","environment":"f"}', "seconds is a float"),
        (b'{"model":"ab","seconds":true,"engine":"e","environment":"f"}', "seconds is a bool, expected float"),
        (b'{"model":"","seconds":1,"engine":"e","environment":"f"}', "it holds neither a model nor a failed run"),
        (b'{"model":"ab","seconds":1,"engine":"e","environment":"f","problem":"g"}', "it holds both"),
    ],
)
def test_a_damaged_entry_counts_as_missing_and_is_made_again(
    tmp_path: Path, content: bytes, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    shop, member = workshop(tmp_path), trained(1)
    run([member], shop)
    before = bits([member], shop)
    path = Store(tmp_path).entry_path(shop.identity.key(member))
    path.write_bytes(content)
    assert run([member], shop) == 1
    assert bits([member], shop) == before
    assert aside(tmp_path) == [path.name]
    (warning,) = caplog.messages
    assert said in warning
    assert str(path) in warning
    assert "what it held is made again" in warning


@pytest.mark.parametrize("name", ["model", "seconds", "label", "key"])
def test_an_entry_with_another_value_does_not_fit_its_digest(tmp_path: Path, name: str) -> None:
    shop, member = workshop(tmp_path), trained(1)
    run([member], shop)
    path = Store(tmp_path).entry_path(shop.identity.key(member))
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps(document | {name: 7.5 if name == "seconds" else "ab"}))
    assert Store(tmp_path).entry(path.stem) is None
    assert aside(tmp_path) == [path.name]


def test_files_that_were_exchanged_are_found(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    shop, members = workshop(tmp_path), [trained(1), trained(2)]
    run(members, shop)
    before = bits(members, shop)
    for suffix in (".json", f".{shop.query[:16]}.sig"):
        first, second = (tmp_path / key[:2] / f"{key}{suffix}" for key in map(shop.identity.key, members))
        content = first.read_bytes(), second.read_bytes()
        first.write_bytes(content[1])
        second.write_bytes(content[0])
        assert run(members, shop) == 2
        assert bits(members, shop) == before
    assert sum("it belongs to another model" in message for message in caplog.messages) == 2
    assert sum("damaged, or of another model" in message for message in caplog.messages) == 2


def test_entries_of_older_versions_are_read(tmp_path: Path) -> None:
    shop, member = workshop(tmp_path), trained(1)
    run([member], shop)
    store, key = Store(tmp_path), shop.identity.key(member)
    entry = store.entry(key)
    assert entry is not None
    old = {name: getattr(entry, name) for name in ("model", "seconds", "engine", "environment", "problem")}
    store.entry_path(key).write_text(json.dumps(old, sort_keys=True))
    (tmp_path / "store.json").unlink()
    assert run([member], shop) == 0
    found = Store(tmp_path).entry(key)
    assert found is not None
    assert (found.model, found.kind, found.file) == (entry.model, "", "")
    assert (entry.kind, entry.label, entry.recipe, entry.code) == (
        "original",
        "model 1",
        shop.recipe.digest,
        code_digest(),
    )
    assert entry.size == store.model_path(key).stat().st_size
    assert entry.created.endswith("Z")
    # What a newer version adds to an entry is left out.
    store.entry_path(key).write_text(json.dumps(old | {"later": [1]}))
    assert store.entry(key) == found


@given(
    margin=hnp.arrays(np.float64, st.integers(0, 30), elements=st.floats(allow_nan=True)),
    number=st.integers(0, 2**30 - 1),
    query=st.text("0123456789abcdef", max_size=64),
)
def test_signals_are_read_as_they_were_written(margin: npt.NDArray[np.float64], number: int, query: str) -> None:
    correct = np.array([number >> row & 1 for row in range(len(margin))], dtype=bool)
    written = Signals(margin, correct)
    data = signals_bytes("ab", query, written)
    for asked in (query, None):
        found = read_signals(data, "ab", asked)
        assert found.margin.tobytes() == margin.tobytes()
        np.testing.assert_array_equal(found.correct, correct)
        assert (found.digest, found.correct.dtype) == (written.digest, np.dtype(bool))
    place = number % len(data)
    for other in (data[:place], data[:place] + bytes([data[place] ^ 1 << number % 8]) + data[place + 1 :]):
        with pytest.raises(Damaged):
            read_signals(other, "ab", None)
    with pytest.raises(Damaged, match="of another model"):
        read_signals(data, "ac", query)
    with pytest.raises(Damaged, match="it answers another query"):
        read_signals(data, "ab", query + "0")


@pytest.mark.parametrize("cut", [0, 1, 51, 100, -40, "more", "flip", "query"])
def test_damaged_signals_are_measured_again(tmp_path: Path, cut: Any, caplog: pytest.LogCaptureFixture) -> None:
    shop, member = workshop(tmp_path), trained(1)
    run([member], shop)
    before = bits([member], shop)
    (path,) = tmp_path.glob("??/*.sig")
    whole = path.read_bytes()
    if cut == "more":
        path.write_bytes(whole + b"0")
    elif cut == "flip":
        path.write_bytes(whole[:150] + bytes([whole[150] ^ 1]) + whole[151:])
    elif cut == "query":
        found = Store(tmp_path).signals(path.name[:64], shop.query)
        assert found is not None
        path.write_bytes(signals_bytes(path.name[:64], shop.query[:-1] + "x", found))
    else:
        path.write_bytes(whole[:cut])
    assert run([member], shop) == 1
    assert path.read_bytes() == whole
    assert bits([member], shop) == before
    assert aside(tmp_path) == [path.name]
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("how", ["missing", "cut", "exchanged"])
def test_a_damaged_parent_is_made_again_with_the_same_bits(tmp_path: Path, how: str, together: bool) -> None:
    shop = workshop(tmp_path)
    parent, neighbour = in_cohorts([trained(1), trained(2)], 2 if together else 1)
    run([parent, neighbour], shop)
    before = bits([parent, neighbour], shop)
    store = Store(tmp_path)
    path, other = (store.model_path(shop.identity.key(one)) for one in (parent, neighbour))
    untouched = other.stat().st_mtime_ns
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-300] if how == "cut" else other.read_bytes())
    child = edited(1, parent)
    assert run([child], shop) == 1
    assert bits([parent, neighbour], shop) == before
    assert other.stat().st_mtime_ns == untouched
    assert aside(tmp_path) == ([] if how == "missing" else [path.name])
    assert load_state(path)


RESTLESS = """
import os

import torch


class Restless:
    def build(self, seed):
        return torch.nn.Linear(6, 3)

    def train(self, model, records, rng):
        with torch.no_grad():
            model.bias[0] = os.stat(__file__).st_mtime
        return model
"""


def test_a_model_that_cannot_be_made_again_is_one_clear_error(tmp_path: Path) -> None:
    source = tmp_path / "restless.py"
    source.write_text(RESTLESS)
    shop = workshop(tmp_path / "store", recipe="python:restless:Restless", options={}, root=str(tmp_path))
    parent = trained(1)
    run([parent], shop)
    path = Store(shop.store).model_path(shop.identity.key(parent))
    path.unlink()
    os.utime(source, (10**9, 10**9))
    with pytest.raises(DataError, match="made again they have other bits; the recipe does not repeat itself") as error:
        run([edited(1, parent)], shop)
    assert str(Store(shop.store).entry_path(path.stem)) in str(error.value)
    assert not path.exists()


def test_a_damaged_file_that_cannot_be_moved_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, member = workshop(tmp_path), trained(1)
    run([member], shop)
    path = Store(tmp_path).entry_path(shop.identity.key(member))
    path.write_bytes(b"{")

    def refused(source: Any, target: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(DataError, match=r"damaged \(no JSON.*cannot be moved aside.*delete this file and run again"):
        run([member], shop)


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
    assert not list(tmp_path.glob("??/*.json"))
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
    # Seven files are the mark of the store and two models.
    entries = [Store(tmp_path).entry(path.stem) for path in tmp_path.glob("??/*.json")]
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
    assert "the disk is full; free some space and run the same command again (" in said.err
    assert said.err.endswith(" models are finished and kept)\n")
    assert len(said.err.splitlines()) == 1
    made, measured = (len(list(store_of(folder).glob(f"*/*.{kind}"))) for kind in ("json", "sig"))
    assert made >= 33
    assert 16 <= measured <= made
    monkeypatch.setattr(os, "replace", original)
    assert cli(command) == 0
    outcome = json.loads(capsys.readouterr().out)
    # Cohorts may hold more models than the plan counts, so what lies in the store is counted.
    total = len(list(store_of(folder).glob("*/*.json")))
    assert total >= outcome["models"]
    assert outcome["trained"] == total - measured


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
    with pytest.raises(EnvironmentProblem, match=r"worker process died \(exit code 137\), 3 times.*\(\d of 4 "):
        run(members, shop, workers=2)
    kept = sum(shop.finished(member) for member in members[:2])
    assert not any(shop.finished(member) for member in members[2:])
    deadly.unlink()
    assert run(members, shop) == 4 - kept
