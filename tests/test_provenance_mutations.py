"""Every field of the claims and files about provenance is changed: each change is refused, or irrelevant for a reason.

In the small form one field of each kind is changed once; with CU_CERT_SLOW=1 every one in every way.
"""

import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from conftest import SLOW
from fake_certificate import Fake, leaves, lines
from fake_evidence import Json
from fake_provenance import REPLAY, Story, exact

from cu_certificates.check.main import accepted
from cu_certificates.check.strict import Rejected, canonical

Path = tuple[str | int, ...]

IRRELEVANT = {
    r"c-commitments\.id": ("", "a name that nothing refers to; claims that carry the verdict are named in its basis"),
    r"c-(chain|absent|replay)\.id": ("informing", "the same, where they carry no verdict"),
    r"c-replay\.beacon\.(source|round|value)": ("first", "of one step that one is drawn, whatever the beacon says"),
    r"c-replay\.(q|alpha)": ("unplanned informing first", "where no plan fixes them, a weaker statement holds as well"),
}
"""What may change unseen, in which stories (in all when none is named), and why."""

NEW = ("c-commitments", "c-chain", "c-absent", "c-replay")
FILES = ("commitments", "chain", "absent", "replay")

STORIES = {
    "leaves": Story(replay=REPLAY, slices=3),
    "neighbours": Story(replay=REPLAY, form="neighbours", shards=11),
    "unplanned": Story(slices=3),
    "informing": Story(guarantee="none", level="EMPIRICAL"),
    "first": Story(first=True, form="neighbours", shards=1, slices=1),
    "fully drawn": Story(slices=20, replay=REPLAY),
}


@cache
def base(kind: str) -> Fake:
    return exact(STORIES[kind]).state()


def passes(found: Fake) -> bool:
    """Whether a reader would accept it; anything but an answer or a refusal is a bug."""
    try:
        return accepted(found.check())
    except Rejected:
        return False


def others(value: Any) -> list[Any]:
    """Other values of the same kind, and of a kind that Python takes for the same."""
    match value:
        case bool():
            return [not value, int(value)]
        case int():
            return [value + 1, value - 1, bool(value)]
        case None:
            return [0, "", "0" * 64]
        case str() if re.fullmatch(r"[0-9a-f]{64}", value):
            return [("1" if value[0] == "0" else "0") + value[1:], value.upper(), value[:-1], None]
        case str():
            return [value + "x", "", "1/3", None]
        case _:
            return [["x"], None]


def at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place that can be deleted."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def named(claim: str, path: Path) -> str:
    return ".".join([claim, *("#" if isinstance(part, int) else part for part in path)])


@pytest.mark.parametrize("kind", STORIES)
def test_the_base_is_accepted(kind: str) -> None:
    assert passes(base(kind))
    wanted = "NOT_REFUTED" if kind == "informing" else "EXACT_BY_PROVENANCE"
    assert base(kind).check().derived == wanted


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORIES)
def test_every_leaf_of_the_claims(kind: str) -> None:
    valid, seen, irrelevant = base(kind), set(), set()
    for claim in NEW:
        for path, value in leaves(valid.claim(claim)):
            name = named(claim, path)
            if name in seen and not SLOW:
                continue
            seen.add(name)
            for other in others(value) if SLOW else others(value)[:1]:
                if other == value and type(other) is type(value):
                    continue  # digits alone have no capitals
                found = valid.copy()
                at(found.claim(claim), path[:-1])[path[-1]] = other
                if passes(found):
                    reason = next((p for p in IRRELEVANT if re.fullmatch(p, name)), "")
                    assert reason, f"{name}: {value!r} became {other!r} unseen"
                    assert kind in (IRRELEVANT[reason][0].split() or STORIES), f"{name}: {value!r} became {other!r}"
                    irrelevant.add(reason)
    assert r"c-commitments\.id" in irrelevant


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORIES)
def test_every_deletion_in_the_claims(kind: str) -> None:
    valid, seen = base(kind), set()
    for claim in NEW:
        for path in places(valid.claim(claim)):
            name = named(claim, path)
            if name in seen and not SLOW:
                continue
            seen.add(name)
            found = valid.copy()
            del at(found.claim(claim), path[:-1])[path[-1]]
            assert not passes(found), f"{name} was deleted unseen"


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", STORIES)
def test_every_leaf_and_deletion_of_the_evidence(kind: str, name: str) -> None:
    """Changed rows are signed again, as a dishonest signer would; the claims stay."""
    valid, file, seen = base(kind), f"evidence/{name}.jsonl", set()
    rows = [json.loads(line) for line in valid.files[file].splitlines()]
    changes = [(path, "leaf", value) for path, value in leaves(rows)] + [(path, "gone", None) for path in places(rows)]
    for path, what, value in changes:
        row: Json = rows[int(path[0])]
        same = (what, row["kind"], row.get("chain"), row.get("left", "") is None, row.get("right", "") is None,
                named("", path))  # fmt: skip
        if same in seen and not SLOW:
            continue
        seen.add(same)
        for other in [None] if what == "gone" else others(value) if SLOW else others(value)[:1]:
            if what == "leaf" and other == value and type(other) is type(value):
                continue
            changed = json.loads(json.dumps(rows))
            if what == "gone":
                del at(changed, path[:-1])[path[-1]]
            else:
                at(changed, path[:-1])[path[-1]] = other
            found = valid.copy()
            found.replace(file, lines(changed) or b"\n")
            assert not passes(found), f"{name} {path}: {value!r} became {other!r} unseen"


WRONG: list[Any] = [None, [], {}, [[]], {"x": {}}, -1, 2**53 - 1, True, "x", "1/1", "0" * 64, ["0" * 64] * 2, [[], {}]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["leaves", "neighbours"])
def test_a_value_of_any_other_kind_gets_an_answer(kind: str) -> None:
    """Whatever stands at a place of a claim, a row or the plan: an answer or a refusal, never a crash."""
    valid = base(kind)
    turn = 0
    for claim in NEW:
        for path in places(valid.claim(claim)):
            turn += 1
            for value in WRONG if SLOW else [WRONG[turn % len(WRONG)]]:
                found = valid.copy()
                at(found.claim(claim), path[:-1])[path[-1]] = value
                assert isinstance(passes(found), bool)
    for name in FILES:
        file, seen = f"evidence/{name}.jsonl", set()
        rows = [json.loads(line) for line in valid.files[file].splitlines()]
        for path in places(rows):
            shape = named(str(rows[int(path[0])].get("kind")), path)
            if shape in seen and not SLOW:
                continue
            seen.add(shape)
            turn += 1
            for value in WRONG if SLOW else [WRONG[turn % len(WRONG)]]:
                changed = json.loads(json.dumps(rows))
                at(changed, path[:-1])[path[-1]] = value
                found = valid.copy()
                found.replace(file, b"".join(canonical(row) + b"\n" for row in changed))
                assert isinstance(passes(found), bool)


SIDE = {
    "c-commitments": "absence reads the request's commitments itself",
    "c-replay": "the plan did not ask for one",
}


@pytest.mark.parametrize("claim", NEW)
@pytest.mark.parametrize("kind", ["leaves", "unplanned"])
def test_dropping_any_claim_never_helps(kind: str, claim: str) -> None:
    valid = base(kind).copy()
    valid.drop(claim)
    found = valid.state().check()
    assert not found.rejected
    if claim in SIDE and (claim, kind) != ("c-replay", "leaves"):
        assert found.derived == "EXACT_BY_PROVENANCE"
    else:
        assert found.derived == ("INCONCLUSIVE" if (claim, kind) == ("c-replay", "leaves") else "NOT_REFUTED")


@pytest.mark.parametrize("key", ["q", "alpha", "source", "round"])
def test_every_number_of_the_planned_replay(key: str) -> None:
    valid = exact(replay=REPLAY).state()
    assert passes(valid)
    plan = json.loads(valid.files["plan.json"])
    node = plan["replay"] if key in ("q", "alpha") else plan["replay"]["beacon"]
    for other in others(node[key]):
        if other == node[key]:
            continue
        node[key] = other
        found = valid.copy()
        found.replace("plan.json", canonical(plan))
        assert not passes(found), (key, other)
