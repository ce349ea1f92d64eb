"""Shadows in an audit: trained once for all requests, read by columns, used only where that is sound."""

import dataclasses
import hashlib
import json
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_fleet import FORGET, OUTSIDE, TRAIN, workshop
from small_fleet import run as trained_now
from small_project import LOGISTIC, SMALLEST, fix_secrets, predicate_of, store_of, write_project

from cu_cert._shadow_panel import never_in
from cu_cert._shadows_at_hand import AtHand
from cu_cert.cli.main import run
from cu_cert.data import load_records
from cu_cert.errors import DataError
from cu_cert.fleet.plan import Half, Member
from cu_cert.fleet.store import Entry, Store
from cu_cert.fleet.worker import Workshop
from cu_cert.forget import read_ids, resolve_request
from cu_cert.project import load_project
from cu_cert.protocol import workshop_of
from cu_cert.records import Records, make_records
from cu_cert.release import Release
from cu_cert.secrets_store import FOLDER, Secrets
from cu_cert.shadows import read_shadows
from cu_cert.signals import Signals

SEED = "cd" * 32
RELEASE = Release(SEED)


def inside_of(ids: tuple[str, ...], pairs: int) -> np.ndarray[Any, Any]:
    """Which model holds which record, by the definition of a half."""
    rows = []
    for pair in range(pairs):
        key = bytes.fromhex(SEED) + pair.to_bytes(8, "big")
        bits = [hashlib.blake2b(name.encode(), key=key, digest_size=1).digest()[0] % 2 for name in ids]
        rows += [[bit == side for bit in bits] for side in (0, 1)]
    return np.array(rows)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workshop, tuple[Member, ...], dict[str, set[str]]]:
    """Eight shadows that learn by heart, and the ids that each was trained on."""
    options: dict[str, object] = {"hidden": [24], "epochs": 60, "batch_size": 8, "learning_rate": 0.1}
    shop = workshop(tmp_path_factory.mktemp("learned"), options=options)
    members = RELEASE.shadows(8)
    seen: list[set[str]] = []
    recipe, train = shop.recipe, type(shop.recipe).train

    def watched(self: Any, records: Records, **options: Any) -> Any:
        seen.append(set(records.ids))
        return train(self, records, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(recipe), "train", watched)
        assert trained_now(members, shop) == 8
    return shop, members, {member.label: seen[at] for at, member in enumerate(members)}


# --- Reading ---------------------------------------------------------------------------------------------------------


def test_columns_and_halves_are_those_of_the_models(
    learned: tuple[Workshop, tuple[Member, ...], dict[str, set[str]]],
) -> None:
    shop, members, seen = learned
    found = read_shadows(shop, members)
    ids = (*sorted(FORGET), *OUTSIDE.ids)
    assert (found.inside == inside_of(ids, 4)).all()
    for row, member in enumerate(members):
        assert [name in seen[member.label] for name in ids] == found.inside[row].tolist()
        model = shop.load(shop.identity.key(member))
        assert found.margin[row] == pytest.approx(shop.measure(model).margin, abs=1e-4)
        assert found.models[row] == Store(shop.store).entry(shop.identity.key(member)).model  # type: ignore[union-attr]
    assert seen["shadow 0"] | seen["shadow 1"] == {*TRAIN.ids, *OUTSIDE.ids}
    assert not seen["shadow 0"] & seen["shadow 1"]
    within, out = never_in(found.margin, ~found.inside), never_in(found.margin, found.inside)
    assert (within - out).mean() > 1, "a mask that is swapped, or a half that was trained on the wrong side"


def test_another_request_reads_other_columns_of_the_same_models(
    learned: tuple[Workshop, tuple[Member, ...], dict[str, set[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, members, _ = learned
    other = dataclasses.replace(shop, forget=TRAIN.ids[12:17])
    monkeypatch.setattr(Workshop, "load", lambda self, key: pytest.fail("a shadow's weights were loaded"))
    assert trained_now(members, other) == 0
    one, two = read_shadows(shop, members), read_shadows(other, members)
    assert one.models == two.models
    assert (one.margin[:, len(FORGET) :] == two.margin[:, 5:]).all()
    whole = Store(shop.store).signals(shop.identity.key(members[3]), shop.query_of(members[3]))
    assert whole is not None
    assert (two.margin[3, :5] == whole.margin[shop.universe.positions(TRAIN.ids[12:17])]).all()


def test_a_pair_of_which_a_model_failed_is_left_out_whole(
    learned: tuple[Workshop, tuple[Member, ...], dict[str, set[str]]], tmp_path: Path
) -> None:
    shop, members, _ = learned
    other = dataclasses.replace(shop, store=tmp_path / "store")
    store, old = Store(other.store), Store(shop.store)
    for at, member in enumerate(members):
        key, query = shop.identity.key(member), shop.query_of(member)
        entry, signals = old.entry(key), old.signals(key, query)
        assert entry is not None
        assert signals is not None
        if at == 2:
            entry = dataclasses.replace(entry, model="", problem="diverged")
        else:
            margin = (
                np.where(np.arange(len(signals.margin)) == 0, np.nan, signals.margin) if at == 7 else signals.margin
            )
            store.put_signals(key, query, Signals(margin, signals.correct))
        store.finish(key, entry)
    found, all_ = read_shadows(other, members), read_shadows(shop, members)
    rows = [0, 1, 4, 5]
    assert found.models == tuple(all_.models[row] for row in rows)
    assert (found.margin == all_.margin[rows]).all()
    assert (found.inside == all_.inside[rows]).all()
    assert found.planned == 8
    assert found.lines() == ["4 of 8 shadows failed, or the other half of their pair did: 4 others serve the attacks"]


def test_what_is_no_pair_or_not_there_is_refused(
    learned: tuple[Workshop, tuple[Member, ...], dict[str, set[str]]], tmp_path: Path
) -> None:
    shop, members, _ = learned
    for wrong in (
        (members[0], members[2]),
        (members[1], members[0]),
        (members[0], members[0]),
        (members[1], Member(label="shadow 1", records=str(Half("ef" * 32, 0, 1)), seed=members[1].seed)),
        (Member(label="x", records="all", seed=SEED), Member(label="y", records="all", seed=SEED)),
    ):
        with pytest.raises(DataError, match="not the two halves of one pair"):
            read_shadows(shop, wrong)
    with pytest.raises(DataError, match=r"\(shadow 0\) is gone; run again"):
        read_shadows(dataclasses.replace(shop, store=tmp_path / "empty"), members)


def test_one_model_is_in_memory_at_a_time(tmp_path: Path) -> None:
    size, count = 20_000, 40
    ids = [f"r{number:05d}" for number in range(size)]
    records = make_records(ids, np.zeros((size, 1)), np.arange(size) % 3, ["a", "b", "c"])
    train, outside = records.without(ids[:30]), records.select(ids[:30])
    shop = workshop(tmp_path, train=train, held_out=outside, forget=tuple(ids[100:120]))
    members, store = RELEASE.shadows(count), Store(shop.store)
    rng = np.random.default_rng(1)
    for at, member in enumerate(members):
        key = shop.identity.key(member)
        store.put_signals(key, shop.query_of(member), Signals(rng.normal(size=size), np.ones(size, dtype=bool)))
        store.finish(key, Entry(model=f"{at:064x}", seconds=1.0, engine="single", environment=""))
    tracemalloc.start()
    found = read_shadows(shop, members)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.margin.shape == (40, 50)
    # All of them are 6.4 MB.
    assert most < 2.5e6


# --- In an audit -----------------------------------------------------------------------------------------------------

NAMES = ("lira-online", "lira-online-nig", "lira-halves", "rmia-online", "rmia-halves")


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A project with twelve shadows, one audit of an original done; and what that audit said."""
    base = tmp_path_factory.mktemp("audited")
    folder = write_project(base / "project", **(SMALLEST | {"more": SMALLEST["more"] + "\nshadows = 12"}))
    fix_secrets(folder, "test_shadows")
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CU_CERT_CONFIG", str(base / "config"))
        patch.delenv("CU_CERT_STORE", raising=False)
        patch.chdir(folder)
        assert run(["train", "-o", "model.pt"]) == 0
        argument = ["audit", "model.pt", "--forget", "ids.txt", "--method", "npo", "--original", "model.pt"]
        with pytest.MonkeyPatch.context() as listening:
            listening.setattr("typer.echo", lambda text="", **_: said.append(str(text)))
            assert run(argument) == 0
        yield folder, "\n".join(said)


def claims_of(out: Path) -> dict[str, dict[str, Any]]:
    return {claim["id"]: claim for claim in predicate_of(out)["claims"]}


def shadow_files(folder: Path) -> set[str]:
    """Addresses of the models that stand in a store."""
    return {path.stem for path in store_of(folder).glob("??/*.json")}


def test_an_audit_shows_what_shadows_allow(audited: tuple[Path, str]) -> None:
    folder, _ = audited
    claims = claims_of(folder / "audit-out")
    for name in NAMES:
        for suffix in ("", "-before"):
            assert {f"m-auc-{name}{suffix}", f"m-tpr-{name}-10{suffix}", f"m-tpr-{name}-1{suffix}"} <= set(claims)
        assert "fitted on 12 models of random halves" in claims[f"m-auc-{name}"]["note"]
        # The audited model and the one before are the same file here.
        assert claims[f"m-auc-{name}"]["value"] == claims[f"m-auc-{name}-before"]["value"]
    assert "m-auc-lira-online-shadows" in claims
    assert {"m-auc-lira", "m-auc-rmia"} <= set(claims), "the panel of never-in models stays"
    plot = predicate_of(folder / "audit-out")["plots"]["roc-halves"]
    assert [one["label"] for one in plot["series"]] == [
        "LiRA (online, pooled variance)",
        "LiRA (online, shrunk variance)",
        "LiRA (offline, from halves)",
        "RMIA (online)",
        "RMIA (offline, from halves)",
    ]
    assert plot["band"]["label"] == "LiRA (online, pooled variance)"


def test_the_forecast_and_a_budget_count_shadows(audited: tuple[Path, str], capsys: pytest.CaptureFixture[str]) -> None:
    folder, said = audited
    settings = (folder / "cu-cert.toml").read_text()

    def number(text: str, behind: str) -> int:
        found = re.search(rf"([0-9]+) {behind}", text)
        assert found is not None, text
        return int(found[1])

    argument = ["audit", "model.pt", "--forget", "ids.txt", "--method", "npo", "--dry-run"]
    assert run([*argument, "--budget", "5"]) == 2
    refused = capsys.readouterr().err
    assert "plan fewer pilots, controls or shadows in [audit]" in refused
    try:
        (folder / "cu-cert.toml").write_text(settings.replace("shadows = 12", "shadows = 0"))
        assert run(argument) == 0
        assert number(said, "models, ") == number(capsys.readouterr().out, "models, ") + 12
        assert run([*argument, "--budget", "5"]) == 2
        assert number(refused, "models; raise") == number(capsys.readouterr().err, "models; raise") + 12
    finally:
        (folder / "cu-cert.toml").write_text(settings)


def test_a_second_request_trains_no_shadow_and_loads_none(
    audited: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = audited
    first = set((folder / "ids.txt").read_text().split())
    train = load_records(load_project(folder / "cu-cert.toml").data, folder).train
    (folder / "other.txt").write_text("\n".join([name for name in train.ids if name not in first][:15]) + "\n")
    before, made, loaded = shadow_files(folder), [], []
    make, load = Workshop.make, Workshop.load

    def watched(self: Workshop, member: Member) -> None:
        made.append(member)
        make(self, member)

    def watched_load(self: Workshop, key: str) -> Any:
        loaded.append(key)
        return load(self, key)

    monkeypatch.setattr(Workshop, "make", watched)
    monkeypatch.setattr(Workshop, "load", watched_load)
    assert run(["audit", "model.pt", "--forget", "other.txt", "--method", "npo", "--out", "second", "--json"]) == 0
    assert made
    assert not [member.label for member in made if Half.parse(member.records) is not None]
    assert len(shadow_files(folder)) > len(before)
    one, two = claims_of(folder / "audit-out"), claims_of(folder / "second")
    assert {f"m-auc-{name}" for name in NAMES} <= set(two)
    assert two["m-auc-lira-online"]["value"] != one["m-auc-lira-online"]["value"]
    shared = (folder / "second" / "evidence" / "shared.jsonl").read_text().splitlines()
    named = {json.loads(line)["model"] for line in shared if '"shadow"' in line}
    assert len(named) == 12
    store = Store(store_of(folder))
    assert not named & {entry.model for key in loaded if (entry := store.entry(key)) is not None}


def test_without_retraining_finished_shadows_are_used(
    audited: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = audited
    monkeypatch.setattr(Workshop, "make", lambda self, member: pytest.fail("a model was trained"))
    argument = ["audit", "model.pt", "--forget", "ids.txt", "--no-retrain", "--original", "model.pt"]
    assert run([*argument, "--out", "quick"]) == 0
    said = capsys.readouterr().out
    assert "12 shadows are in the store; the attacks on single records use them as well" in said
    quick, full = claims_of(folder / "quick"), claims_of(folder / "audit-out")
    for name in NAMES:
        for key in (f"m-auc-{name}", f"m-tpr-{name}-10", f"m-low-{name}-10", f"m-auc-{name}-before"):
            assert quick[key] == full[key]
    assert "roc-halves" in predicate_of(folder / "quick")["plots"]
    assert (folder / "quick/evidence/shared.jsonl").read_text().count('"role":"shadow"') == 12


def test_without_retraining_missing_shadows_are_named(
    audited: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, _ = audited
    monkeypatch.setenv("CU_CERT_STORE", str(tmp_path / "empty"))
    assert run(["audit", "model.pt", "--forget", "ids.txt", "--no-retrain", "--out", "bare"]) == 0
    said = capsys.readouterr().out
    assert "[audit] shadows = 12: the store has 0 of them and none is trained here" in said
    assert "cu-cert fleet train makes them" in said
    assert not [name for name in claims_of(folder / "bare") if "halves" in name or "online" in name]
    assert "sharing" not in predicate_of(folder / "bare")
    assert run(["fleet", "train", "--originals", "0", "--json"]) == 0
    capsys.readouterr()
    assert run(["audit", "model.pt", "--forget", "ids.txt", "--no-retrain", "--out", "after"]) == 0
    assert "12 shadows are in the store" in capsys.readouterr().out
    assert "m-auc-lira-online" in claims_of(folder / "after")


def test_a_project_without_shadows_is_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_project(tmp_path / "project", **SMALLEST | {"training": LOGISTIC})
    monkeypatch.chdir(folder)
    assert run(["train", "-o", "model.pt"]) == 0
    assert run(["audit", "model.pt", "--forget", "ids.txt", "--no-retrain", "--json"]) == 0
    found = predicate_of(folder / "audit-out")
    assert "roc-halves" not in found["plots"]
    assert not [claim["id"] for claim in found["claims"] if "halves" in claim["id"] or "online" in claim["id"]]


def test_a_shadow_that_is_audited_is_not_judged_by_itself(audited: tuple[Path, str]) -> None:
    folder, _ = audited
    project = load_project(folder / "cu-cert.toml")
    dataset = load_records(project.data, folder)
    shop = workshop_of(project, dataset, resolve_request(read_ids(folder / "ids.txt"), dataset, allow_missing=False))
    member = AtHand.of(project, shop, Secrets(folder / FOLDER)).members[3]
    shadow = Store(shop.store).model_path(shop.identity.key(member))
    (folder / "shadow.pt").write_bytes(shadow.read_bytes())
    assert run(["audit", "shadow.pt", "--forget", "ids.txt", "--no-retrain", "--out", "self", "--json"]) == 0
    note = claims_of(folder / "self")["m-auc-lira-online"]["note"]
    assert "fitted on 10 models of random halves" in note
    assert "of 12 planned ones, without the pairs of which a model failed or is the judged one" in note
