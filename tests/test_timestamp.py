"""Time stamps (RFC 3161): what is accepted, what is refused, and that openssl agrees, with an authority made here."""

import base64
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from authority import OPENSSL, Authority, make_authority, openssl, served
from drafts import key_and_trust, with_time, write_draft

from cu_cert.cli.main import run
from cu_certificates.errors import MissingFileError, UntrustedError, UsageError
from cu_certificates.stamping import stampable
from cu_certificates.timestamp import fetch, query, verify_token

pytest.importorskip("rfc3161_client", reason="the extra timestamp is not installed")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl, which plays the authority, is not installed")

SIGNATURE = b"0E\x02 raw signature bytes"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tsa") / "authority")


@pytest.fixture(scope="module")
def token(authority: Authority) -> bytes:
    return authority.stamp(SIGNATURE)


def test_a_stamp_is_accepted_by_us_and_by_openssl(authority: Authority, token: bytes) -> None:
    found = verify_token(token, SIGNATURE, [authority.root])
    assert found.tzinfo is not None
    assert abs(found - datetime.now(UTC)) < timedelta(minutes=10)
    assert authority.agrees(token, SIGNATURE)
    text = openssl("ts", "-reply", "-in", str(authority.folder / "reply.tsr"), "-text").stdout.decode()
    stated = next(line for line in text.splitlines() if line.startswith("Time stamp:")).partition(": ")[2]
    assert datetime.strptime(stated, "%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC) == found


def test_our_query_is_the_one_of_openssl(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(SIGNATURE)
    options = ["-sha256", "-cert", "-no_nonce"]
    openssl("ts", "-query", "-data", str(tmp_path / "data"), *options, "-out", str(tmp_path / "q"))
    assert query(SIGNATURE) == (tmp_path / "q").read_bytes()


def test_the_stated_inaccuracy_counts_against_the_stamp(tmp_path: Path) -> None:
    coarse = make_authority(tmp_path / "coarse", more="accuracy = secs:7, millisecs:500")
    token = coarse.stamp(SIGNATURE)
    from rfc3161_client import decode_timestamp_response

    stated = decode_timestamp_response(token).tst_info.gen_time
    assert verify_token(token, SIGNATURE, [coarse.root]) == stated + timedelta(seconds=7.5)


@pytest.mark.parametrize("digest", ["-sha384", "-sha512"])
def test_stronger_digests_are_accepted(authority: Authority, digest: str) -> None:
    assert verify_token(authority.stamp(SIGNATURE, digest, "-cert"), SIGNATURE, [authority.root])


def refused(token: bytes, authority: Authority, *, data: bytes = SIGNATURE) -> str:
    with pytest.raises(UntrustedError) as caught:
        verify_token(token, data, [authority.root])
    assert caught.value.step == "time"
    assert not authority.agrees(token, data)
    return str(caught.value)


def test_a_stamp_over_other_bytes_is_refused(authority: Authority, token: bytes) -> None:
    assert "speaks of other bytes" in refused(token, authority, data=SIGNATURE + b"\0")


def test_an_unknown_authority_is_refused(authority: Authority, token: bytes, tmp_path: Path) -> None:
    assert "none of those in tsa_roots" in refused(token, make_authority(tmp_path / "other"))
    both = tmp_path / "both.pem"
    both.write_bytes((tmp_path / "other" / "root.pem").read_bytes() + authority.root.read_bytes())
    assert verify_token(token, SIGNATURE, [both])
    assert verify_token(token, SIGNATURE, [tmp_path / "other" / "root.pem", authority.root])


@pytest.mark.parametrize(
    ("start", "end"), [(-400, -30), (30, 400)], ids=["certificate has expired", "certificate is not yet valid"]
)
def test_the_authoritys_certificate_must_have_been_valid_then(tmp_path: Path, start: int, end: int) -> None:
    now = datetime.now(UTC)
    late = make_authority(tmp_path / "late", start=now + timedelta(days=start), end=now + timedelta(days=end))
    assert "its certificate was not valid then" in refused(late.stamp(SIGNATURE), late)


def test_every_flipped_bit_is_refused_or_changes_nothing(authority: Authority, token: bytes) -> None:
    whole = verify_token(token, SIGNATURE, [authority.root])
    passed = 0
    for place in range(0, len(token) * 8, 5):
        spoiled = bytearray(token)
        spoiled[place // 8] ^= 1 << place % 8
        try:
            assert verify_token(bytes(spoiled), SIGNATURE, [authority.root]) == whole
            passed += 1
        except UntrustedError as problem:
            assert problem.step == "time"  # noqa: PT017
    # Version numbers and the name of the algorithm stand outside what is signed, and no reader acts on them.
    assert passed < 20


@pytest.mark.parametrize("data", [b"", b"\0", b"0\x80", b"<html>", b"0" * 300_000], ids=repr)
def test_bytes_that_are_no_answer_are_refused(authority: Authority, data: bytes) -> None:
    with pytest.raises(UntrustedError, match="time: time stamp: "):
        verify_token(data, SIGNATURE, [authority.root])


def test_a_refusal_by_the_authority_is_told(authority: Authority) -> None:
    asked = authority.folder / "md5.tsq"
    (authority.folder / "data").write_bytes(SIGNATURE)
    openssl("ts", "-query", "-data", str(authority.folder / "data"), "-sha1", "-cert", "-out", str(asked))
    answer = authority.answer(asked.read_bytes())  # sha1 is not among its digests
    with pytest.raises(UntrustedError, match=r"refused by the authority with status 2 '.*not supported"):
        verify_token(answer, SIGNATURE, [authority.root])


def test_a_stamp_without_its_certificate_says_what_to_ask_for(authority: Authority) -> None:
    with pytest.raises(UntrustedError, match="ask again with the certificate requested"):
        verify_token(authority.stamp(SIGNATURE, "-sha256"), SIGNATURE, [authority.root])


def test_a_stamp_with_the_whole_chain_is_accepted_or_says_why_not(tmp_path: Path) -> None:
    """openssl writes such a set out of order; the library is stricter than openssl (design, A.4)."""
    chained = make_authority(tmp_path / "chained", more="certs = {folder}/root.pem")
    token = chained.stamp(SIGNATURE)
    assert chained.agrees(token, SIGNATURE)
    try:
        assert verify_token(token, SIGNATURE, [chained.root])
    except UntrustedError as problem:
        assert "InvalidSetOrdering" in str(problem)  # noqa: PT017
        assert "without the whole chain" in str(problem)  # noqa: PT017


def test_roots_must_be_certificates(authority: Authority, token: bytes, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no certificate")
    for roots, message in (([], "no root certificate"), ([tmp_path / "no.pem"], "no certificate in PEM form")):
        with pytest.raises(UsageError, match=message):
            verify_token(token, SIGNATURE, roots)
    with pytest.raises(MissingFileError):
        verify_token(token, SIGNATURE, [tmp_path / "absent.pem"])


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, authority: Authority) -> None:
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)
    for call in (lambda: query(b"x"), lambda: verify_token(b"", b"x", [authority.root])):
        with pytest.raises(UsageError, match=r"pip install 'cu-cert\[timestamp\]'"):
            call()


# --- Asking an authority ---------------------------------------------------------------------------------------------


def test_an_authority_is_asked_over_http(authority: Authority) -> None:
    with served(authority) as url:
        token = fetch(url, SIGNATURE)
    assert verify_token(token, SIGNATURE, [authority.root])


def test_an_authority_that_cannot_answer_is_told(authority: Authority, token: bytes) -> None:
    for url, message in (
        ("http://127.0.0.1:1/tsa", "cannot be reached"),
        ("file:///etc/passwd", "expected an address"),
        ("tsa.example", "expected an address"),
        ("http://[", "expected an address"),
        ("http://no such host/", "cannot be reached"),
    ):
        with pytest.raises(UsageError, match=message):
            fetch(url, SIGNATURE)
    other = authority.stamp(b"other bytes")
    for status, body, message in (
        (503, b"", "answers 503"),
        (200, b"<html>", "not the answer of an authority"),
        (200, other, "speaks of other bytes"),
        (200, b"0" * 300_000, "expected at most"),
    ):
        with served(authority, status=status, body=body) as url, pytest.raises(UsageError, match=message) as caught:
            fetch(url, SIGNATURE)
        assert "--tsq and --tsr" in str(caught.value)


# --- On the command line ---------------------------------------------------------------------------------------------


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_draft(tmp_path / "out").parent


@pytest.fixture
def keys(tmp_path: Path, authority: Authority) -> tuple[str, str]:
    """A key, and a trust file that asks for a stamp by the authority."""
    key, trust = key_and_trust(tmp_path)
    with_time(trust, {"require_timestamp": "true", "tsa_roots": json.dumps([str(authority.root)])})
    return str(key), str(trust)


def signature_in(out: Path) -> bytes:
    bundle = json.loads((out / "certificate.sigstore.json").read_bytes())
    return base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])


def test_sign_and_stamp_at_once(
    out: Path, keys: tuple[str, str], authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    key, trust = keys
    with served(authority) as url:
        assert run(["sign", str(out / "certificate.draft.json"), "--key", key, "--tsa", url]) == 0
    assert "time stamp   20" in capsys.readouterr().out
    assert authority.agrees((out / "certificate.tsr").read_bytes(), signature_in(out))
    for carrier in ("certificate.sigstore.json", "report.html"):
        assert run(["verify", str(out / carrier), "--trust", trust]) == 0
        assert ", time stamp 20" in capsys.readouterr().out


def test_an_authority_that_is_away_stops_before_anything_is_written(
    out: Path, keys: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    arguments = ["sign", str(out / "certificate.draft.json"), "--key", keys[0], "--tsa", "http://127.0.0.1:1/tsa"]
    assert run(arguments) == 2
    assert "the authority cannot be reached" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_query_is_carried_to_the_authority_and_its_answer_back(
    out: Path, keys: tuple[str, str], authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, trust = keys
    asked, reply = tmp_path / "certificate.tsq", tmp_path / "answer.tsr"
    certificate = str(out / "certificate.sigstore.json")
    assert run(["sign", str(out / "certificate.draft.json"), "--key", key, "--tsq", str(asked)]) == 0
    assert run(["verify", certificate, "--trust", trust]) == 4
    assert "require_timestamp = true" in capsys.readouterr().err
    reply.write_bytes(authority.answer(asked.read_bytes()))
    assert run(["sign", certificate, "--tsr", str(reply), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["schema"], told["stamped"]) == ("cu-cert-sign/1", "certificate")
    assert told["stampFile"] == str(out / "certificate.tsr")
    assert run(["verify", certificate, "--trust", trust]) == 0
    # The same query again, and one that is already there.
    assert run(["sign", certificate, "--tsq", str(asked)]) == 2
    assert "is never overwritten" in capsys.readouterr().err
    assert run(["sign", str(out / "report.html"), "--tsq", str(tmp_path / "again.tsq")]) == 0
    assert (tmp_path / "again.tsq").read_bytes() == asked.read_bytes()


def test_an_answer_must_belong_to_the_file_and_an_earlier_one_stays(
    out: Path, keys: tuple[str, str], authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sign", str(out / "certificate.draft.json"), "--key", keys[0]]) == 0
    certificate, wrong, right = out / "certificate.sigstore.json", tmp_path / "wrong.tsr", tmp_path / "right.tsr"
    wrong.write_bytes(authority.stamp(certificate.read_bytes()))  # over the file, not over its signature
    right.write_bytes(authority.stamp(signature_in(out)))
    (out / "certificate.tsr").write_bytes(b"useless")
    assert run(["sign", str(certificate), "--tsr", str(wrong)]) == 4
    assert "speaks of other bytes" in capsys.readouterr().err
    assert (out / "certificate.tsr").read_bytes() == b"useless"
    assert run(["sign", str(certificate), "--tsr", str(right)]) == 0
    later = tmp_path / "later.tsr"
    later.write_bytes(authority.stamp(signature_in(out)))
    assert run(["sign", str(certificate), "--tsr", str(later)]) == 2
    assert "an earlier stamp shows more" in capsys.readouterr().err
    assert (out / "certificate.tsr").read_bytes() == right.read_bytes()


def test_a_plan_is_stamped_before_the_run_and_verify_says_so(
    out: Path, keys: tuple[str, str], authority: Authority, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, trust = keys
    with served(authority) as url:
        assert run(["sign", str(out / "plan.json"), "--tsa", url]) == 0
        assert "over the plan" in capsys.readouterr().out
        assert run(["sign", str(out / "certificate.draft.json"), "--key", key, "--tsa", url]) == 0
    assert authority.agrees((out / "plan.tsr").read_bytes(), (out / "plan.json").read_bytes())
    certificate = str(out / "certificate.sigstore.json")
    capsys.readouterr()
    assert run(["verify", certificate, "--trust", trust]) == 0
    assert "the plan existed no later than 20" in capsys.readouterr().out
    # Nobody named: it is not looked at.
    _, plain = key_and_trust(tmp_path, "unasked")
    Path(plain).write_text(Path(trust).read_text().partition("\n[time]")[0])
    assert run(["verify", certificate, "--trust", str(plain)]) == 0
    assert "tsa_roots" in capsys.readouterr().out
    # A stamp over another plan is refused, not passed over.
    (out / "plan.tsr").write_bytes(authority.stamp(b"another plan"))
    assert run(["verify", certificate, "--trust", trust]) == 4
    assert "plan.tsr': time stamp: speaks of other bytes" in capsys.readouterr().err


def test_what_can_be_stamped_shows_from_the_content(out: Path, tmp_path: Path, keys: tuple[str, str]) -> None:
    for name in ("evidence/slots.jsonl", "certificate.draft.json", "report.html"):  # the page of a draft is unsigned
        with pytest.raises(UsageError, match="needs a signed certificate or a plan"):
            stampable(out / name)
    with pytest.raises(MissingFileError):
        stampable(tmp_path / "absent")
    assert run(["sign", str(out / "certificate.draft.json"), "--key", keys[0]]) == 0
    found = {name: stampable(out / name) for name in ("certificate.sigstore.json", "report.html", "plan.json")}
    assert found["certificate.sigstore.json"].data == found["report.html"].data == signature_in(out)
    assert found["plan.json"].data == (out / "plan.json").read_bytes()
    assert [one.place.name for one in found.values()] == ["certificate.tsr", "certificate.tsr", "plan.tsr"]
