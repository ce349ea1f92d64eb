"""Every field of a valid certificate is changed: it must be refused, or stand in a list of prose with the reason why.

In the small form one field of each kind is changed once; with CU_CERT_SLOW=1 every one in every way.
"""

import json
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import cache
from typing import Any

import pytest
from conftest import SLOW
from fake_certificate import Fake, fake, leaves, lines
from fake_evidence import CLEAN, LEAK, Json, Knobs

from cu_certificates.check.fields import rational
from cu_certificates.check.main import accepted
from cu_certificates.check.strict import Rejected, canonical

Path = tuple[str | int, ...]

PROSE = {
    r"(certificateId|sequence|previous\..*)": "bookkeeping; a reader compares it with other certificates",
    r"(issuedAt|expiresAt)": "time is judged by verify and gate, which know the reader's clock",
    r"auditor\..*": "who signed is established by the signature; the reader's trust file says what to make of it",
    r"tool\..*": "how it was computed; a replay would compare it",
    r"scope\.(model\.access|excluded\.#|data\.(source|records)|recipe\.(name|parameters\..*))": "a description; the "
    "digests beside it are compared",
    r"request\.(scenario|allowedMissing)": "the requester's own words; root and size are compared with the plan",
    r"unlearning\.source": "who named the method",
    r"evidence\.#\.(kind|access)": "labels for a person; the checker goes by id and digest",
    r"plots\.\w+\.(title|unit)": "captions",
    r"plots\.\w+\.(series|marks)\.#\.label": "captions; what a series shows follows from its role",
    r"plots\.roc\..*": "a curve over single records, which evidence never holds; descriptive",
    r"claims\.(c-model|c-split|c-(pos|neg|power|utility)-[\w-]+|c-eps-pools|m-auc)\.id": "a name nothing refers to",
    r"claims\.c-split\.text": "a sentence for a person",
    r"claims\.m-auc\.(name|value|note)": "a metric: unverified, and supports no verdict",
    r"limitations\.#": "said by the report as well; they take nothing back",
    r"verdict\.reasons\.#": "wording may change between versions; the checker prints the reasons that it derives",
}


def others(value: Any) -> list[Any]:
    """Other values of the same kind, and of a kind that Python takes for the same."""
    if isinstance(value, bool):
        return [not value, int(value)]
    if isinstance(value, int):
        return [value + 1, value - 1, bool(value)]
    if value is None:
        return ["x", 0]
    if not isinstance(value, str):
        return [["x"], {"x": "x"}]
    if re.fullmatch(r"[0-9a-f]{64}", value):
        return [("1" if value[0] == "0" else "0") + value[1:]]
    found = [value + "x", *([""] if value else [])]
    try:
        number = rational(value, "")
    except Rejected:
        return found
    return [str(number + Fraction(1, 10_000)), str(number * 2 + 1), *([str(number / 2)] if number else []), *found]


def at(value: Any, path: Path) -> Any:
    for key in path:
        value = value[key]
    return value


def pattern(root: Json, path: Path) -> str:
    """The path with claims by their ids and all other places in lists as #."""
    parts = [str(at(root, path[:2])["id"]) if path[0] == "claims" and len(path) > 1 and n == 1 else part
             for n, part in enumerate(path)]  # fmt: skip
    return ".".join("#" if isinstance(part, int) else part for part in parts)


def representatives(root: Json, paths: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """All paths, or in the small form the first of each pattern."""
    seen: set[str] = set()
    for path in paths:
        name = pattern(root, path)
        if SLOW or name not in seen:
            seen.add(name)
            yield path, name


def passes(found: Fake) -> bool:
    """Whether a reader would accept it; anything but an answer or a refusal is a bug."""
    try:
        return accepted(found.check())
    except Rejected:
        return False


@cache
def base(leaking: bool) -> Fake:
    return fake(Knobs(means=LEAK if leaking else CLEAN)).state()


KINDS = pytest.mark.parametrize("leaking", [False, True] if SLOW else [False], ids=["clean", "leaking"][: 1 + SLOW])


@pytest.mark.slow
@KINDS
def test_every_leaf_of_the_certificate(leaking: bool) -> None:
    valid, prose = base(leaking), set()
    assert passes(valid)
    for path, name in representatives(valid.predicate, [path for path, _ in leaves(valid.predicate)]):
        values = others(at(valid.predicate, path))
        for value in values if SLOW else values[:1]:
            found = valid.copy()
            at(found.predicate, path[:-1])[path[-1]] = value
            if name == "claims.c-cp-pool-unlearned.alpha" and found.claim("c-cp-pool-unlearned")["bound"] == "0.0000":
                continue  # no hit at all: the bound is 0 at every level
            if passes(found):
                reason = next((p for p in PROSE if re.fullmatch(p, name)), None)
                assert reason, f"{name}: {at(valid.predicate, path)!r} became {value!r} unseen"
                prose.add(reason)
    assert prose == set(PROSE), f"no longer prose: {set(PROSE) - prose}"


WRONG: list[Any] = [None, [], {}, [[]], {"x": {}}, -1, 2**53 - 1, True, "x", "1/1", "0" * 64, ["a", "a"]]


@pytest.mark.slow
def test_a_value_of_any_other_kind_gets_an_answer() -> None:
    """Whatever stands at a place in certificate or plan: an answer or a refusal, never a crash."""
    valid = base(True)
    plan = json.loads(valid.files["plan.json"])
    for root, inside in ((valid.predicate, False), (plan, True)):
        for number, (path, _) in enumerate(representatives(root, list(nodes(root)))):
            for value in WRONG[number % 4 :: 4] if SLOW else [WRONG[number // 2 % len(WRONG)]][number % 2 :]:
                found, changed = valid.copy(), json.loads(valid.files["plan.json"])
                at(changed if inside else found.predicate, path[:-1])[path[-1]] = value
                if inside:
                    found.replace("plan.json", canonical(changed))
                assert isinstance(passes(found), bool)


def nodes(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a JSON value that can be deleted."""
    if isinstance(value, (dict, list)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from nodes(value[key], (*path, key))


MAY_GO = {"plots", "plots.eps", "plots.procedure", "plots.artifact", "verdict"}
"""May be absent besides prose: a draft has no verdict, and a report without a plot shows less, never something else."""


@pytest.mark.slow
def test_every_deletion() -> None:
    valid = base(False)
    used = set()
    kept = [path for path in nodes(valid.predicate) if path[0] != "claims" or len(path) > 2]
    for path, name in representatives(valid.predicate, kept):
        found = valid.copy()
        del at(found.predicate, path[:-1])[path[-1]]
        if passes(found) and not any(re.fullmatch(p, name) or re.fullmatch(p, name + ".#") for p in PROSE):
            assert name in MAY_GO, f"{name} was deleted unseen"
            used.add(name)
    assert used == MAY_GO


SIDE = {
    "c-model": "the checker compares statement, scope and plan itself",
    "c-count-pool-unlearned": "the two-pool cross-check supports no verdict",
    "c-count-pool-retrained": "the two-pool cross-check supports no verdict",
    "c-cp-pool-unlearned": "the two-pool cross-check supports no verdict",
    "c-cp-pool-retrained": "the two-pool cross-check supports no verdict",
    "c-eps-pools": "the two-pool cross-check supports no verdict",
    **{
        f"c-{kind}-{name}": "utility is no part of the verdict; a policy that wants it demands it"
        for kind in ("count", "cp", "utility")
        for name in ("held-out", "retained", "request")
    },
    "m-auc": "a metric supports nothing",
}


@pytest.mark.parametrize("leaking", [False, True], ids=["clean", "leaking"])
def test_dropping_any_claim_never_helps(leaking: bool) -> None:
    valid = base(leaking)
    for claim in valid.predicate["claims"]:
        found = valid.copy()
        gone = {claim["id"]}
        for other in valid.predicate["claims"]:  # a dishonest signer drops what builds on it as well
            if gone & {other.get(key) for key in ("from", "tpr", "fpr")}:
                gone.add(other["id"])
        found.predicate["claims"] = [other for other in valid.predicate["claims"] if other["id"] not in gone]
        del found.predicate["plots"]["eps"]
        found.state()
        result = found.check()
        assert not result.rejected, claim["id"]
        if claim["id"] in SIDE:
            assert result.derived == valid.check().derived, claim["id"]
        elif leaking:
            assert result.derived in ("REFUTED", "INCONCLUSIVE"), claim["id"]
        else:
            assert result.derived == "INCONCLUSIVE", claim["id"]
            assert result.reasons


def test_dropping_everything_about_a_question_never_helps() -> None:
    for question in ("procedure", "artifact"):
        found = base(True).copy()
        found.predicate["claims"] = [c for c in found.predicate["claims"] if c.get("question") != question]
        del found.predicate["plots"]["eps"]
        assert found.state().check().derived == "REFUTED"
        found = base(False).copy()
        found.predicate["claims"] = [c for c in found.predicate["claims"] if c.get("question") != question]
        del found.predicate["plots"]["eps"]
        assert found.state().check().derived == "INCONCLUSIVE"


# --- Plan and evidence, with the digests signed again ----------------------------------------------------------------


def resigned(valid: Fake, plan: Json) -> Fake:
    """Another plan, and the certificate says everything of it that a certificate says."""
    found = valid.copy()
    for key in ("questions", "attacks", "alphaTotal", "alphaSplit", "detectEps", "seedCommitment", "attempt"):
        found.predicate["plan"][key] = plan.get(key)
    entry = plan["subjects"][0] if plan["subjects"] else {}
    found.predicate["plan"] |= {key: entry.get(key) for key in ("testedEps", "testedDelta")}
    found.predicate["unlearning"] |= {key: entry.get(key) for key in ("method", "guarantee", "level", "parameters")}
    found.predicate["request"]["commitment"] |= plan.get("request", {})
    for key in ("data", "recipe"):
        found.predicate["scope"][key]["digest"] = plan.get(key)
    found.replace("plan.json", canonical(plan))
    return found


UNBOUND = {
    r"procedure\..*": "sizes of a question that was not asked",
    r"(data|recipe)\.sha256|request\.root": "what the plan and the certificate name alike",
    r"attempt|detectEps|alphaTotal": "stated alike, judged by the reader's policy; alphaTotal only upwards",
    r"subjects\.#\.(method|parameters\..*)": "how the file is said to have come about; the file itself is asked",
}


@pytest.mark.slow
@pytest.mark.parametrize("questions", [("procedure", "artifact"), ("artifact",)], ids=["both", "artifact"])
def test_every_leaf_of_the_plan(questions: tuple[str, ...]) -> None:
    """With coins, another plan makes the roles of its slots wrong. Without, some values are the signer's word alone."""
    valid = fake(Knobs(questions=questions, method="npo")).state()
    plan = json.loads(valid.files["plan.json"])
    for path, value in leaves(plan):
        for other in others(value) if SLOW else others(value)[:1]:
            changed = json.loads(valid.files["plan.json"])
            at(changed, path[:-1])[path[-1]] = other
            if passes(resigned(valid, changed)):
                name = pattern(plan, path)
                assert questions == ("artifact",), f"{name}: {value!r} became {other!r} unseen"
                assert any(re.fullmatch(p, name) for p in UNBOUND), f"{name}: {value!r} became {other!r} unseen"


TRUSTED = {"model", "signals", "score"}
"""That scores came from these models is an assumption (A2); the checker sees to it that they add up."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slots", "artifact", "pilots", "utility"])
def test_every_leaf_of_the_evidence(name: str) -> None:
    valid, file, seen = base(False), f"evidence/{name}.jsonl", set()
    rows = [json.loads(line) for line in valid.files[file].splitlines()]
    for number, row in enumerate(rows):
        for key, value in row.items():
            kind = (row["kind"], row.get("group"), row.get("role"), row.get("status"), key)
            if kind in seen and not SLOW:
                continue
            seen.add(kind)
            for other in [*(others(value) if SLOW else others(value)[:1]), None]:
                changed = [dict(line) for line in rows]
                changed[number][key] = other
                if other is None:
                    del changed[number][key]
                found = valid.copy()
                found.replace(file, lines(changed))
                if passes(found):
                    assert key in TRUSTED, f"{name} line {number}: {key} {value!r} became {other!r} unseen"
                    assert other is not None, f"{name} line {number}: {key} was deleted unseen"


@pytest.mark.parametrize("name", ["slots", "artifact", "pilots", "utility"])
def test_rows_can_neither_go_nor_come_nor_stand_twice(name: str) -> None:
    valid, file = base(False), f"evidence/{name}.jsonl"
    rows = [json.loads(line) for line in valid.files[file].splitlines()]
    extra = rows[-1] | ({"slot": 999} if "slot" in rows[-1] else {})
    numbers = range(len(rows)) if SLOW else [0, 1, 2, len(rows) // 2, len(rows) - 1]
    for changed in [*([*rows[:n], *rows[n + 1 :]] for n in numbers), [*rows, rows[-1]], [*rows, extra]]:
        found = valid.copy()
        found.replace(file, lines(changed))
        assert not passes(found)
    for data in (
        valid.files[file][:-1],
        valid.files[file] + b"\n",
        b"",
        b"\n",
        valid.files[file].replace(b"}", b"", 1),
    ):
        found = valid.copy()
        found.replace(file, data)
        assert not passes(found)
    found = valid.copy()
    found.replace(file, lines(rows[::-1]))  # the order of storage means nothing
    assert passes(found)
