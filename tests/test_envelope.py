"""Statement, envelope, bundle and report line: what is written, what other tools make of it, what is refused."""

import base64
import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from cu_certificates import envelope
from cu_certificates.check import checker
from cu_certificates.check.carrier import Carrier, Signature, join_report, load_any, parse_bundle, split_report
from cu_certificates.check.strict import Rejected, canonical, parse
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.keys import SigningKey, ephemeral_key

HEX = "7a" * 32
MODEL = {"name": "model.pt", "digest": {"sha256": HEX}}
PREDICATE: dict[str, Any] = {"schemaVersion": "1.0", "scope": {"model": MODEL}, "request": {"size": 50}}
KEY = ephemeral_key()
PAYLOAD = envelope.statement({"model.pt": HEX, "report.html": "0b" * 32}, PREDICATE)
BUNDLE = envelope.sign(PAYLOAD, KEY)
SKELETON = b"<!doctype html>\n<html lang='en'>\n<head>\n<title>Audit</title>\n</head>\n<body>\n</body>\n</html>\n"

# The group order of P-256 (FIPS 186-4, D.1.2.3).
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def der_of(bundle: bytes) -> bytes:
    """The one signature of a bundle."""
    (signature,) = parse_bundle(bundle).signatures
    return signature.value


def changed(change: Any) -> bytes:
    """The bundle after a change to its parsed form."""
    document = json.loads(BUNDLE)
    change(document)
    return json.dumps(document).encode()


# --- What is written -------------------------------------------------------------------------------------------------


def test_the_encoding_is_that_of_the_dsse_specification() -> None:
    assert envelope.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert envelope.pae("\N{GREEK SMALL LETTER ALPHA}", b"") == b"DSSEv1 2 \xce\xb1 0 "


def test_the_signature_of_the_dsse_specification_covers_our_encoding() -> None:
    # The vector of protocol.md, whose signature is raw r||s; we accept only DER.
    public = ec.EllipticCurvePublicNumbers(
        46950820868899156662930047687818585632848591499744589407958293238635476079160,
        5640078356564379163099075877009565129882514886557779369047442380624545832820,
        ec.SECP256R1(),
    ).public_key()
    raw = base64.b64decode("A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==")
    signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    data = envelope.pae("http://example.com/HelloWorld", b"hello world")
    public.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    carrier = Carrier(
        payload=b"hello world",
        payload_type="http://example.com/HelloWorld",
        signatures=(Signature(keyid="k", value=raw),),
        hint="k",
    )
    with pytest.raises(UntrustedError, match="signature does not match"):
        envelope.open_envelope(carrier, public)


def test_the_format_has_one_set_of_names() -> None:
    assert envelope.PREDICATE_TYPE == checker.PREDICATE_TYPE
    assert envelope.STATEMENT_TYPE == checker.STATEMENT_TYPE
    assert envelope.PREDICATE_TYPE.startswith(envelope.PREDICATE_BASE)


def test_a_statement_is_canonical_and_keeps_the_order_of_its_subjects() -> None:
    document = parse(PAYLOAD)
    assert canonical(document) == PAYLOAD
    assert set(document) == {"_type", "subject", "predicateType", "predicate"}
    assert [entry["name"] for entry in document["subject"]] == ["model.pt", "report.html"]
    assert document["subject"][0] == MODEL


@pytest.mark.parametrize(
    ("subjects", "predicate", "message"),
    [
        ({}, {"a": 1}, "0 subjects"),
        ({str(number): HEX for number in range(1000)}, {"a": 1}, "1000 subjects"),
        ({"model.pt": HEX}, {}, "predicate is empty"),
        ({"model.pt": HEX.upper()}, {"a": 1}, "lower-case"),
        ({"model.pt": HEX[:-1]}, {"a": 1}, "64"),
        ({"model.pt": HEX + "\n"}, {"a": 1}, "64"),
        ({"": HEX}, {"a": 1}, "subject ''"),
        ({"model.pt": HEX}, {"a": 0.5}, "float"),
        ({"model.pt": HEX}, {"a": 2**53}, "2\\^53"),
    ],
)
def test_a_statement_that_verifiers_read_differently_is_not_written(
    subjects: dict[str, str], predicate: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        envelope.statement(subjects, predicate)


@pytest.mark.parametrize("payload", [b'{"a": 1}', b'{"b":1,"a":1}', b'{"a":1.0}', b'{"a":NaN}', b'{"a":1,"a":1}', b""])
def test_only_canonical_payloads_are_signed(payload: bytes) -> None:
    with pytest.raises(UsageError, match="nothing was signed"):
        envelope.sign(payload, KEY)


def test_a_bundle_is_a_function_of_payload_signature_and_key() -> None:
    carrier = parse_bundle(BUNDLE)
    assert carrier == Carrier(
        payload=PAYLOAD,
        payload_type=envelope.PAYLOAD_TYPE,
        signatures=(Signature(keyid=KEY.keyid, value=der_of(BUNDLE)),),
        hint=KEY.keyid,
    )
    assert envelope.bundle(PAYLOAD, der_of(BUNDLE), KEY.keyid) == BUNDLE
    assert BUNDLE.endswith(b"}\n")
    assert canonical(parse(BUNDLE)) + b"\n" == BUNDLE


# --- What opens an envelope ------------------------------------------------------------------------------------------


def with_signature(signature: bytes) -> Carrier:
    return parse_bundle(envelope.bundle(PAYLOAD, signature, KEY.keyid))


def test_a_signed_envelope_opens_with_its_key_alone() -> None:
    assert envelope.open_envelope(parse_bundle(BUNDLE), KEY.public) == PAYLOAD
    with pytest.raises(UntrustedError) as caught:
        envelope.open_envelope(parse_bundle(BUNDLE), ephemeral_key().public)
    assert (caught.value.step, caught.value.exit_code) == ("signature", 4)


def test_signatures_in_other_encodings_are_refused() -> None:
    der = der_of(BUNDLE)
    r, s = decode_dss_signature(der)
    raw = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    for signature in (
        raw,
        der + b"\0",
        der[:-1],
        b"\0",
        encode_dss_signature(0, 0),
        encode_dss_signature(r, s + ORDER),
    ):
        with pytest.raises(UntrustedError, match="signature"):
            envelope.open_envelope(with_signature(signature), KEY.public)


def test_the_mirrored_signature_opens_the_same_payload() -> None:
    # ECDSA is malleable, which is why a certificate is known by its payload and not by its envelope.
    r, s = decode_dss_signature(der_of(BUNDLE))
    assert envelope.open_envelope(with_signature(encode_dss_signature(r, ORDER - s)), KEY.public) == PAYLOAD


def test_a_signature_over_another_payload_type_is_refused() -> None:
    kind = "application/vnd.in-toto.unlearning+json"
    signature = Signature(keyid="k", value=KEY.sign(envelope.pae(kind, PAYLOAD)))
    carrier = Carrier(payload=PAYLOAD, payload_type=kind, signatures=(signature,), hint="k")
    with pytest.raises(UntrustedError, match="payloadType"):
        envelope.open_envelope(carrier, KEY.public)


def test_a_statement_is_read_only_in_its_one_shape() -> None:
    assert envelope.read_statement(PAYLOAD).subjects == {"model.pt": HEX, "report.html": "0b" * 32}
    base = parse(PAYLOAD)

    def spoiled(**fields: Any) -> bytes:
        return canonical(copy.deepcopy(base) | fields)

    subject = {"name": "model.pt", "digest": {"sha256": HEX}}
    cases = {
        "fields": spoiled(extra=1),
        "_type": spoiled(_type="https://in-toto.io/Statement/v0.1"),
        "predicateType": spoiled(predicateType=envelope.PREDICATE_BASE + "/unlearning-audit/v2"),
        "predicate is": spoiled(predicate={}),
        "no list": spoiled(subject=[]),
        "1 to 999": spoiled(subject=[{"name": str(n), "digest": {"sha256": HEX}} for n in range(1000)]),
        "exactly": spoiled(subject=[subject | {"annotations": {"a": "b"}}]),
        "stands once": spoiled(subject=[subject, subject]),
        "sha256 is": spoiled(subject=[{"name": "model.pt", "digest": {"sha256": HEX.upper()}}]),
        r"digest has the fields": spoiled(subject=[{"name": "model.pt", "digest": {"sha256": HEX, "sha512": HEX * 2}}]),
        "not a subject": spoiled(subject=[{"name": "other.pt", "digest": {"sha256": HEX}}]),
        "scope.model.name": spoiled(predicate={"scope": {"model": []}}),
        "not JSON": PAYLOAD[:-1],
        "stands twice": PAYLOAD[:-1] + b',"predicate":{}}',
        "number '1.0'": PAYLOAD.replace(b'"size":50', b'"size":1.0'),
        "number 'NaN'": PAYLOAD.replace(b'"size":50', b'"size":NaN'),
        "byte-order mark": b"\xef\xbb\xbf" + PAYLOAD,
        "surrogate": PAYLOAD.replace(b'"1.0"', b'"\\ud800"'),
        "2\\^53": PAYLOAD.replace(b'"size":50', b'"size":9007199254740992'),
        "too deeply": PAYLOAD.replace(b'"size":50', b'"size":' + b"[" * 100 + b"]" * 100),
    }
    for message, payload in cases.items():
        assert payload != PAYLOAD
        with pytest.raises(UntrustedError, match=message):
            envelope.read_statement(payload)


# --- What other tools make of it -------------------------------------------------------------------------------------


def test_securesystemslib_opens_our_envelope() -> None:
    dsse = pytest.importorskip("securesystemslib.dsse")
    signer = pytest.importorskip("securesystemslib.signer")
    found = dsse.Envelope.from_dict(json.loads(BUNDLE)["dsseEnvelope"])
    trusted = signer.SSlibKey.from_crypto(KEY.public, keyid=KEY.keyid)
    assert list(found.verify([trusted], threshold=1)) == [KEY.keyid]
    assert found.payload == PAYLOAD
    other = signer.SSlibKey.from_crypto(ephemeral_key().public, keyid=KEY.keyid)
    with pytest.raises(pytest.importorskip("securesystemslib.exceptions").VerificationError):
        found.verify([other], threshold=1)


def test_in_toto_attestation_reads_our_statement() -> None:
    module = pytest.importorskip("in_toto_attestation.v1.statement")
    messages = pytest.importorskip("in_toto_attestation.v1.statement_pb2")
    json_format = pytest.importorskip("google.protobuf.json_format")
    found = module.Statement.copy_from_pb(json_format.Parse(PAYLOAD, messages.Statement()))
    found.validate()
    assert found.pb.predicate_type == envelope.PREDICATE_TYPE
    assert [subject.digest["sha256"] for subject in found.pb.subject] == [HEX, "0b" * 32]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_openssl_verifies_the_encoding_built_by_hand(tmp_path: Path) -> None:
    content = json.loads(BUNDLE)["dsseEnvelope"]
    payload = base64.b64decode(content["payload"])
    (tmp_path / "pae").write_bytes(b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload)
    (tmp_path / "sig").write_bytes(base64.b64decode(content["signatures"][0]["sig"]))
    pem = KEY.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "audit.pub").write_bytes(pem)
    command = ["openssl", "dgst", "-sha256", "-verify", "audit.pub", "-signature", "sig", "pae"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "pae").write_bytes(b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload[:-1] + b"]")
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0


# --- Carriers that are refused ---------------------------------------------------------------------------------------


def set_at(*path: Any) -> Any:
    """A change: the last of ``path`` is put where the others lead."""
    *places, last, value = path

    def change(document: Any) -> None:
        for place in places:
            document = document[place]
        document[last] = value

    return change


SIGNATURES = ("dsseEnvelope", "signatures")
REFUSED = {
    "unknown field 'extra'": set_at("extra", 1),
    "bundle.dsseEnvelope: unknown field": set_at("dsseEnvelope", "extra", 1),
    r"signatures\[0\]: unknown field": set_at(*SIGNATURES, 0, "cert", "x"),
    "verificationMaterial: unknown field": set_at("verificationMaterial", "certificate", {}),
    "publicKey: unknown field": set_at("verificationMaterial", "publicKey", "rawBytes", "x"),
    "field 'tlogEntries' is absent": lambda document: document["verificationMaterial"].pop("tlogEntries"),
    "field 'keyid' is absent": lambda document: document["dsseEnvelope"]["signatures"][0].pop("keyid"),
    "field 'mediaType' is absent": lambda document: document.pop("mediaType"),
    "mediaType: 'application/vnd.dev.sigstore.bundle": set_at(
        "mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.3"
    ),
    "tlogEntries: not an empty list": set_at("verificationMaterial", "tlogEntries", [{}]),
    "hint: ''": set_at("verificationMaterial", "publicKey", "hint", ""),
    "keyid: ''": set_at(*SIGNATURES, 0, "keyid", ""),
    "keyid: 7": set_at(*SIGNATURES, 0, "keyid", 7),
    "UNSIGNED, the envelope holds no signature": set_at(*SIGNATURES, []),
    "signatures: NoneType": set_at(*SIGNATURES, None),
    "payloadType: None": set_at("dsseEnvelope", "payloadType", None),
    "payload: ''": set_at("dsseEnvelope", "payload", ""),
    "2 signatures": lambda document: document["dsseEnvelope"]["signatures"].append({"keyid": "other", "sig": "AA=="}),
    "dsseEnvelope: list": set_at("dsseEnvelope", []),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_bundle_with_other_fields_is_refused(message: str) -> None:
    with pytest.raises(Rejected, match=message):
        parse_bundle(changed(REFUSED[message]))


def test_two_signatures_of_one_key_are_refused() -> None:
    entry = json.loads(BUNDLE)["dsseEnvelope"]["signatures"][0]
    with pytest.raises(Rejected, match="2 signatures"):
        parse_bundle(changed(set_at(*SIGNATURES, [entry, entry])))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"[]", "expected an object"),
        (PAYLOAD, "UNSIGNED, this is a bare statement"),
        (b"\xef\xbb\xbf" + BUNDLE, "byte-order mark"),
        (BUNDLE + BUNDLE, "not JSON"),
        (BUNDLE.replace(b'"mediaType":', b'"mediaType":"x","mediaType":'), "stands twice"),
        (BUNDLE.replace(b'"tlogEntries":[]', b'"tlogEntries":NaN'), "NaN"),
        (BUNDLE.replace(b'"tlogEntries":[]', b'"tlogEntries":0.0'), "0.0"),
        (b"\xff" + BUNDLE, "not UTF-8"),
        (b" " * (25 * 1024 * 1024), "expected at most"),
        (b"[" * 100_000, "too deeply"),
    ],
)
def test_bytes_that_are_no_bundle_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        load_any(data)


def test_base64_has_one_spelling_in_either_alphabet() -> None:
    # A payload whose encoding holds both characters in which the alphabets differ.
    text = base64.b64encode(b"\xfb\xef\xbe\xff\xff\xff\x00").decode()
    assert "+" in text
    assert "/" in text

    def read(value: str) -> bytes:
        return parse_bundle(changed(set_at("dsseEnvelope", "payload", value))).payload

    assert read(text) == read(text.replace("+", "-").replace("/", "_"))
    spare = text.replace("AA==", "AB==")
    assert spare != text
    for spoiled in (
        text.replace("+", "-"),
        text.replace("/", "_"),
        text[:4] + "\n" + text[4:],
        text + "\n",
        " " + text,
        text[:4] + "*" + text[4:],
        text.rstrip("="),
        text + "====",
        spare,
        text + "é",
    ):
        with pytest.raises(Rejected, match="base64"):
            read(spoiled)


# --- The report line -------------------------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=200), st.text(max_size=80), st.text(max_size=80))
def test_what_is_put_into_a_report_comes_out_again(bundle: bytes, before: str, after: str) -> None:
    skeleton = f"<html>{before}\n<head>\n{after}</html>\n".replace("\0", "").encode()
    html = join_report(skeleton, bundle)
    assert split_report(html) == (skeleton, bundle)
    assert html.count(b"\n") == skeleton.count(b"\n") + 1


def test_a_report_carries_the_bundle_and_grep_gives_the_skeleton_back(tmp_path: Path) -> None:
    html = join_report(SKELETON, BUNDLE)
    assert load_any(html) == (parse_bundle(BUNDLE), SKELETON)
    if shutil.which("grep"):
        (tmp_path / "report.html").write_bytes(html)
        command = ["grep", "-v", '^<script type="application/vnd.dev.sigstore.bundle', "report.html"]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).stdout == SKELETON


@pytest.mark.parametrize(
    ("skeleton", "message"),
    [
        (SKELETON.replace(b"<head>", b"<HEAD>"), "0 lines are exactly"),
        (SKELETON.replace(b"\n<head>", b"\n <head>"), "0 lines are exactly"),
        (SKELETON.replace(b"<head>\n", b"<head>\r\n"), "0 lines are exactly"),
        (SKELETON.replace(b"<body>\n", b"<body>\n<head>\n"), "2 lines are exactly"),
        (SKELETON.rstrip(b"\n"), "no line feed"),
        (SKELETON.replace(b"Audit", b"Au\0dit"), "NUL"),
        (SKELETON.replace(b"Audit", b"Au\xffdit"), "not UTF-8"),
        (join_report(SKELETON, BUNDLE), "without a bundle line"),
        (SKELETON.replace(b"<body>", b'<body id="cu-cert-bundle">'), "without a bundle line"),
    ],
)
def test_a_page_that_has_no_single_place_for_the_bundle_is_refused(skeleton: bytes, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        join_report(skeleton, BUNDLE)


def test_a_tampered_bundle_line_is_refused() -> None:
    html = join_report(SKELETON, BUNDLE)
    lines = html.splitlines(keepends=True)
    place = lines.index(b"<head>\n") + 1
    line = lines[place]
    closing = b"</script>\n"

    assert b"".join(lines[:place] + lines[place + 1 :]) == SKELETON
    cases = {
        "UNSIGNED, no bundle line": [
            SKELETON,
            html.replace(closing, b"<p>PASS</p></script>\n"),
            html.replace(closing, b" </script>\n"),
            html.replace(closing, b"</script>"),
            html.replace(closing, b"</script>\r\n"),
            html.replace(b'id="cu-cert-bundle"', b'id="cu-cert-bundle" '),
            html.replace(line, b" " + line),
            html.replace(line, b">" + closing),
        ],
        "stands 2 times": [
            html.replace(line, line + line),
            html + line,
            html.replace(b"<title>", b'<title id="cu-cert-bundle">'),
            html.replace(b"<body>", b'<script type="application/vnd.dev.sigstore.bundle.v0.1+json">'),
        ],
        "stands elsewhere": [line + SKELETON, SKELETON + line, SKELETON.replace(b"<body>\n", b"<body>\n" + line)],
    }
    for message, pages in cases.items():
        for page in pages:
            assert page != html
            with pytest.raises(Rejected, match=message):
                split_report(page)
    with pytest.raises(Rejected, match="expected at most"):
        split_report(b"<" * (64 * 1024 * 1024 + 1))


def test_the_bundle_line_has_one_spelling() -> None:
    html = join_report(SKELETON, b"ab")
    assert split_report(html) == (SKELETON, b"ab")
    for spoiled in (b"YWJ=", b"YWI", b"YWI==", b"=WI="):
        with pytest.raises(Rejected, match="base64"):
            split_report(html.replace(b"YWI=", spoiled))


def test_a_signer_is_whatever_signs() -> None:
    class Counting:
        keyid = KEY.keyid
        calls = 0

        def sign(self, data: bytes) -> bytes:
            self.calls += 1
            return SigningKey(KEY.private).sign(data)

    signer = Counting()
    assert envelope.open_envelope(parse_bundle(envelope.sign(PAYLOAD, signer)), KEY.public) == PAYLOAD
    assert signer.calls == 1
