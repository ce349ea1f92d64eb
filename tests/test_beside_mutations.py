"""Each field of the claims about theorems, Gaussian pairs and distances is changed: refused, or prose with a reason."""

import json
import re
from functools import cache

import pytest
from fake_certificate import Fake, leaves, lines
from fake_evidence import LEAK, Knobs
from fake_theorem import certified, exhaustive, points, with_distances, with_extrapolation
from test_checker_mutations import WRONG, Path, at, nodes, others, passes, pattern

CLAIMS = ("c-theorem", "x-mu", "t-energy")

PROSE = {
    r"claims\.(x-mu|t-energy)\.id": "a name nothing refers to",
    r"claims\.x-mu\.(assumption|note)": "sentences for a person; A17 says what is assumed, and must be listed",
    r"claims\.t-energy\.(name|note)": "a caption and a sentence for a person",
    r"claims\.c-theorem\.assumptions\.#\.text": "a sentence for a person; what the theorem needs is known by its id",
    r"claims\.c-theorem\.assumptions\.#\.id": "an assumption of the method's own has any name; those of "
    "the theorem may not be renamed, which another test shows",
}

SAID = {
    "kind": "whether the program enforces an assumption is the signer's word (A18)",
    "sampler": "what drew the noise is the signer's word (A18)",
}
"""Fields of which another allowed value is as good: nothing at hand could contradict it."""

MAY_GO = (
    r"claims\.(x-mu|t-energy)\.note",
    r"claims\.t-energy\.name",
    r"claims\.c-theorem\.assumptions\.#(\.text)?",  # of an assumption that the theorem does not need
)


@cache
def base() -> Fake:
    """A certificate with all three claims beside its bounds."""
    found = certified(Knobs(means=LEAK, slots=12, control_slots=24, questions=("procedure",)))
    with_extrapolation(found)
    rows = [json.loads(line) for line in found.files["evidence/slots.jsonl"].splitlines()]
    main = sorted((row for row in rows if row.get("group") == "main"), key=lambda row: int(row["slot"]))
    unlearned = [row["role"] == "unlearned" for row in main]
    near = points(len(main), lambda place: 1.0 * unlearned[place])
    return with_distances(found, main, near, exhaustive(near, unlearned)).state()


def places() -> list[tuple[Path, str]]:
    """The place of each of the three claims."""
    claims = base().predicate["claims"]
    return [(("claims", number), claim["id"]) for number, claim in enumerate(claims) if claim["id"] in CLAIMS]


def test_the_certificate_is_valid_and_holds_all_three() -> None:
    assert passes(base())
    statuses = {claim.id: claim.status for claim in base().check().claims}
    assert {statuses[name] for name in CLAIMS} == {"assumed"}


def test_every_leaf_of_the_three_claims() -> None:
    valid, prose = base(), set()
    for place, _ in places():
        for path, value in leaves(at(valid.predicate, place), place):
            name = pattern(valid.predicate, path)
            for other in others(value):
                found = valid.copy()
                at(found.predicate, path[:-1])[path[-1]] = other
                if passes(found):
                    reason = next((p for p in PROSE if re.fullmatch(p, name)), None)
                    assert reason, f"{name}: {value!r} became {other!r} unseen"
                    prose.add(reason)
    assert prose == set(PROSE)


def test_what_is_only_said_may_be_said_otherwise() -> None:
    found = base().copy()
    theorem = found.claim("c-theorem")
    theorem["sampler"] = "sampcert"
    for one in theorem["assumptions"]:
        one["kind"] = "assumed"
    assert set(SAID) == {"kind", "sampler"}
    assert passes(found.state())
    found.claim("c-theorem")["assumptions"][0]["id"] = "renamed"
    assert not passes(found)


def test_every_deletion_in_the_three_claims() -> None:
    valid, used = base(), set()
    for place, _ in places():
        for path in nodes(at(valid.predicate, place), place):
            found = valid.copy()
            del at(found.predicate, path[:-1])[path[-1]]
            if passes(found):
                name = pattern(valid.predicate, path)
                reason = next((p for p in MAY_GO if re.fullmatch(p, name)), None)
                assert reason, f"{name} was deleted unseen"
                used.add(reason)
    assert used == set(MAY_GO)


def test_a_value_of_any_other_kind_gets_an_answer() -> None:
    valid = base()
    for place, _ in places():
        for number, path in enumerate(nodes(at(valid.predicate, place), place)):
            for value in WRONG[number % 4 :: 4]:
                found = valid.copy()
                at(found.predicate, path[:-1])[path[-1]] = value
                assert isinstance(passes(found), bool)


def test_dropping_one_never_helps() -> None:
    """Without its theorem a certificate says less; the other two claims support nothing."""
    honest = base().check().derived
    for name in CLAIMS:
        found = base().copy()
        found.drop(name)
        if name == "t-energy":
            found.predicate["evidence"] = [one for one in found.predicate["evidence"] if one["id"] != "distances"]
        assert found.state().check().derived == honest == "REFUTED"


TRUSTED = {"distances": "that distances are those of the models named is an assumption (A2); p follows from them"}


def test_every_leaf_of_the_distances() -> None:
    valid, file, seen = base(), "evidence/distances.jsonl", set()
    rows = [json.loads(line) for line in valid.files[file].splitlines()]
    for number, row in enumerate(rows):
        for path, value in leaves(row):
            key = str(path[0])
            if key == "distances" and (len(path) < 2 or (number, path[1]) not in {(1, 0), (2, 0), (7, 3), (12, 10)}):
                continue
            for other in [*others(value), None]:
                changed = json.loads(json.dumps(rows))
                if other is None:
                    del at(changed[number], path[:-1])[path[-1]]
                else:
                    at(changed[number], path[:-1])[path[-1]] = other
                found = valid.copy()
                found.replace(file, lines(changed))
                if passes(found):
                    assert key in TRUSTED, f"line {number}: {key} {value!r} became {other!r} unseen"
                    assert other is not None
                    seen.add(key)
    assert seen == set(TRUSTED)


@pytest.mark.parametrize("change", ["reverse", "drop", "again", "cut"])
def test_lines_have_one_order(change: str) -> None:
    found = base().copy()
    rows = found.files["evidence/distances.jsonl"].splitlines(keepends=True)
    data = {
        "reverse": b"".join([rows[0], *rows[:0:-1]]),
        "drop": b"".join(rows[:-1]),
        "again": b"".join([*rows, rows[-1]]),
        "cut": b"".join(rows)[:-1],
    }[change]
    found.replace("evidence/distances.jsonl", data)
    assert not passes(found)
