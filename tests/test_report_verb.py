"""``cu-cert report``: the same bytes for trusted keys, a marked page without them."""

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from html_page import Page
from sample_predicate import digest, draft, sample
from typer.testing import CliRunner

from cu_cert.cli import report as report_verb
from cu_certificates import keys
from cu_certificates.envelope import sign, statement
from cu_certificates.errors import MissingFileError, UntrustedError, UsageError
from cu_certificates.report import render_skeleton, report_bytes
from cu_certificates.trust import write_trust

ROOT = Path(__file__).parent.parent


# --- The verb --------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 21, tzinfo=UTC)
app = typer.Typer(pretty_exceptions_enable=False)
app.command("report")(report_verb.command)
app.command("other")(lambda: None)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificate.sigstore.json, report.html and, elsewhere, trust.toml; evidence is absent."""
    folder = tmp_path_factory.mktemp("signed")
    key = keys.generate_key(folder / "audit.pem", passphrase=None)
    write_trust(
        folder / "trust.toml", keys.public_path_of(folder / "audit.pem"), not_before=datetime(2026, 1, 1, tzinfo=UTC)
    )
    predicate = sample("refuted")
    predicate["auditor"]["keyid"] = key.keyid
    skeleton = render_skeleton(predicate)
    subjects = {"model.pt": digest("model")["sha256"], "report.html": hashlib.sha256(skeleton).hexdigest()}
    bundle = sign(statement(subjects, predicate), key)
    (folder / "certificate.sigstore.json").write_bytes(bundle)
    (folder / "report.html").write_bytes(report_bytes(predicate, bundle))
    subjects["report.html"] = "0" * 64
    (folder / "foreign.json").write_bytes(sign(statement(subjects, predicate), key))
    return folder


@pytest.mark.parametrize("name", ["certificate.sigstore.json", "report.html"])
def test_a_trusted_certificate_is_drawn_again_byte_for_byte(signed: Path, name: str) -> None:
    found = report_verb.draw(signed / name, trust=signed / "trust.toml", now=NOW)
    assert found.data == (signed / "report.html").read_bytes()
    assert (found.status, found.verdict) == ("signature valid", "REFUTED")
    assert "evidence/slots.jsonl" in found.missing


def test_without_trust_the_page_is_marked_and_carries_no_bundle(signed: Path) -> None:
    found = report_verb.draw(signed / "report.html", trust=None, now=NOW)
    assert (found.status, found.verdict) == ("unverified", "REFUTED")
    assert "not checked against any trusted key" in Page(found.data).text
    assert b"cu-cert-bundle" not in found.data


def test_a_page_that_this_version_draws_differently_is_refused(signed: Path) -> None:
    with pytest.raises(UntrustedError, match="draw it with the version that issued the certificate") as caught:
        report_verb.draw(signed / "foreign.json", trust=signed / "trust.toml", now=NOW)
    assert caught.value.step == "report"


def test_what_cannot_be_read_or_drawn_is_refused(signed: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        report_verb.draw(tmp_path / "none.json", trust=None, now=NOW)
    broken = sample("refuted")
    broken["plots"]["roc"]["series"] = []
    (tmp_path / "draft.json").write_bytes(statement({"model.pt": digest("model")["sha256"]}, broken))
    with pytest.raises(UntrustedError, match=r"cannot be drawn: plots\.roc\.series"):
        report_verb.draw(tmp_path / "draft.json", trust=None, now=NOW)


def test_the_verb_writes_the_page_and_says_what_it_is(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unsigned = statement({"model.pt": digest("model")["sha256"]}, draft("inconclusive"))
    (tmp_path / "certificate.draft.json").write_bytes(unsigned + b"\n")
    result = CliRunner().invoke(app, ["report", "certificate.draft.json"], catch_exceptions=False)
    assert result.stdout == "report.html: unverified; states no verdict (draft)\n"
    assert "UNSIGNED DRAFT" in Page(Path("report.html").read_bytes()).text
    result = CliRunner().invoke(app, ["report", str(signed / "report.html"), "-o", "two.html", "--json"])
    document = json.loads(result.stdout)
    assert (document["status"], document["verdict"]) == ("unverified", {"stated": "REFUTED"})
    assert Path("two.html").read_bytes() == report_verb.draw(signed / "report.html", trust=None, now=NOW).data


def test_an_unchecked_page_never_takes_the_place_of_a_file(signed: Path) -> None:
    before = (signed / "report.html").read_bytes()
    result = CliRunner().invoke(app, ["report", str(signed / "report.html"), "-o", str(signed / "report.html")])
    assert isinstance(result.exception, UsageError)
    assert "never overwritten" in str(result.exception)
    assert (signed / "report.html").read_bytes() == before


def test_the_verb_loads_nothing_heavy() -> None:
    program = (
        "import sys; import cu_cert.cli.report; import cu_certificates.report; "
        "print(sorted({'torch', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)))"
    )
    folders = os.pathsep.join(str(ROOT / name) for name in ("", "attacks", "certificates", "templates"))
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": folders},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


# --- Languages -------------------------------------------------------------------------------------------------------


def test_a_translation_of_a_trusted_certificate_is_marked_and_carries_no_bundle(signed: Path) -> None:
    found = report_verb.draw(signed / "report.html", trust=signed / "trust.toml", now=NOW, language="de")
    assert (found.status, found.signed, found.language) == ("signature valid", False, "de")
    assert found.data == render_skeleton(_predicate(signed), marked="translation", language="de")
    assert b"cu-cert-bundle" not in found.data
    assert "ÜBERSETZUNG" in Page(found.data).text
    own = report_verb.draw(signed / "report.html", trust=signed / "trust.toml", now=NOW, language="en")
    assert (own.data, own.signed) == ((signed / "report.html").read_bytes(), True)


def _predicate(signed: Path) -> dict[str, object]:
    from cu_certificates.verify import load_unverified

    return dict(load_unverified(signed / "certificate.sigstore.json").predicate)


def test_a_page_that_this_version_draws_differently_can_still_be_translated(signed: Path) -> None:
    found = report_verb.draw(signed / "foreign.json", trust=signed / "trust.toml", now=NOW, language="fr")
    assert "TRADUCTION" in Page(found.data).text


def test_no_translation_without_a_valid_signature_passes_for_one(signed: Path) -> None:
    text = Page(report_verb.draw(signed / "report.html", trust=None, now=NOW, language="fr").data).text
    assert "NON CONTRÔLÉ" in text
    assert "la traduction d'un certificat signé" not in text


def test_the_verb_writes_a_translation_beside_the_signed_page(
    signed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["report", str(signed / "report.html"), "--lang", "de"]
    result = CliRunner().invoke(app, given, catch_exceptions=False)
    assert result.stdout == "report.de.html: unverified; states REFUTED\n"
    again = CliRunner().invoke(app, [*given, "-o", "report.de.html"])
    assert isinstance(again.exception, UsageError), "a page without the signed line never takes the place of a file"
    result = CliRunner().invoke(app, [*given, "-o", "two.html", "--json"])
    document = json.loads(result.stdout)
    assert (document["language"], document["signed"], document["output"]) == ("de", False, "two.html")
    unknown = CliRunner().invoke(app, [*given[:-1], "it", "-o", "three.html"])
    assert isinstance(unknown.exception, UsageError)
    assert "expected one of en, de, fr" in str(unknown.exception)
    assert not (tmp_path / "three.html").exists()


def test_a_paper_that_nobody_sells_is_refused_before_anything_is_written(signed: Path, tmp_path: Path) -> None:
    made = tmp_path / "page.html"
    arguments = ["report", str(signed / "report.html"), "-o", str(made), "--pdf", str(tmp_path / "a.pdf")]
    done = CliRunner().invoke(app, [*arguments, "--paper", "A0"])
    assert isinstance(done.exception, UsageError)
    assert "--paper 'A0': expected A4 or letter" in str(done.exception)
    assert list(tmp_path.iterdir()) == []
