"""The store between versions, machines and workers: its format, a copy elsewhere, members as bytes, many at once."""

import errno
import json
import os
import pickle
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_fleet import FAILS, OPTIONS, bits, edited, run, several, trained, workshop

from cu_cert.errors import DataError, EnvironmentProblem
from cu_cert.fleet.store import Store

# The format, and another machine


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"schema": "cu-cert-store/2"}', "reads stores up to cu-cert-store/1; use the version that made it"),
        (b'{"schema": "cu-cert-store/0"}', "reads stores up to cu-cert-store/1"),
        (b'{"schema": "something else"}', "'something else'; this cu-cert reads stores up to"),
        (b"", "damaged"),
        (b"[]", "damaged"),
        (b'{"schema": 1}', "damaged"),
        (b"[" * 10**5, "damaged"),
    ],
)
def test_a_store_of_a_newer_version_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    shop = workshop(tmp_path)
    run([trained(1)], shop)
    assert json.loads((tmp_path / "store.json").read_bytes()) == {"schema": "cu-cert-store/1"}
    (tmp_path / "store.json").write_bytes(content)
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "store.json"))) as error:
        run([trained(2)], workshop(tmp_path))
    assert said in str(error.value)


def test_a_store_that_was_carried_elsewhere_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = workshop(tmp_path / "here"), workshop(tmp_path / "there")
    members = several()
    run(members, here)
    shutil.copytree(here.store, there.store, copy_function=shutil.copy)  # which sets other times
    for path in there.store.rglob("*"):
        os.utime(path, (10**9, 10**9))
    assert run(members, there) == 0
    assert bits(members, there) == bits(members, here)
    # On a machine whose bits may differ every address is another one.
    with monkeypatch.context() as patch:
        patch.setattr("cu_cert.fleet.worker.fingerprint_digest", lambda: "f" * 64)
        assert not any(workshop(there.store).finished(member) for member in members)


def test_use_is_noted_at_most_once_an_hour(tmp_path: Path) -> None:
    shop, member = workshop(tmp_path), trained(1)
    run([member], shop)
    path = Store(tmp_path).entry_path(shop.identity.key(member))
    for seconds, touched in ((10, False), (3000, False), (4000, True), (-4000, True)):
        then = time.time() - seconds
        os.utime(path, (then, then))
        assert run([member], shop) == 0
        assert (abs(path.stat().st_mtime - then) > 1) == touched


# Many at once


def test_one_look_finds_what_single_looks_find(tmp_path: Path) -> None:
    shop = workshop(tmp_path, options=OPTIONS | {"learning_rate": 1e30})
    sound = workshop(tmp_path)
    run([trained(1), trained(2)], shop)
    run(several(), sound)
    store = Store(tmp_path)
    wanted = {
        one.identity.key(member): one.query_of(member) for one in (shop, sound) for member in (*several(), trained(2))
    }
    cut = sound.identity.key(trained(0))
    next(tmp_path.glob(f"??/{cut}.*.sig")).unlink()
    store.model_path(sound.identity.key(trained(1))).unlink()
    for query in (shop.query, "0" * 64):
        asked = dict.fromkeys(wanted, query)
        slow = {
            key
            for key in asked
            if (entry := store.entry(key)) is not None and (entry.problem or store.signals(key, query) is not None)
        }
        assert store.settled(asked) == slow
        assert slow
    assert store.known() == {path.stem for path in tmp_path.glob("??/*.json")}
    assert store.loadable(wanted) == {key for key in wanted if store.model_path(key).exists()}
    assert Store(tmp_path / "absent").settled(wanted) == Store(tmp_path / "absent").known() == set()


# From store to store


def test_a_member_goes_from_one_store_to_another_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS)
    here, there = (workshop(tmp_path / name, root=str(tmp_path)) for name in ("here", "there"))
    failing = replace(edited(1, trained(1)), method="python:fails:METHOD", options={})
    members = [*several(), failing]
    run(members, here)
    source, target = Store(here.store), Store(there.store)
    for member in (trained(1), *members):
        key = here.identity.key(member)
        bundle = source.export(key, [here.query])
        assert pickle.loads(pickle.dumps(bundle)) == bundle
        assert target.ingest(key, bundle) == source.entry(key)
    assert run(members, there) == 0
    assert bits(members[:-1], there) == bits(members[:-1], here)
    light = source.export(here.identity.key(trained(1)), [], weights=False)
    assert (light.weights, light.signals) == (b"", {})


@pytest.mark.parametrize("part", ["entry", "weights", "signals", "key", "name"])
def test_a_member_that_arrives_damaged_is_refused_whole(tmp_path: Path, part: str) -> None:
    here = workshop(tmp_path / "here")
    run([trained(1)], here)
    key, target = here.identity.key(trained(1)), Store(tmp_path / "there")
    bundle = Store(here.store).export(key, [here.query])
    if part == "entry":
        bundle = replace(bundle, entry=bundle.entry.replace(b"original", b"0riginal"))
    elif part == "weights":
        bundle = replace(bundle, weights=bundle.weights[:-1])
    elif part == "signals":
        bundle = replace(bundle, signals={"0" * 64: bundle.signals[here.query]})
    else:
        key = "0" * 64 if part == "key" else "../../" + key[6:]
    with pytest.raises(DataError, match=r"as it arrived: .*make (it|the model) again"):
        target.ingest(key, bundle)
    assert not list((tmp_path / "there").rglob("*.*"))


def test_a_member_that_arrives_with_other_bits_replaces_nothing(tmp_path: Path) -> None:
    here = workshop(tmp_path / "here")
    run([trained(1), trained(2)], here)
    key, other = (here.identity.key(trained(number)) for number in (1, 2))
    source, target = Store(here.store), Store(tmp_path / "there")
    entry = source.entry(other)
    assert entry is not None
    target.put_model(key, here.load(other))
    target.finish(key, replace(entry, file="", size=0))
    before = {path: path.read_bytes() for path in (tmp_path / "there").rglob("*.*")}
    with pytest.raises(DataError, match=r"another model than the one that is here; .*delete .*json"):
        target.ingest(key, source.export(key, [here.query]))
    assert {path: path.read_bytes() for path in (tmp_path / "there").rglob("*.*")} == before


def test_a_member_that_found_no_room_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = workshop(tmp_path / "here")
    run([trained(1)], here)
    key, target = here.identity.key(trained(1)), Store(tmp_path / "there")
    bundle, original = Store(here.store).export(key, [here.query]), os.replace

    def full(source: Any, to: Any) -> None:
        if str(to).endswith(".json") and "store.json" not in str(to):
            raise OSError(errno.ENOSPC, "No space left on device")
        original(source, to)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        target.ingest(key, bundle)
    monkeypatch.undo()
    assert target.entry(key) is None
    assert not list((tmp_path / "there").rglob(".*"))
    target.ingest(key, bundle)
    assert target.entry(key) is not None


@pytest.mark.parametrize("part", ["entry", "weights", "signals", "cut"])
def test_what_is_not_whole_is_not_exported(tmp_path: Path, part: str) -> None:
    here = workshop(tmp_path)
    run([trained(1)], here)
    key, store = here.identity.key(trained(1)), Store(tmp_path)
    path = {"entry": store.entry_path(key), "signals": next(tmp_path.glob("??/*.sig"))}.get(part, store.model_path(key))
    if part == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    with pytest.raises(DataError, match=re.escape(str(path))):
        store.export(key, [here.query])
