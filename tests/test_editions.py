"""Two editions of one certificate: the same signed bytes, more or less evidence, nobody's id and nothing private."""

import json
import shutil
import stat
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sample_predicate import sample
from small_project import Finished, files_below, finished_audit, predicate_of, request_ids

from cu_cert.cli.main import run
from cu_cert.data import load_records
from cu_cert.naming_nobody import index_of, require_files
from cu_cert.project import load_project
from cu_certificates.errors import UsageError
from cu_certificates.lint import lint_wording
from cu_certificates.privacy import IdIndex
from cu_certificates.request import commitment, opening
from cu_certificates.seal import seal

EVIDENCE = {f"evidence/{name}.jsonl" for name in ("artifact", "distances", "pilots", "shared", "slots", "utility")}
PUBLIC = {"certificate.sigstore.json", "plan.json", "report.html", "README.txt"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished_audit(tmp_path_factory.getbasetemp())


@pytest.fixture
def out(done: Finished, tmp_path: Path) -> Path:
    """A copy of an output folder, to be changed."""
    shutil.copytree(done.out, tmp_path / "audit-out")
    return tmp_path / "audit-out"


def edition(which: str, done: Finished, folder: Path, *more: str, file: Path | None = None) -> int:
    asked = [str(file or done.out / "report.html"), "--trust", str(done.trust), "--edition", which, "-o", str(folder)]
    return run(["report", *asked, *more])


def test_the_public_edition_holds_the_signed_bytes_and_the_public_evidence(
    done: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "public"
    assert edition("public", done, folder, "--forget", str(done.project / "ids.txt")) == 0
    found = files_below(folder)
    assert set(found) == PUBLIC
    for name in PUBLIC - {"README.txt"}:
        assert found[name] == (done.out / name).read_bytes()
    trust = ["--trust", str(done.trust)]
    for name in ("report.html", "certificate.sigstore.json"):
        assert run(["verify", str(folder / name), *trust, "--without-evidence"]) == 0
        assert run(["verify", str(folder / name), *trust]) == 4  # says which file to ask for
    assert "evidence/slots.jsonl" in capsys.readouterr().err
    assert run(["lint", "privacy", str(folder), "--forget", str(done.project / "ids.txt")]) == 0


def test_the_annex_holds_all_evidence_and_nothing_private(done: Finished, tmp_path: Path) -> None:
    folder = tmp_path / "annex"
    assert edition("annex", done, folder, file=done.out / "certificate.sigstore.json") == 0
    found = files_below(folder)
    assert set(found) == PUBLIC | EVIDENCE
    for name in (PUBLIC | EVIDENCE) - {"README.txt"}:
        assert found[name] == (done.out / name).read_bytes()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    kept = json.loads((done.out / "private" / "request.json").read_text())
    assert not any(kept["requestKey"].encode() in data for data in found.values())
    assert run(["verify", str(folder / "report.html"), "--trust", str(done.trust), "--model", str(done.model)]) == 0


@pytest.mark.parametrize("which", ["public", "annex"])
def test_the_readme_names_digests_access_and_retention(which: str, done: Finished, tmp_path: Path) -> None:
    folder = tmp_path / which
    assert edition(which, done, folder) == 0
    text = (folder / "README.txt").read_text()
    for name, data in files_below(folder).items():
        assert name == "README.txt" or f"  {sha256(data).hexdigest()}  {name}\n" in text
    for entry in predicate_of(done.out)["evidence"]:
        here = "here" if which == "annex" or entry["access"] == "public" else "not here"
        assert f"  {entry['digest']['sha256']}  {entry['name']}  {entry['access']}  {here}\n" in text
    assert "Evidence is kept until: not stated" in text
    assert ("--without-evidence" in text) == (which == "public")
    assert lint_wording(folder / "README.txt").hits == ()


def test_the_time_stamp_and_the_log_go_along(done: Finished, out: Path, tmp_path: Path) -> None:
    (out / "plan.tsr").write_bytes(b"\x30\x82")
    (out / "log.jsonl").write_bytes(b'{"kind":"plan"}\n')
    (out / "notes.txt").write_text("between us")
    (out / "certificate.sigstore.json").unlink()
    assert edition("public", done, tmp_path / "public", file=out / "report.html") == 0
    assert set(files_below(tmp_path / "public")) == {"report.html", "plan.json", "README.txt", "plan.tsr", "log.jsonl"}


def test_what_is_not_copied(
    done: Finished,
    out: Path,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = finished_audit(tmp_path_factory.getbasetemp(), verdict="NOT_REFUTED")
    folder = tmp_path / "edition"
    ids = tmp_path / "ids.txt"
    ids.write_text("data.npz\nmodel.pt\nNPO-7\n")  # the name of the data is on the list
    (tmp_path / "there").mkdir()

    def change(name: str, data: bytes) -> Path:
        shutil.rmtree(out)
        shutil.copytree(done.out, out)
        (out / name).write_bytes(data)
        return out / "report.html"

    cases: list[tuple[int, int, str]] = []
    cases.append(
        (
            edition("public", done, folder, "--forget", str(ids)),
            2,
            "nothing was copied: certificate.sigstore.json would",
        )
    )
    cases.append((edition("public", done, tmp_path / "there"), 2, "exists already; name a new folder"))
    cases.append((edition("secret", done, folder), 2, "expected public or annex"))
    cases.append((edition("public", done, folder, "--accept", "forget-id"), 2, "ids are never accepted"))
    cases.append((edition("public", done, folder, "--pdf", "x.pdf"), 2, "leave out --pdf and --lang"))
    cases.append(
        (run(["report", str(done.out / "report.html"), "--edition", "public", "-o", str(folder)]), 2, "--trust FILE")
    )
    cases.append((run(["report", str(done.out / "report.html"), "--accept", "host"]), 2, "belong to --edition"))
    file = change("log.jsonl", b'{"who":"jane@example.org"}\n')
    cases.append((edition("public", done, folder, file=file), 2, "log.jsonl: who: e-mail: ja... (16 characters)"))
    file = change("certificate.sigstore.json", (other.out / "certificate.sigstore.json").read_bytes())
    cases.append((edition("public", done, folder, file=file), 4, "carries another certificate than the one given"))
    file = change("evidence/slots.jsonl", b"{}\n")
    cases.append((edition("public", done, folder, file=file), 4, "the file was altered"))
    file = change("plan.json", (done.out / "plan.json").read_bytes())
    (out / "evidence" / "utility.jsonl").unlink()
    cases.append((edition("annex", done, folder, file=file), 4, "'evidence/utility.jsonl' is absent"))
    messages = [line for line in capsys.readouterr().err.splitlines() if line.startswith("cu-cert:")]
    assert len(messages) == len(cases)
    for (code, expected, part), message in zip(cases, messages, strict=True):
        assert (code, part in message) == (expected, True), message
    assert not folder.exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    file = change("log.jsonl", b'{"who":"jane@example.org"}\n')
    assert edition("public", done, folder, "--accept", "e-mail", "--json", file=file) == 0
    assert json.loads(capsys.readouterr().out)["files"] == sorted(PUBLIC | {"log.jsonl"})


# --- No evidence is keyed or ordered by record ----------------------------------------------------------------------


def strings(value: object) -> list[str]:
    match value:
        case dict():
            return [said for inner in value.values() for said in strings(inner)]
        case list():
            return [said for inner in value for said in strings(inner)]
        case str():
            return [value]
    return []


WORDS = {
    "opening", "subject", "run", "record", "model", "main", "positive", "negative", "reference", "pilots", "unlearned",
    "retrained", "original", "rerun", "done", "failed", "held-out", "retained", "request", "never", "release",
    "plan", "shadow", "",
}  # fmt: skip


def rows_of(out: Path) -> dict[str, list[dict[str, Any]]]:
    found = predicate_of(out)["evidence"]
    return {
        entry["name"]: [json.loads(line) for line in (out / entry["name"]).read_bytes().splitlines()] for entry in found
    }


@pytest.fixture(scope="module")
def by_record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit whose evidence has a row for each record."""
    from small_project import SMALLEST, fix_secrets, write_project

    folder = write_project(tmp_path_factory.mktemp("labels") / "project", **SMALLEST)
    fix_secrets(folder, "labels")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run(["train", "-o", "model.pt"]) == 0
        asked = ["--original", "model.pt", "--no-retrain"]
        assert run(["audit", "model.pt", "--forget", "ids.txt", "--procedure", "none", *asked]) == 0
    return folder


def test_every_evidence_file_holds_only_words_of_the_format_and_digests_that_no_id_gives(
    done: Finished, by_record: Path
) -> None:
    for project, out in ((done.project, done.out), (by_record, by_record / "audit-out")):
        ids = load_records(load_project(project / "cu-cert.toml").data, project).records.ids
        key = bytes.fromhex(json.loads((out / "private" / "request.json").read_text())["requestKey"])
        telling = {spelled for name in ids for spelled in (name, sha256(name.encode()).hexdigest())}
        for name in ids:
            opened = opening(key, name)
            telling |= {opened.hex(), commitment(opened, name).hex()}
        for file, rows in rows_of(out).items():
            if file == "plan.json":
                continue
            said = {text for row in rows for text in strings(row)}
            plain = {text for text in said if len(text) != 64 or set(text) - set("0123456789abcdef")}
            assert plain <= WORDS, file
            assert not said & telling, file


def test_rows_about_records_stand_in_the_order_of_their_numbers(done: Finished, by_record: Path) -> None:
    seen = 0
    for out in (done.out, by_record / "audit-out"):
        for file, rows in rows_of(out).items():
            records = [row for row in rows if row.get("kind") == "record"]
            seen += len(records)
            if file == "evidence/labels.jsonl":
                keys = [(row["stratum"], row["score"], row["blind"], row["original"]) for row in records]
                assert keys == sorted(keys)
                assert all(
                    set(row) == {"kind", "group", "stratum", "score", "blind", "near", "original"} for row in records
                )
            elif records:
                groups = [row["group"] for row in records]
                keys = [(groups.index(row["group"]), row["score"]) for row in records]
                assert keys == sorted(keys), file
                assert all(set(row) == {"kind", "group", "score"} for row in records)
    assert seen > 300


def test_each_evidence_file_says_who_may_have_it(done: Finished, by_record: Path) -> None:
    for out in (done.out, by_record / "audit-out"):
        access = {entry["name"]: entry["access"] for entry in predicate_of(out)["evidence"]}
        assert access.pop("plan.json") == "public"
        assert set(access.values()) == {"controlled"}


# --- The last look before the signature -------------------------------------------------------------------------------


def test_nothing_is_signed_when_the_last_look_refuses() -> None:
    class Signer:
        keyid = "SHA256:abc"

        def sign(self, data: bytes) -> bytes:
            raise AssertionError("signed")

    def look(payload: bytes, page: bytes) -> None:
        assert json.loads(payload)["predicate"]["verdict"]
        assert page.startswith(b"<!")
        raise UsageError("seen")

    from fake_certificate import fake
    from fake_evidence import Knobs

    found = fake(Knobs())
    with pytest.raises(UsageError, match="seen"):
        seal(found.predicate, found.files.get, signer=Signer(), look=look)  # type: ignore[arg-type]


def test_an_id_anywhere_in_the_finished_files_is_refused(done: Finished) -> None:
    identifier = request_ids(done.project)[3]
    index = index_of(request_ids(done.project), "the request")
    clean = {"the certificate": json.dumps({"predicate": sample("refuted")}).encode(), "the report": b"<p>x</p>"}
    require_files(index, clean)
    require_files(IdIndex({}), clean)
    for name, data in (
        ("the certificate", json.dumps({"predicate": {"plots": {"eps": {"title": f"of {identifier}"}}}}).encode()),
        ("the report", f"<p title='{identifier}'>x</p>".encode()),
        ("evidence/slots.jsonl", json.dumps({"kind": "run", "id": identifier}).encode()),
        ("evidence/slots.jsonl", b'{"kind":"opening"}\n' + json.dumps({identifier: 1}).encode()),
        ("plan.json", json.dumps({"d": sha256(identifier.encode()).hexdigest()}).encode()),
    ):
        with pytest.raises(UsageError, match=r"nothing was signed: .* the request, number 4") as refusal:
            require_files(index, {**clean, name: data})
        assert identifier not in str(refusal.value)
