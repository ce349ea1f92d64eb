"""Receipts: about the right id, in the right request, of the right certificate; anything else is refused by name."""

import base64
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_project import ROOTS, Finished, finished_audit, request_ids

from cu_cert.cli.main import run
from cu_certificates.check.receipt import MAX_RECEIPT, SAYS, Receipt, read_receipt, require_receipt
from cu_certificates.check.strict import Rejected
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.receipt import Kept, ReceiptBook, open_book, read_kept, verify_receipt
from cu_certificates.request import commit
from cu_certificates.trust import load_trust

NOW = datetime.now(UTC)
KEY = hashlib.sha256(b"key of a request").digest()
NAME, PAYLOAD = "urn:uuid:00000000-0000-4000-8000-000000000000", "ab" * 32
CHECK = Path(__file__).parents[1] / "certificates" / "cu_certificates" / "check"


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished_audit(tmp_path_factory.getbasetemp())


@pytest.fixture
def receipt(done: Finished, tmp_path: Path) -> Path:
    """The receipt of the first id, and the id in a file beside it."""
    (tmp_path / "id.txt").write_text(request_ids(done.project)[0] + "\n")
    asked = ["--id-file", str(tmp_path / "id.txt"), "-o", str(tmp_path / "receipt.json")]
    assert run(["receipt", "issue", *ours(done), *asked]) == 0
    return tmp_path / "receipt.json"


def ours(done: Finished) -> list[str]:
    return ["--certificate", str(done.out / "report.html"), "--private", str(done.out / "private")]


def theirs(done: Finished) -> list[str]:
    return ["--certificate", str(done.out / "certificate.sigstore.json"), "--trust", str(done.trust)]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    return printed.err


# --- Made and checked -------------------------------------------------------------------------------------------------


def test_a_receipt_says_what_it_shows_and_nothing_more(
    done: Finished, receipt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identifier = request_ids(done.project)[0]
    assert identifier not in receipt.read_text()
    assert stat.S_IMODE(receipt.stat().st_mode) == 0o600
    capsys.readouterr()
    assert run(["receipt", "verify", str(receipt), "--id", identifier, *theirs(done)]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == SAYS
    assert "signature valid" in printed
    assert identifier not in printed
    assert run(["receipt", "verify", str(receipt), "--id", identifier, *theirs(done), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["says"]) == ("cu-cert-receipt-verify/1", SAYS)


def test_without_a_certificate_it_says_what_was_not_checked(
    done: Finished, receipt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(["receipt", "verify", str(receipt), "--id-file", str(receipt.parent / "id.txt")]) == 0
    printed = capsys.readouterr().out
    assert "certificate not checked the receipt names urn:uuid:" in printed
    assert SAYS not in printed
    assert run(["receipt", "verify", str(receipt), "--id-file", str(receipt.parent / "id.txt"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["says"] is None


def test_the_id_can_come_from_standard_input(
    done: Finished, receipt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stdin:
        buffer = io.BytesIO(f"\n  {request_ids(done.project)[0]}  \n".encode())

    monkeypatch.setattr("sys.stdin", Stdin)
    assert run(["receipt", "verify", str(receipt), "--id-file", "-"]) == 0
    for arguments, message in (
        ([], "expected the id, once"),
        (["--id", "a", "--id-file", "b"], "expected the id, once"),
        (["--id-file", str(done.project / "ids.txt")], "lines with text; expected one line"),
        (["--id-file", str(done.model)], "bytes; expected at most|is not UTF-8"),
        (["--id", "  "], "expected 1 to 4096"),
        (["--id", "x", "--trust", str(done.trust)], "name the certificate too"),
    ):
        capsys.readouterr()
        assert run(["receipt", "verify", str(receipt), *arguments]) == 2
        told = said(capsys)
        assert any(part in told for part in message.split("|")), arguments


def test_a_receipt_outlives_the_date_of_its_certificate(done: Finished, receipt: Path) -> None:
    bundle, trust = done.out / "certificate.sigstore.json", load_trust(done.trust)
    later = NOW + timedelta(days=200)
    _, steps = verify_receipt(receipt, request_ids(done.project)[0], certificate=bundle, trust=trust, now=later)
    assert {step.name: step.state for step in steps}["time"] == "not checked"


def test_a_receipt_for_each_id_under_names_that_tell_nothing(
    done: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    private = tmp_path / "private"
    shutil.copytree(done.out / "private", private)
    folder = tmp_path / "receipts"
    asked = ["--certificate", str(done.out / "report.html"), "--private", str(private), "--all", "-o", str(folder)]
    assert run(["receipt", "issue", *asked]) == 0
    files = sorted(folder.iterdir())
    ids = request_ids(done.project)
    assert len(files) == len(ids)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for identifier in ids:
        assert not any(identifier in path.name or identifier in path.read_text() for path in files)
    rows = dict(line.split(",") for line in (private / "receipts.csv").read_text().splitlines()[1:])
    assert stat.S_IMODE((private / "receipts.csv").stat().st_mode) == 0o600
    assert sorted(rows) == sorted(ids)
    for identifier, name in rows.items():
        require_receipt(read_receipt((folder / name).read_bytes()), identifier)
    capsys.readouterr()
    assert run(["receipt", "issue", *asked[:-1], str(tmp_path / "more"), "--id", ids[0]]) == 2
    assert run(["receipt", "issue", *asked[:-2]]) == 2
    assert "--all" in said(capsys)


def test_the_project_and_the_list_give_the_same_receipt(
    done: Finished, receipt: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again.json"
    asked = ["receipt", "issue", "--certificate", str(done.out / "report.html"), "--id-file", str(tmp_path / "id.txt")]
    project = ["--private", str(done.project), "--forget", str(done.project / "ids.txt")]
    assert run([*asked, *project, "-o", str(again)]) == 0
    assert again.read_bytes() == receipt.read_bytes()
    (tmp_path / "shorter.txt").write_text("\n".join(request_ids(done.project)[1:]))
    before = sorted((done.project / ".cu-cert" / "private").rglob("*"))
    capsys.readouterr()
    assert run([*asked, *project[:-1], str(tmp_path / "shorter.txt"), "-o", str(tmp_path / "no.json")]) == 2
    assert "keeps no key for exactly" in said(capsys)
    assert sorted((done.project / ".cu-cert" / "private").rglob("*")) == before  # asking draws no key


def test_a_private_folder_of_an_earlier_version_still_works(done: Finished, receipt: Path, tmp_path: Path) -> None:
    kept = json.loads((done.out / "private" / "request.json").read_text())
    old = {key: kept[key] for key in ("kind", "requestKey", "auditSeed", "openings")}
    assert set(kept) - set(old) == {"requestKeyFile"}
    (tmp_path / "request.json").write_text(json.dumps(old))
    book = open_book(read_kept(tmp_path), done.out / "certificate.sigstore.json")
    assert book.receipt(request_ids(done.project)[0]).to_bytes() == receipt.read_bytes()
    named = done.project / ".cu-cert" / "private" / kept["requestKeyFile"]
    assert named.read_text().strip() == kept["requestKey"]


# --- Not made ---------------------------------------------------------------------------------------------------------


def test_what_gives_no_receipt(done: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, private = done.out / "certificate.sigstore.json", done.out / "private"
    kept = read_kept(private)
    book = open_book(kept, bundle)
    with pytest.raises(UsageError, match="the id that was given is not in this request") as refusal:
        book.receipt("person-999@example")
    assert "person-999" not in str(refusal.value)
    with pytest.raises(UsageError, match=r"the certificate is about root .*; give the private folder"):
        open_book(Kept(key=KEY, ids=kept.ids), bundle)
    with pytest.raises(UsageError, match=r"11 commitments; the certificate is about root .* and 12"):
        open_book(Kept(key=kept.key, ids=kept.ids[1:]), bundle)
    broken = json.loads((private / "request.json").read_text())
    broken["openings"][3]["opening"] = "00" * 32
    (tmp_path / "request.json").write_text(json.dumps(broken))
    with pytest.raises(UsageError, match=r"openings\[3\].opening: does not belong to requestKey; restore"):
        read_kept(tmp_path)
    draft = tmp_path / "certificate.draft.json"
    draft.write_bytes(base64.b64decode(json.loads(bundle.read_text())["dsseEnvelope"]["payload"]))
    with pytest.raises(UsageError, match="is an unsigned draft; a receipt names a signed certificate"):
        open_book(kept, draft)
    taken = tmp_path / "taken.json"
    taken.write_text("mine")
    assert run(["receipt", "issue", *ours(done), "--id", request_ids(done.project)[0], "-o", str(taken)]) == 2
    assert "never overwritten" in said(capsys)
    assert taken.read_text() == "mine"
    missing = ["--certificate", str(bundle), "--private", str(tmp_path / "nowhere"), "--id", "x"]
    assert run(["receipt", "issue", *missing]) == 2
    assert "private file" in said(capsys)


# --- Refused, each attack by name -------------------------------------------------------------------------------------

ATTACKS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "the opening of another": (lambda r: r.update(opening="00" * 32), "not about the id that was given"),
    "the commitment of another": (lambda r: r.update(commitment="00" * 32), "not about the id that was given"),
    "another place": (lambda r: r.update(index=r["index"] ^ 1), "leads to|the path"),
    "a place outside": (lambda r: r.update(index=12), "leaf 12 of a tree of 12 leaves; expected 0 to 11"),
    "a place below 0": (lambda r: r.update(index=-1), "expected a whole number from 0"),
    "a shorter path": (lambda r: r["path"].pop(), "the path ends below the root|leads to"),
    "a longer path": (lambda r: r["path"].append("00" * 32), "goes on above the root|leads to"),
    "an endless path": (lambda r: r["path"].extend(["00" * 32] * 60), "6[34] hashes; a tree of 12 leaves has at most"),
    "another path": (lambda r: r["path"].__setitem__(0, "00" * 32), "leads to .*; the root is"),
    "a path that is no path": (lambda r: r.update(path=["x"]), "hashes of 64 lower-case"),
    "another root": (lambda r: r["request"].update(root="00" * 32), "leads to .*; the root is 0000"),
    "a larger request": (lambda r: r["request"].update(size=2**40), "the path ends below the root"),
    "an empty request": (lambda r: r["request"].update(size=0), "expected a whole number from 1"),
    "a range backwards": (
        lambda r: r["request"].update(padded={"from": 13, "to": 12}),
        "expected from .at least 1. and to = size = 12",
    ),
    "another range": (lambda r: r["request"].update(padded={"from": 1, "to": 13}), "to = size = 12"),
    "words of its own": (lambda r: r.update(says="Your data is gone."), "says: 'Your data is gone.'; expected"),
    "one field more": (lambda r: r.update(verdict="fine"), "field 'verdict' is unknown"),
    "one field less": (lambda r: r.pop("path"), "field 'path' is absent"),
    "another kind": (lambda r: r.update(kind="cu-cert-receipt/2"), "kind: 'cu-cert-receipt/2'"),
    "another scheme": (lambda r: r.update(scheme="none"), "scheme: 'none'"),
    "a name that is none": (lambda r: r["certificate"].update(id="\u001b[2J"), "expected urn:uuid: and a UUID"),
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_receipt_that_was_changed_is_refused(attack: str, done: Finished, receipt: Path) -> None:
    change, message = ATTACKS[attack]
    document = json.loads(receipt.read_text())
    change(document)
    receipt.write_text(json.dumps(document))
    with pytest.raises(UntrustedError, match=message) as refusal:
        verify_receipt(receipt, request_ids(done.project)[0], now=NOW)
    assert refusal.value.exit_code == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r["certificate"]["payload"].update(sha256="00" * 32), "with payload sha256:0000"),
        (lambda r: r["certificate"].update(id=NAME), "the certificate has another id"),
        (lambda r: r["request"].update(padded={"from": 1, "to": 12}), "root and size are not those of the certificate"),
    ],
)  # fmt: skip
def test_another_certificate_is_refused(
    change: Callable[[dict[str, Any]], object], message: str, done: Finished, receipt: Path
) -> None:
    document = json.loads(receipt.read_text())
    change(document)
    receipt.write_text(json.dumps(document))
    bundle, trust = done.out / "certificate.sigstore.json", load_trust(done.trust)
    identifier = request_ids(done.project)[0]
    verify_receipt(receipt, identifier, now=NOW)  # it holds in itself
    with pytest.raises(UntrustedError, match=message):
        verify_receipt(receipt, identifier, certificate=bundle, trust=trust, now=NOW)


def test_the_certificate_of_another_audit_and_of_another_signer_are_refused(
    done: Finished, receipt: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    other = finished_audit(tmp_path_factory.getbasetemp(), verdict="NOT_REFUTED")
    asked = ["receipt", "verify", str(receipt), "--id-file", str(receipt.parent / "id.txt")]
    assert run([*asked, *theirs(other)]) == 4
    assert "names the certificate with payload" in said(capsys)
    assert run([*asked, "--certificate", str(done.out / "report.html"), "--trust", str(other.trust)]) == 4
    assert "does not list" in said(capsys)


def test_the_receipt_of_another_person_is_refused(
    done: Finished, receipt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = request_ids(done.project)[1]
    assert run(["receipt", "verify", str(receipt), "--id", other]) == 4
    message = said(capsys)
    assert "its commitment is not about the id that was given" in message
    assert other not in message


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (b"", 4, "not JSON"),
        (b"{}", 4, "receipt.kind: missing"),
        (b"[]", 4, "list; expected an object"),
        (b'{"kind":"cu-cert-receipt/1","kind":"cu-cert-receipt/1"}', 4, "stands twice"),
        (b'{"index":1.5}', 4, "expected an integer"),
        (b" " * (MAX_RECEIPT + 1), 2, "bytes"),
        (b"\xff", 4, "not UTF-8"),
    ],
)
def test_a_file_that_is_no_receipt(
    data: bytes, code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "r.json").write_bytes(data)
    assert run(["receipt", "verify", str(tmp_path / "r.json"), "--id", "x"]) == code
    assert message in said(capsys)
    with pytest.raises(Rejected, match=message):
        read_receipt(data)


# --- A second implementation as the judge -----------------------------------------------------------------------------


def root_from(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """The root that a path leads to, by the recursive definition of RFC 9162, section 2.1.3.1, read backwards."""
    if size == 1:
        assert path == []
        return hashlib.sha256(b"\x00" + leaf).digest()
    split = 1
    while split * 2 < size:
        split *= 2
    *inner, beside = path
    if index < split:
        return hashlib.sha256(b"\x01" + root_from(leaf, index, split, inner) + beside).digest()
    return hashlib.sha256(b"\x01" + beside + root_from(leaf, index - split, size - split, inner)).digest()


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), min_size=1, max_size=20),
    st.integers(0, 9),
    st.data(),
)
def test_every_receipt_of_every_request_leads_to_its_root(texts: list[str], pad: int, data: st.DataObject) -> None:
    ids = list({" ".join(text.split()): None for text in texts if text.split()})
    try:
        public = commit(ids, KEY, pad_to=pad)
    except UsageError:
        return  # no ids, or two that are equal after normalisation
    kept = Kept(key=KEY, ids=tuple(ids), padded=public.size if pad else None)
    book = ReceiptBook(kept, NAME, PAYLOAD, public.face)
    chosen, other = (data.draw(st.sampled_from(ids)) for _ in range(2))
    found: Receipt = read_receipt(book.receipt(chosen).to_bytes())
    require_receipt(found, f"  {chosen} ")
    assert root_from(found.commitment, found.index, public.size, list(found.path)).hex() == public.root
    if other != chosen:
        with pytest.raises(Rejected, match="not about the id"):
            require_receipt(found, other)


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    with pytest.raises(Rejected):
        read_receipt(data)


# --- The copied checker -----------------------------------------------------------------------------------------------


def test_checking_a_receipt_needs_no_numerical_library(done: Finished, receipt: Path) -> None:
    heavy = "{'torch', 'numpy', 'scipy', 'sklearn', 'cu_attacks'} & {name.split('.')[0] for name in sys.modules}"
    code = f"import sys; from cu_cert.cli.main import run; sys.exit(run(sys.argv[1:]) or bool({heavy}))"
    asked = ["receipt", "verify", str(receipt), "--id-file", str(receipt.parent / "id.txt"), *theirs(done)]
    found = subprocess.run(
        [sys.executable, "-c", code, *asked], env={"PYTHONPATH": os.pathsep.join(ROOTS)}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr


def test_the_copied_checker_checks_a_receipt(done: Finished, receipt: Path, tmp_path: Path) -> None:
    shutil.copytree(CHECK, tmp_path / "copied" / "check", ignore=shutil.ignore_patterns("__pycache__"))

    def checked(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-B", "-S", "-m", "check", *arguments]
        return subprocess.run(command, cwd=tmp_path / "copied", input=text, capture_output=True, text=True, timeout=60)

    identifier, page = request_ids(done.project)[0], str(done.out / "report.html")
    found = checked("--receipt", str(receipt), "--id-file", "-", page, text=identifier)
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[0].startswith("No signature was checked")
    assert found.stdout.splitlines()[-1] == SAYS
    wrong = checked("--receipt", str(receipt), "--id", "somebody else", "--json")
    assert wrong.returncode == 4
    assert json.loads(wrong.stdout)["accepted"] is False
    assert checked("--receipt", str(receipt)).returncode == 2
    assert checked("--receipt", str(tmp_path / "no.json"), "--id", "x").returncode == 2
