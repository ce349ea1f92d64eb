"""Clean-up and facts of the store: what goes first, what stays, and that what is left serves the next run."""

import hashlib
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import SLOW
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fleet import OPTIONS, bits, edited, run, several, trained, workshop

from cu_cert.errors import ConfigError, DataError, EnvironmentProblem
from cu_cert.fleet.housekeeping import Here, clean_store, human_size, parse_size, store_status, survey
from cu_cert.fleet.plan import Member, in_cohorts
from cu_cert.fleet.store import Entry, Store
from cu_cert.fleet.worker import Workshop

KEYS = [hashlib.sha256(bytes([number])).hexdigest() for number in range(40)]
DAY = 86400.0


def put(store: Store, number: int, *, days: float, weights: int = 1000, signals: int = 100, **fields: object) -> str:
    """A model that was last used so many days ago; its files hold so many bytes."""
    key = KEYS[number]
    if not fields.get("problem"):
        store.place(key).write_bytes(b"w" * weights)
        (store.root / key[:2] / f"{key}.{'a' * 16}.sig").write_bytes(b"s" * signals)
    values = {"model": "" if fields.get("problem") else "ab", "kind": "shadow", "environment": "e"} | fields
    store.finish(key, Entry(seconds=1.0, engine="single", **values))  # type: ignore[arg-type]
    then = time.time() - days * DAY
    os.utime(store.entry_path(key), (then, then))
    return key


def there(store: Store, key: str) -> str:
    """What is there of a model: e(ntry), w(eights), s(ignals)."""
    names = {path.suffix for path in store.root.glob(f"??/{key}*")}
    return "".join(letter for letter, suffix in (("e", ".json"), ("w", ".pt"), ("s", ".sig")) if suffix in names)


# Sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("123456", 123456),
        ("10 B", 10),
        ("2GB", 2 * 10**9),
        ("1.5 kb", 1500),
        ("1.5GiB", 3 * 2**29),
        (" 7mib ", 7 * 2**20),
        ("0.3 TB", 3 * 10**11),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "2 gigs", "1,5 GB", "nan", "1 2", "9" * 30, "1GB2", "٣"])
def test_bad_sizes_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape("expected a number with B, KB, MB, GB, TB, KiB, MiB, GiB or TiB")):
        parse_size(text)


@given(st.integers(0, 10**17))
def test_a_size_that_was_written_reads_as_nearly_the_same(size: int) -> None:
    text = human_size(size)
    assert len(text) <= 10
    assert abs(parse_size(text) - size) <= size / 20


# What goes first


def test_weights_go_first_then_models_and_what_was_used_last_stays(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, middle, new = (put(store, number, days=days) for number, days in enumerate((30, 20, 1)))
    size = survey(tmp_path).size
    each = (size - 3300) // 3
    # (bytes that may be left, what is there of each then); an entry counts as used four times as recently.
    for limit, expected in (
        (size, ["ews", "ews", "ews"]),
        (size - 1, ["es", "ews", "ews"]),
        (size - 1001, ["es", "es", "ews"]),
        (size - 2001, ["", "es", "ews"]),
        (size - 2101 - each, ["", "", "ews"]),
        (1000, ["", "", "es"]),
        (0, ["", "", ""]),
    ):
        before = survey(tmp_path).size
        tried = clean_store(tmp_path, limit=limit, dry_run=True)
        assert survey(tmp_path).size == before
        done = clean_store(tmp_path, limit=limit)
        assert done == replace(tried, dry_run=False)
        assert [there(store, key) for key in (old, middle, new)] == expected
        assert done.left == survey(tmp_path).size <= limit
        assert done.freed == before - done.left
    assert clean_store(tmp_path, limit=0).freed == 0
    assert not list(tmp_path.glob("??"))


def test_weights_of_originals_are_worth_more(tmp_path: Path) -> None:
    store = Store(tmp_path)
    original, shadow = put(store, 0, days=30, kind="original"), put(store, 1, days=20)
    clean_store(tmp_path, limit=survey(tmp_path).size - 1)
    assert (there(store, original), there(store, shadow)) == ("ews", "es")


def test_models_that_are_not_made_again_alone_go_whole(tmp_path: Path) -> None:
    store = Store(tmp_path)
    drill, unknown = put(store, 0, days=9, kind="drill"), put(store, 1, days=8, kind="")
    done = clean_store(tmp_path, limit=survey(tmp_path).size - 1)
    assert (there(store, drill), there(store, unknown)) == ("", "ews")
    assert (done.models, done.weights) == (1, 0)


def test_a_cohort_goes_together_and_its_youngest_use_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = [put(store, number, days=number + 1, cohort=KEYS[0]) for number in range(3)]
    second = [put(store, number, days=2, cohort=KEYS[3]) for number in range(3, 6)]
    size = survey(tmp_path).size
    done = clean_store(tmp_path, limit=size - 1)
    assert (done.models, done.weights, done.freed) == (0, 3, 3000)
    assert [there(store, key) for key in (*first, *second)] == ["ews"] * 3 + ["es"] * 3
    assert clean_store(tmp_path, older=1.5).models == 3
    assert [there(store, key) for key in (*first, *second)] == ["ews"] * 3 + [""] * 3


def test_age_alone_removes_whole_models(tmp_path: Path) -> None:
    store = Store(tmp_path)
    keys = [put(store, number, days=days) for number, days in enumerate((9, 11, -3))]
    assert clean_store(tmp_path, older=10).models == 1
    assert [there(store, key) for key in keys] == ["ews", "", "ews"]
    assert clean_store(tmp_path).freed == 0
    assert clean_store(tmp_path, older=0).models == 1  # what was used in the future is new


def test_failed_runs_are_never_forgotten(tmp_path: Path) -> None:
    store = Store(tmp_path)
    failed = [put(store, 0, days=99, problem="diverged"), put(store, 1, days=99, problem="x", cohort=KEYS[2])]
    sound = put(store, 2, days=99, cohort=KEYS[2])
    done = clean_store(tmp_path, limit=0, older=0)
    assert (done.models, there(store, sound)) == (1, "")
    assert [there(store, key) for key in failed] == ["e", "e"]
    assert done.left == survey(tmp_path).size > 0


# Leftovers, and what is not ours


def test_leftovers_of_cut_runs_go_and_everything_else_stays(tmp_path: Path) -> None:
    root, outside = tmp_path / "store", tmp_path / "outside"
    store, key, far = Store(root), KEYS[0], KEYS[1]
    put(store, 0, days=1)
    store.note_seconds("ab" * 32, 1.0)
    outside.mkdir()
    (outside / f"{far}.pt").write_bytes(b"w")
    (root / far[:2]).symlink_to(outside)
    (root / key[:2] / f"{KEYS[2]}.pt").symlink_to(outside / f"{far}.pt")
    ours = [
        root / key[:2] / f".{key}.pt.{'0' * 16}",
        root / key[:2] / f".{key}.{'a' * 16}.sig.{'1' * 16}",
        root / f".store.json.{'2' * 16}",
        root / "timing" / f".{'ab' * 32}.{'3' * 16}",
        root / key[:2] / f"{key[:2]}{'0' * 62}.pt",  # weights without an entry
        root / "damaged" / f"{key}.pt.01234567",
    ]
    foreign = [
        root / "notes.txt",
        root / f"{key}.pt",
        root / key[:2] / "readme",
        root / key[:2] / f"{key}.pt.bak",
        root / key[:2] / f".{key}.pt.{'0' * 15}",
        root / key[:2] / f"{KEYS[3][:1]}{'f' * 63}.pt"[:60],
        root / "damaged" / "mine.txt",
        root / "timing" / "notes",
        root / "zz" / f"{key}.json",
    ]
    for path in (*ours, *foreign):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 10)
        os.utime(path, (10**9, 10**9))
    young = root / key[:2] / f".{key}.json.{'4' * 16}"
    young.write_bytes(b"x")  # somebody may be writing it who holds no lock
    before = {path for path in root.rglob("*") if path.is_file()}
    assert clean_store(root, dry_run=True).leftovers == len(ours)
    done = clean_store(root)
    assert (done.models, done.leftovers, done.freed) == (0, len(ours), 10 * len(ours))
    assert {path for path in root.rglob("*") if path.is_file()} - {root / "locks" / "store"} == before - set(ours)
    clean_store(root, limit=0, older=0)
    left = {path for path in root.rglob("*") if path.is_file()}
    assert left >= {*foreign, young, root / "store.json", root / "timing" / ("ab" * 32)}
    assert (outside / f"{far}.pt").exists()
    assert store.entry(key) is None


def test_a_folder_that_is_no_store_is_refused(tmp_path: Path) -> None:
    assert clean_store(tmp_path / "absent", limit=0).freed == 0
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match=r"is no store of cu-cert \(it has no store.json\), so nothing is removed"):
        clean_store(tmp_path, limit=0)
    (tmp_path / "store.json").write_text('{"schema": "cu-cert-store/9"}')
    with pytest.raises(DataError, match="reads stores up to"):
        clean_store(tmp_path, limit=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["letter.txt", "store.json"]


def test_a_file_that_cannot_be_removed_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(Store(tmp_path), 0, days=9)

    def refused(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".json":
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refused)
    with pytest.raises(EnvironmentProblem, match=r"\.json: cannot be removed \(Permission denied\)"):
        clean_store(tmp_path, older=1)


# What is left serves the next run


def fleet(shop: Workshop) -> list[Member]:
    """Members of all sorts, two cohorts among them, and edits of a model of one."""
    originals = list(in_cohorts([trained(number) for number in range(20, 24)], 2))
    return [*several(), *originals, edited(30, originals[1]), edited(31, originals[1], "npo")]


def aged(shop: Workshop, days: list[int]) -> None:
    for path, age in zip(sorted(shop.store.glob("??/*.json")), days, strict=False):
        then = time.time() - age * DAY
        os.utime(path, (then, then))


@settings(max_examples=30 if SLOW else 6)
@given(
    days=st.lists(st.integers(0, 40), min_size=16, max_size=16),
    share=st.floats(0, 1),
    older=st.one_of(st.none(), st.integers(0, 40)),
)
def test_after_any_clean_up_the_next_run_has_the_same_bits(
    tmp_path_factory: pytest.TempPathFactory, days: list[int], share: float, older: int | None
) -> None:
    shop = workshop(tmp_path_factory.mktemp("store"))
    members = fleet(shop)
    run(members, shop)
    before = bits(members, shop)
    aged(shop, days)
    clean_store(shop.store, limit=int(share * survey(shop.store).size), older=older)
    gone = sum(Store(shop.store).entry(shop.identity.key(member)) is None for member in members)
    assert run(members, shop) >= gone
    for member in members:  # another request would edit or measure any of them
        shop.model(member)
    assert bits(members, shop) == before


def test_signals_serve_a_second_audit_after_the_weights_are_gone(tmp_path: Path) -> None:
    shop, members = workshop(tmp_path), several()
    run(members, shop)
    before = bits(members, shop)
    aged(shop, [10] * len(members))
    weights = sum(path.stat().st_size for path in tmp_path.glob("??/*.pt"))
    done = clean_store(tmp_path, limit=survey(tmp_path).size - weights)
    assert (done.weights, done.models, done.freed) == (len(members), 0, weights)
    assert run(members, shop) == 0
    # A new edit makes the weights that it starts from again, and no others.
    child = edited(50, members[0])
    assert run([child], shop) == 1
    assert Store(tmp_path).loadable(map(shop.identity.key, members)) == {shop.identity.key(members[0])}
    for member in members:
        shop.model(member)
    assert bits(members, shop) == before


# What status counts


def test_status_counts_what_is_there_and_what_is_of_use(tmp_path: Path) -> None:
    store, here = Store(tmp_path), Here("r", "c", "e")
    mine = {"recipe": "r", "code": "c"}
    put(store, 0, days=1, kind="original", **mine)
    put(store, 1, days=1, kind="original", **mine)
    put(store, 2, days=1, **mine)
    put(store, 3, days=1, problem="it\x1b[31m diverged", label="slots 3", **mine)
    put(store, 4, days=1, recipe="other", code="c")
    put(store, 5, days=1, recipe="r", code="other")
    put(store, 6, days=1, recipe="r", code="c", environment="other")
    put(store, 7, days=1)
    put(store, 8, days=1, problem="refused", recipe="other", code="c")
    (tmp_path / KEYS[9][:2]).mkdir(exist_ok=True)
    (tmp_path / KEYS[9][:2] / f"{KEYS[9]}.pt").write_bytes(b"w" * 7)
    found = store_status(tmp_path, here)
    assert {name: tally.models for name, tally in found.kinds.items()} == {"original": 2, "shadow": 1, "failed": 1}
    others = {name: tally.models for name, tally in found.others.items()}
    assert others == {"recipe": 2, "program": 1, "environment": 1, "unknown": 1}
    assert (found.leftovers.models, found.leftovers.bytes) == (1, 7)
    counted = [*found.kinds.values(), *found.others.values(), found.leftovers]
    assert sum(tally.bytes for tally in counted) == found.size == survey(tmp_path).size
    assert [(one.label, one.usable) for one in sorted(found.failed, key=lambda one: one.label)] == [
        (KEYS[8][:12], False),
        ("slots 3", True),
    ]
    assert {one.path for one in found.failed} == {store.entry_path(KEYS[3]), store.entry_path(KEYS[8])}
    everywhere = store_status(tmp_path)
    assert not everywhere.others
    assert everywhere.kinds["shadow"].models == 5
    assert store_status(tmp_path / "absent").size == 0


@pytest.mark.parametrize("part", ["json", "pt", "sig", "old"])
def test_reading_everything_again_finds_each_damage_and_changes_nothing(tmp_path: Path, part: str) -> None:
    shop = workshop(tmp_path)
    run(several(), shop)
    store = Store(tmp_path)
    if part == "old":  # an entry that knows its tensors only
        path = sorted(tmp_path.glob("??/*.pt"))[0]
        entry = store.entry(path.stem)
        assert entry is not None
        old = f'{{"model": "{entry.model}", "seconds": 1.0, "engine": "single", "environment": "e"}}'
        store.entry_path(path.stem).write_text(old)
    else:
        path = sorted(tmp_path.glob(f"??/*.{part}"))[0]
    assert store_status(tmp_path, verify=True).damage == {}
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    before = {one: one.stat().st_mtime_ns for one in tmp_path.rglob("*")}
    found = store_status(tmp_path, verify=True)
    assert found.checked
    assert list(found.damage) == [path]
    assert {one: one.stat().st_mtime_ns for one in tmp_path.rglob("*")} == before
    assert not store_status(tmp_path).checked


def test_a_diverged_cohort_is_counted_as_failed(tmp_path: Path) -> None:
    shop = workshop(tmp_path, options=OPTIONS | {"learning_rate": 1e30})
    run(in_cohorts([trained(1), trained(2)], 2), shop)
    found = store_status(tmp_path, Here(shop.recipe.digest, shop.identity.code, shop.identity.environment))
    assert {name: tally.models for name, tally in found.kinds.items()} == {"failed": 2}
    assert {one.label for one in found.failed} == {"model 1", "model 2"}
