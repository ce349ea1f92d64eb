"""The log: what it says of certificates, which changes it shows, what proofs show, and that it is only added to."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_project import environment

from cu_certificates._log_lines import Entry, LoggedCertificate, logged
from cu_certificates.check.strict import Rejected, canonical, parse
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.log import Log, load_log, nearest_log, open_log, shorter, verify_log
from cu_certificates.log_proof import Proof, _proof, prove_consistency, prove_inclusion, read_proof

TIME = "2026-11-20T18:00:00Z"


def digest(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def grown(plans: Sequence[bool]) -> tuple[Log, list[LoggedCertificate]]:
    """A log as a project keeps it: each plan is entered, and those that are true end in a certificate."""
    log, certificates = Log(), []
    for number, ends in enumerate(plans):
        log = log.with_plan(digest(f"plan {number}"), TIME)
        if ends:
            place: Any = log.position()
            found = LoggedCertificate(
                name=f"c{number}",
                digest=digest(f"certificate {number}"),
                sequence=place["sequence"],
                plan=digest(f"plan {number}"),
                issued=TIME,
                previous=place.get("previous", {}).get("sha256"),
                size=place["log"]["size"],
                root=place["log"]["root"],
            )
            log = log.with_certificate(found)
            certificates.append(found)
    return log, certificates


def naive_root(leaves: Sequence[bytes]) -> str:
    """RFC 9162, section 2.1.1, as it is written there."""

    def node(part: Sequence[bytes]) -> bytes:
        if len(part) == 1:
            return hashlib.sha256(b"\0" + part[0]).digest()
        k = 1
        while k * 2 < len(part):
            k *= 2
        return hashlib.sha256(b"\1" + node(part[:k]) + node(part[k:])).digest()

    return (node(leaves) if leaves else hashlib.sha256(b"").digest()).hex()


LOG, CERTIFICATES = grown([True, False, True, True, False, True])


def test_a_line_is_canonical_json_with_digests_only() -> None:
    lines = LOG.to_bytes().splitlines()
    assert lines[0] == canonical({"kind": "plan", "digest": digest("plan 0"), "time": TIME})
    assert lines[1] == canonical(
        {
            "kind": "certificate",
            "digest": digest("certificate 0"),
            "plan": digest("plan 0"),
            "sequence": 1,
            "time": TIME,
        }
    )
    assert Log.read(LOG.to_bytes()) == LOG
    assert [LOG.root(size) for size in range(LOG.size + 1)] == [
        naive_root(lines[:size]) for size in range(LOG.size + 1)
    ]


def test_every_certificate_states_the_log_before_it() -> None:
    found = verify_log(LOG, CERTIFICATES)
    assert [line for _, line in found.shown] == [2, 5, 7, 10]
    assert [one.size for one in CERTIFICATES] == [1, 4, 6, 9]
    assert [one.previous for one in CERTIFICATES] == [None, *(one.digest for one in CERTIFICATES[:-1])]
    assert [entry.digest for entry in found.open_plans] == [digest("plan 1"), digest("plan 4")]
    assert (found.unseen, found.stating) == ((), 4)
    some = verify_log(LOG, CERTIFICATES[1:2])
    assert [entry.sequence for entry in some.unseen] == [1, 3, 4]


def relined(lines: Sequence[bytes]) -> Log:
    return Log.read(b"".join(line + b"\n" for line in lines))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=12), st.data())
def test_a_change_before_a_certificate_shows(plans: list[bool], data: st.DataObject) -> None:
    log, certificates = grown([*plans, True])
    last = certificates[-1]
    place = data.draw(st.integers(0, log.size - 2))
    lines = list(log.lines)
    match data.draw(st.sampled_from(["remove", "move", "time", "insert"])):
        case "remove":
            del lines[place]
        case "move":
            lines.insert(data.draw(st.integers(0, log.size - 2)), lines.pop(place))
        case "time":
            lines[place] = lines[place].replace(b"18:00:00", b"18:00:01")
        case _:
            lines.insert(place, Entry(kind="plan", digest=digest("late"), time=TIME).to_line())
    if lines == list(log.lines):
        return
    with pytest.raises((Rejected, UntrustedError)):
        verify_log(relined(lines), [last])


def test_a_dropped_refutation_leaves_its_plan_behind() -> None:
    """Without its line the numbers have a gap; renumbered, the next certificate states another one before it."""
    gone = [line for line in LOG.lines if digest("certificate 2") not in line.decode()]
    with pytest.raises(Rejected, match="line 6: certificate 3 follows 1; expected 2"):
        relined(gone)
    renumbered = [
        line.replace(b'"sequence":3', b'"sequence":2').replace(b'"sequence":4', b'"sequence":3') for line in gone
    ]
    log = relined(renumbered)
    assert digest("plan 2") in [entry.digest for entry in log.open_plans()]
    with pytest.raises(UntrustedError, match="states another number"):
        verify_log(log, CERTIFICATES[2:3])
    # Even where the one who keeps the log signs the next certificate again, with the number that then fits:
    again = LoggedCertificate(**(vars(CERTIFICATES[2]) | {"sequence": 2, "previous": CERTIFICATES[0].digest}))
    relogged = relined([line if at != 5 else again.entry.to_line() for at, line in enumerate(renumbered)])
    with pytest.raises(UntrustedError, match="states a log of 6 lines before it, but stands on line 6"):
        verify_log(relogged, [again])


def changed(**fields: Any) -> LoggedCertificate:
    return LoggedCertificate(**(vars(CERTIFICATES[1]) | fields))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (changed(digest=digest("unknown")), "does not stand in this log of 10 lines"),
        (changed(sequence=3), "states another number, plan or time"),
        (changed(plan=digest("plan 0")), "states another number, plan or time"),
        (changed(issued="2026-11-20T18:00:01Z"), "states another number, plan or time"),
        (changed(previous=None), "states no certificate as the one before it"),
        (changed(previous=digest("x")), "a certificate was left out or put in"),
        (changed(size=5), "states a log of 5 lines before it, but stands on line 5"),
        (changed(root=digest("x")), "lines were changed, moved or removed"),
        (changed(size=3), "lines were changed, moved or removed"),
    ],
)
def test_a_certificate_that_does_not_fit_is_refused(found: LoggedCertificate, message: str) -> None:
    with pytest.raises(UntrustedError, match=message) as caught:
        verify_log(LOG, [found])
    assert (caught.value.step, caught.value.exit_code) == ("log", 4)


def test_a_certificate_signed_elsewhere_may_state_an_older_log() -> None:
    """Lines that came between its signature and its entry are none of its business."""
    log, certificates = grown([True, False])
    place: Any = log.position()
    late = LoggedCertificate(
        name="late",
        digest=digest("late"),
        sequence=2,
        plan=digest("plan 1"),
        issued=TIME,
        previous=certificates[0].digest,
        size=place["log"]["size"],
        root=place["log"]["root"],
    )
    between = log.with_plan(digest("between"), TIME)
    assert verify_log(between.with_certificate(late), [*certificates, late]).shown[-1] == ("late", 5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{}", "expected a plan or a certificate"),
        (b"[]", "expected a plan or a certificate"),
        (b"", "not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"digest":"%s","kind":"plan","time":"%s","extra":1}' % (b"a" * 64, TIME.encode()), "exactly its fields"),
        (b'{"digest":"%s","kind":"plan","time":"2026-11-20"}' % (b"a" * 64), "time is '2026-11-20'"),
        (b'{"digest":"%s","kind":"plan","time":7}' % (b"a" * 64), "time is 7"),
        (b'{"digest":"AA","kind":"plan","time":"%s"}' % TIME.encode(), "digest is 'AA'"),
        (b'{"digest": "%s","kind":"plan","time":"%s"}' % (b"a" * 64, TIME.encode()), "not canonical"),
        (b'{"digest":"%s","kind":"plan","kind":"plan","time":"%s"}' % (b"a" * 64, TIME.encode()), "stands twice"),
        (b'{"kind":"%s"}' % (b"x" * 2000), "expected at most 1024"),
        (Entry(kind="plan", digest=digest("plan 0"), time=TIME).to_line(), "stands on line 1 already"),
        (
            Entry(kind="certificate", digest=digest("n"), time=TIME, sequence=2, plan=digest("none")).to_line(),
            "no line before it enters its plan",
        ),
        (
            Entry(kind="certificate", digest=digest("n"), time=TIME, sequence=9, plan=digest("plan 0")).to_line(),
            "certificate 9 follows 4; expected 5",
        ),
        (
            Entry(
                kind="certificate", digest=digest("n"), time=TIME, sequence=5, plan=digest("certificate 0")
            ).to_line(),
            "no line before it enters its plan",
        ),
    ],
)
def test_a_damaged_log_is_refused(line: bytes, message: str, tmp_path: Path) -> None:
    data = LOG.to_bytes() + line + b"\n"
    with pytest.raises(Rejected, match=f"line 11: .*{message}"):
        Log.read(data)
    (tmp_path / "log.jsonl").write_bytes(data)
    with pytest.raises(UntrustedError, match="ask for the log as it was written"):
        load_log(tmp_path / "log.jsonl")
    with pytest.raises(UsageError, match="restore it from a copy"), open_log(tmp_path / "log.jsonl"):
        pass


def test_a_log_that_was_cut_is_refused() -> None:
    with pytest.raises(Rejected, match="its last line has no end"):
        Log.read(LOG.to_bytes()[:-1])
    assert Log.read(b"") == Log()


@pytest.mark.parametrize(
    "fields", [{"sequence": 0}, {"sequence": True}, {"sequence": "1"}, {"plan": None}, {"kind": "other"}]
)
def test_an_entry_is_checked_when_it_is_made(fields: dict[str, Any]) -> None:
    good = {"kind": "certificate", "digest": digest("a"), "time": TIME, "sequence": 1, "plan": digest("b")}
    assert Entry(**good)
    with pytest.raises(Rejected):
        Entry(**(good | fields))


@pytest.mark.parametrize(
    ("predicate", "message"),
    [
        ({}, r"predicate\.plan\.digest"),
        ({"plan": {"digest": {"sha256": "x"}}}, r"predicate\.plan\.digest"),
        ({"sequence": 0}, "sequence is 0"),
        ({"sequence": "1"}, "sequence is '1'"),
        ({"issuedAt": "today"}, "time is 'today'"),
        ({"previous": {}}, r"predicate\.previous"),
        ({"log": {}}, r"predicate\.log"),
        ({"log": []}, r"predicate\.log"),
        ({"log": {"size": -1, "root": digest("x")}}, r"predicate\.log"),
        ({"log": {"size": 1, "root": "x"}}, r"predicate\.log"),
    ],
)
def test_what_a_certificate_says_of_the_log_is_read_strictly(predicate: dict[str, Any], message: str) -> None:
    whole = {"plan": {"digest": {"sha256": digest("p")}}, "sequence": 1, "issuedAt": TIME}
    assert logged("c", digest("c"), whole).entry.sequence == 1
    with pytest.raises(UntrustedError, match=message):
        logged("c", digest("c"), (whole | predicate) if predicate else {})


# --- Proofs ----------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=20), st.data())
def test_proofs_show_what_the_log_shows(plans: list[bool], data: st.DataObject) -> None:
    log, certificates = grown([*plans, True])
    found = data.draw(st.sampled_from(certificates))
    size = data.draw(st.integers(log.require(found), log.size))

    def read(document: bytes) -> Proof:
        return _proof(parse(document.rstrip(b"\n")))

    proof = read(prove_inclusion(log, found, size=size))
    assert "stands on line" in proof.require([found])[0]
    first = data.draw(st.integers(0, size))
    consistency = read(prove_consistency(log, first, size=size))
    assert "unchanged" in consistency.require([])[0]
    document = json.loads(prove_inclusion(log, found, size=size))
    if document["path"]:
        spoiled = document | {"path": [digest("x"), *document["path"][1:]]}
        with pytest.raises(UntrustedError, match="inclusion proof"):
            read(canonical(spoiled)).require([found])


def test_a_proof_names_the_certificate_and_what_vouches_for_its_root(tmp_path: Path) -> None:
    first, later = CERTIFICATES[0], CERTIFICATES[3]
    assert later.size is not None
    (tmp_path / "p.json").write_bytes(prove_inclusion(LOG, first, size=later.size))
    proof = read_proof(tmp_path / "p.json")
    assert proof.require([first, later]) == [
        "c0 stands on line 2 of 9",
        "its root is the one that c5 states",
    ]
    assert "no certificate at hand states it" in proof.require([first])[1]
    for others in ([], [later]):
        with pytest.raises(UntrustedError, match="give that certificate"):
            proof.require(others)
    assert CERTIFICATES[1].size is not None
    (tmp_path / "c.json").write_bytes(prove_consistency(LOG, CERTIFICATES[1].size, size=later.size))
    shown = read_proof(tmp_path / "c.json").require([CERTIFICATES[1], later])
    assert shown == [
        "the log of 9 lines begins with the log of 4 lines, unchanged",
        "its root is the one that c2, c5 states",
    ]
    # A root that another log has: whoever shows two histories is found out.
    other, _ = grown([True, True, True, True, True, True])
    document = json.loads((tmp_path / "c.json").read_bytes()) | {"from": {"size": 4, "root": other.root(4)}}
    (tmp_path / "o.json").write_bytes(canonical(document))
    with pytest.raises(UntrustedError, match="leaves were changed, moved or removed"):
        read_proof(tmp_path / "o.json").require([])


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "other"},
        {"shows": "other"},
        {"extra": 1},
        {"path": ["x"]},
        {"path": "x"},
        {"index": -1},
        {"index": True},
        {"tree": {"size": 1}},
        {"tree": {"size": "1", "root": digest("x")}},
        {"tree": {"size": 1, "root": "x"}},
        {"line": {}},
    ],
)
def test_a_file_that_is_no_proof_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    document = json.loads(prove_inclusion(LOG, CERTIFICATES[0])) | change
    (tmp_path / "p.json").write_bytes(canonical(document))
    with pytest.raises(UsageError, match="give a file that 'cu-cert log prove' wrote"):
        read_proof(tmp_path / "p.json")


def test_no_proof_of_what_is_not_there() -> None:
    with pytest.raises(UsageError, match="the first 1 lines do not hold it"):
        prove_inclusion(LOG, CERTIFICATES[0], size=1)
    with pytest.raises(UsageError, match="11 lines asked for; it has 10"):
        prove_consistency(LOG, 1, size=11)
    with pytest.raises(UsageError, match="5 lines asked for; it has 4"):
        prove_consistency(LOG, 5, size=4)
    with pytest.raises(UntrustedError, match="does not stand in this log"):
        prove_inclusion(shorter(LOG, 1), CERTIFICATES[0])


# --- The file --------------------------------------------------------------------------------------------------------


def test_lines_are_only_added(tmp_path: Path) -> None:
    path = tmp_path / ".cu-cert" / "log.jsonl"
    with open_log(path) as held:
        held.write(held.log)
        assert not path.exists()
        held.write(LOG)
        assert path.read_bytes() == LOG.to_bytes()
        for other in (Log(), shorter(LOG, 3), relined(list(LOG.lines[2:4]))):
            with pytest.raises(UsageError, match="lines are only added"):
                held.write(other)
    assert load_log(path) == LOG
    assert nearest_log(tmp_path) == path
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert nearest_log(tmp_path / "a" / "b") == path
    assert LOG.with_plan(digest("plan 0"), "2027-01-01T00:00:00Z") is LOG
    assert LOG.with_certificate(CERTIFICATES[0]) is LOG


ADDS = """
import sys
from hashlib import sha256
from pathlib import Path
from cu_certificates.log import open_log
for number in range(20):
    with open_log(Path(sys.argv[1])) as held:
        held.write(held.log.with_plan(sha256(f"{sys.argv[2]} {number}".encode()).hexdigest(), "2026-01-01T00:00:00Z"))
"""


def test_two_processes_lose_no_line(tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="this system has no such locks")
    path = tmp_path / "log.jsonl"
    running = [
        subprocess.Popen([sys.executable, "-c", ADDS, str(path), name], env=environment(tmp_path / "config"))
        for name in "abc"
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert {entry.digest for entry in load_log(path).entries} == {
        digest(f"{name} {number}") for name in "abc" for number in range(20)
    }
