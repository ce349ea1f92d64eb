"""What a certificate gives away: nothing that names a person, a folder or a machine, outside ``private/``."""

import base64
import hashlib
import hmac
import json
import os
import platform
import shutil
import socket
import stat
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from small_project import (
    HOST,
    SMALLEST,
    Finished,
    files_below,
    finished_audit,
    predicate_of,
    request_ids,
    write_project,
)

from cu_cert.cli.main import run
from cu_cert.data import load_records
from cu_cert.project import load_project


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished_audit(tmp_path_factory.getbasetemp())


def public(out: Path) -> dict[str, bytes]:
    """What may be handed on, with the payload in clear beside its base64."""
    files = {name: data for name, data in files_below(out).items() if not name.startswith("private/")}
    bundle = json.loads(files["certificate.sigstore.json"])
    return files | {"payload": base64.b64decode(bundle["dsseEnvelope"]["payload"])}


def holders(files: dict[str, bytes], secret: str | bytes) -> list[str]:
    """The files that hold a text, in any case and in the spellings of JSON and HTML."""
    raw = secret if isinstance(secret, bytes) else secret.encode()
    spellings = {raw.lower(), json.dumps(raw.decode("latin-1"))[1:-1].encode().lower(), raw.hex().encode()}
    return [name for name, data in files.items() if any(spelling in data.lower() for spelling in spellings)]


def test_the_files_handed_on_are_the_documented_ones(done: Finished) -> None:
    assert sorted(files_below(done.out)) == [
        "certificate.sigstore.json",
        "evidence/artifact.jsonl",
        "evidence/distances.jsonl",
        "evidence/pilots.jsonl",
        "evidence/shared.jsonl",
        "evidence/slots.jsonl",
        "evidence/utility.jsonl",
        "plan.json",
        "private/request.json",
        "report.html",
    ]


def test_no_id_of_any_record_stands_in_any_file(done: Finished) -> None:
    files = public(done.out)
    ids = load_records(load_project(done.project / "cu-cert.toml").data, done.project).records.ids
    assert set(request_ids(done.project)) < set(ids)
    for identifier in ids:
        assert not holders(files, identifier)
        assert not holders(files, hashlib.sha256(identifier.encode()).hexdigest())  # a bare hash can be guessed
    assert not holders(files, "person-")
    assert holders(files_below(done.out), request_ids(done.project)[0]) == ["private/request.json"]


def test_no_folder_and_no_machine_stands_in_any_file(done: Finished) -> None:
    files = public(done.out)
    names = [str(done.home), str(done.project), done.home.name, done.project.name, HOST, "audit-key"]
    # A machine may be called like a word of the report; then its name says nothing here.
    names += [name for name in (socket.gethostname(), platform.node()) if len(name) > 5 and not name.isalpha()]
    names += [str(folder) for folder in (Path.home(), Path.cwd(), Path(__file__).parents[1]) if len(str(folder)) > 3]
    for name in names:
        assert not holders(files, name), name
    assert predicate_of(done.out)["scope"]["data"]["source"] == "data.npz"


def test_a_source_in_a_telling_folder_is_named_without_it(
    done: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = write_project(tmp_path / "project", **SMALLEST)
    telling = tmp_path / "customers-of-jane"
    telling.mkdir()
    (project / "data.npz").rename(telling / "data.npz")
    text = (project / "cu-cert.toml").read_text()
    (project / "cu-cert.toml").write_text(text.replace('"data.npz"', json.dumps(str(telling / "data.npz"))))
    shutil.copyfile(done.model, project / "model.pt")
    monkeypatch.chdir(project)
    asked = ["audit", str(project / "model.pt"), "--forget", str(project / "ids.txt"), "--procedure", "none"]
    assert run([*asked, "--out", str(tmp_path / "out")]) == 0
    files = public(tmp_path / "out")
    for name in ("customers-of-jane", str(tmp_path), "project"):
        assert not holders({name: data for name, data in files.items() if name != "report.html"}, f"/{name}")
        assert not holders(files, f"{name}/")
    assert predicate_of(tmp_path / "out")["scope"]["data"]["source"] == "data.npz"
    assert predicate_of(tmp_path / "out")["scope"]["model"]["name"] == "model.pt"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_private_files_are_for_their_owner_alone(
    done: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (done.out / "private", done.project / ".cu-cert" / "private"):
        assert mode(folder) == 0o700
        assert [oct(mode(path)) for path in folder.rglob("*") if path.is_file() and mode(path) != 0o600] == []
        assert [oct(mode(path)) for path in folder.rglob("*") if path.is_dir() and mode(path) != 0o700] == []
    # Also where the folder stood open before, and whatever the umask.
    project = write_project(tmp_path / "project", **SMALLEST)
    shutil.copyfile(done.model, project / "model.pt")
    (project / "audit-out" / "private").mkdir(parents=True)
    (project / "audit-out" / "private").chmod(0o755)
    monkeypatch.chdir(project)
    before = os.umask(0)
    try:
        assert run(["audit", "model.pt", "--forget", "ids.txt", "--method", "npo", "--no-sign"]) == 0
    finally:
        os.umask(before)
    assert mode(project / "audit-out" / "private") == 0o700
    assert mode(project / "audit-out" / "private" / "request.json") == 0o600
    assert mode(project / ".cu-cert" / "private") == 0o700
    assert {mode(path) for path in (project / ".cu-cert" / "private").rglob("*.key")} == {0o600}
    assert mode(project / "audit-out" / "report.html") & 0o111 == 0


# The commitment, opened by hand as RFC 9162 and the format say


def tree(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + tree(leaves[:split]) + tree(leaves[split:])).digest()


def test_the_ids_in_private_open_the_certificates_root(done: Finished) -> None:
    kept = json.loads((done.out / "private" / "request.json").read_text("utf-8"))
    commitments = []
    for entry in kept["openings"]:
        identifier = b"str:" + unicodedata.normalize("NFC", entry["id"]).strip().encode()
        key = bytes.fromhex(kept["requestKey"])
        opening = hmac.new(key, b"cu-cert/forget/v1/opening\x00" + identifier, hashlib.sha256).digest()
        assert entry["opening"] == opening.hex()
        commitments.append(hashlib.sha256(b"cu-cert/forget/v1\x00" + opening + identifier).digest())
        assert entry["commitment"] == commitments[-1].hex()
    assert sorted(entry["id"] for entry in kept["openings"]) == sorted(request_ids(done.project))
    request = predicate_of(done.out)["request"]["commitment"]
    assert request == {"scheme": "cu-cert-forget/1", "root": tree(sorted(commitments)).hex(), "size": len(commitments)}
    # No leaf is published, so a root cannot be searched id by id, even by one who learns an opening.
    assert not any(holders(public(done.out), leaf.hex()) for leaf in commitments)
    assert not holders(public(done.out), kept["requestKey"])
    # The audit's seed is opened in the evidence, where the coins are derived from it; the request's key never is.
    opened = [f"evidence/{name}.jsonl" for name in ("artifact", "distances", "slots")]
    assert holders(public(done.out), kept["auditSeed"]) == opened


# Evidence speaks of models, never of records


def rows(out: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "evidence" / name).read_text().splitlines()]


def test_evidence_has_a_row_a_model_and_no_row_a_record(done: Finished) -> None:
    plan = json.loads((done.out / "plan.json").read_bytes())
    allowed = {
        "opening": {"kind", "seed", "nonce"},
        "subject": {"kind", "file", "model", "signals", "score"},
        "run": {"kind", "group", "slot", "role", "status", "model", "signals", "score"},
    }
    for name, models in (
        ("slots.jsonl", None),
        ("artifact.jsonl", 1 + plan["artifact"]["references"] + 1 + plan["artifact"]["negatives"]),
        ("pilots.jsonl", 3 * plan["score"]["pilots"]),
    ):
        found = rows(done.out, name)
        assert all(set(row) == allowed[row["kind"]] for row in found)
        assert all(isinstance(row["score"], int) for row in found if "score" in row)
        assert models is None or sum(row["kind"] != "opening" for row in found) == models


def test_rows_of_right_answers_are_sorted_so_that_none_can_be_linked(done: Finished) -> None:
    found = rows(done.out, "utility.jsonl")
    assert all(set(row) == {"kind", "group", "score"} and row["kind"] == "record" for row in found)
    groups = [row["group"] for row in found]
    assert [name for at, name in enumerate(groups) if name not in groups[:at]] == ["held-out", "retained", "request"]
    assert groups == sorted(groups, key=["held-out", "retained", "request"].index)
    for group in set(groups):
        scores = [row["score"] for row in found if row["group"] == group]
        assert scores == sorted(scores)
        assert set(scores) == {0, 1}
