"""The inputs on which public verifiers disagree (design, A.3): ours refuses each that any of them refuses.

One row a test, by name. Where another reader is at hand, its answer is asked for too, so that a change of theirs shows.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from signed_folder import CONTROLLER, KEY, MODEL, NOW, TRUST, Folder, make_folder, payload_of, predicate, sha256

from cu_certificates.check.carrier import parse_bundle
from cu_certificates.check.strict import canonical, parse
from cu_certificates.envelope import MAX_SUBJECTS, PAYLOAD_TYPE, bundle, dsse, pae, sign
from cu_certificates.verify import verify

GOOD = payload_of(predicate())
# The group order of P-256 (FIPS 186-4, D.1.2.3).
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551

Row = Callable[[], bytes]


def signed(payload: bytes) -> bytes:
    """Sign bytes that ``sign`` would not; the signature is good, so what is refused is the content."""
    assert payload != GOOD
    return bundle(payload, KEY.sign(pae(PAYLOAD_TYPE, payload)), KEY.keyid)


def spoiled(**fields: Any) -> bytes:
    """The statement with other fields, canonical and well signed."""
    return signed(canonical(parse(GOOD) | fields))


def subjects(*more: dict[str, Any], **fields: Any) -> bytes:
    first, page = parse(GOOD)["subject"]
    return spoiled(subject=[first | fields, page, *more])


def carried(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The bundle after a change of its parsed form."""
    document = json.loads(sign(GOOD, KEY))
    change(document)
    return canonical(document)


def in_signature(**fields: Any) -> bytes:
    return carried(lambda document: document["dsseEnvelope"]["signatures"][0].update(fields))


def in_payload(change: Callable[[str], str]) -> bytes:
    def apply(document: dict[str, Any]) -> None:
        document["dsseEnvelope"]["payload"] = change(document["dsseEnvelope"]["payload"])

    return carried(apply)


def halves() -> tuple[int, int]:
    return decode_dss_signature(KEY.sign(pae(PAYLOAD_TYPE, GOOD)))


def raw_signature() -> bytes:
    r, s = halves()
    return bundle(GOOD, r.to_bytes(32, "big") + s.to_bytes(32, "big"), KEY.keyid)


def mirrored_signature() -> bytes:
    r, s = halves()
    return bundle(GOOD, encode_dss_signature(r, ORDER - s), KEY.keyid)


def second_signature(key: str) -> bytes:
    value = base64.b64encode(CONTROLLER.sign(pae(PAYLOAD_TYPE, GOOD))).decode()
    entry = {"keyid": key, "sig": value}
    return carried(lambda document: document["dsseEnvelope"]["signatures"].append(entry))


STAMP = {"timestampVerificationData": {"rfc3161Timestamps": [{"signedTimestamp": "AA=="}]}}
HEX = sha256(MODEL)

REFUSED: dict[str, tuple[Row, str, str]] = {
    "extra top-level field": (lambda: spoiled(extra=1), "carrier", "payload has the fields"),
    "extra field in a subject": (lambda: subjects(extra=1), "carrier", r"subject\[0\] has the fields"),
    "annotations in a subject": (lambda: subjects(annotations={"a": "b"}), "carrier", r"subject\[0\] has the fields"),
    "extra field in the bundle": (lambda: carried(lambda d: d.update(extra=1)), "carrier", "bundle: unknown field"),
    "extra field in the envelope": (
        lambda: carried(lambda d: d["dsseEnvelope"].update(extra=1)),
        "carrier",
        "dsseEnvelope: unknown field",
    ),
    "extra field in a signature": (lambda: in_signature(extra=1), "carrier", r"signatures\[0\]: unknown field"),
    "two signatures of one keyid": (lambda: second_signature(KEY.keyid), "carrier", "2 signatures; expected exactly"),
    "two signatures of two keys": (
        lambda: second_signature(CONTROLLER.keyid),
        "carrier",
        "2 signatures; expected exactly",
    ),
    "duplicate keys in the payload": (
        lambda: signed(GOOD.replace(b'"schemaVersion":"1.0"', b'"schemaVersion":"9.9","schemaVersion":"1.0"')),
        "carrier",
        "stands twice",
    ),
    "junk inside base64": (lambda: in_payload(lambda text: text[:8] + "!" + text[8:]), "carrier", "not base64"),
    "newline inside base64": (lambda: in_payload(lambda text: text[:8] + "\n" + text[8:]), "carrier", "not base64"),
    "space after base64": (lambda: in_payload(lambda text: text + " "), "carrier", "not base64"),
    "unused bits of base64": (
        lambda: in_signature(sig=base64.b64encode(b"a").decode().replace("YQ", "YR")),
        "carrier",
        "not canonical base64",
    ),
    "NaN": (lambda: signed(GOOD.replace(b'"size":50', b'"size":NaN')), "carrier", "number 'NaN'"),
    "float": (lambda: signed(GOOD.replace(b'"size":50', b'"size":5e1')), "carrier", "number '5e1'"),
    "two digests of a subject": (
        lambda: subjects(digest={"sha256": HEX, "sha512": "0a" * 64}),
        "carrier",
        "digest has the fields",
    ),
    "no sha256 of a subject": (lambda: subjects(digest={"sha512": "0a" * 64}), "carrier", "digest has the fields"),
    "upper-case digest": (lambda: subjects(digest={"sha256": HEX.upper()}), "carrier", "64 lower-case hex digits"),
    "too many subjects": (
        lambda: subjects(*({"name": str(n), "digest": {"sha256": HEX}} for n in range(MAX_SUBJECTS - 1))),
        "subject",
        "no list of 1 to 999",
    ),
    "integer of 2^53": (lambda: signed(GOOD.replace(b'"size":50', b'"size":9007199254740993')), "carrier", "2\\^53"),
    "empty predicate": (lambda: spoiled(predicate={}), "carrier", "predicate is {}"),
    "raw r and s": (raw_signature, "signature", r"ECDSA P-256 with SHA-256, DER"),
    "time stamp in the bundle": (
        lambda: carried(lambda d: d["verificationMaterial"].update(STAMP)),
        "carrier",
        "verificationMaterial: unknown field",
    ),
    "no keyid": (
        lambda: carried(lambda d: d["dsseEnvelope"]["signatures"][0].pop("keyid")),
        "carrier",
        "'keyid' is abs",
    ),
    "empty keyid": (lambda: in_signature(keyid=""), "carrier", "keyid: ''"),
    "keyid of another convention": (lambda: in_signature(keyid=HEX), "trust", "does not list"),
    "payload type of the predicate's own": (
        lambda: carried(lambda d: d["dsseEnvelope"].update(payloadType="application/vnd.in-toto.audit+json")),
        "signature",
        "does not match",
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return make_folder(tmp_path / "out")


@pytest.mark.parametrize("row", REFUSED)
def test_what_any_public_verifier_refuses_is_refused(folder: Folder, row: str) -> None:
    make, step, message = REFUSED[row]
    folder.bundle.write_bytes(make())
    folder.refused(step, message)


def test_the_same_inputs_with_nothing_wrong_are_accepted(folder: Folder) -> None:
    for data in (sign(GOOD, KEY), mirrored_signature(), carried(lambda document: None)):
        folder.bundle.write_bytes(data)
        assert verify(folder.bundle, trust=TRUST, now=NOW).payload_sha256 == sha256(GOOD)


def test_a_mirrored_ecdsa_signature_is_the_same_certificate(folder: Folder) -> None:
    # securesystemslib accepts it, and so must we: which of the two a signer writes is the library's choice. So nothing
    # may hang on the bytes of an envelope.
    folder.bundle.write_bytes(mirrored_signature())
    found = verify(folder.bundle, trust=TRUST, now=NOW)
    assert found.payload_sha256 == sha256(GOOD)
    library = pytest.importorskip("securesystemslib.dsse")
    signer = pytest.importorskip("securesystemslib.signer")
    envelope = library.Envelope.from_dict(json.loads(folder.bundle.read_bytes())["dsseEnvelope"])
    assert envelope.verify([signer.SSlibKey.from_crypto(KEY.public, keyid=KEY.keyid)], threshold=1)


@pytest.mark.parametrize("row", ["extra top-level field", "extra field in a subject", "empty predicate"])
def test_in_toto_refuses_these_too(row: str) -> None:
    module = pytest.importorskip("in_toto_attestation.v1.statement")
    messages = pytest.importorskip("in_toto_attestation.v1.statement_pb2")
    json_format = pytest.importorskip("google.protobuf.json_format")
    payload = parse_bundle(REFUSED[row][0]()).payload
    with pytest.raises((json_format.ParseError, ValueError)):
        module.Statement.copy_from_pb(json_format.Parse(payload, messages.Statement())).validate()


def test_securesystemslib_cannot_read_two_signatures_of_one_keyid() -> None:
    library = pytest.importorskip("securesystemslib.dsse")
    with pytest.raises(ValueError, match=r"[Mm]ultiple|keyid"):
        library.Envelope.from_dict(json.loads(second_signature(KEY.keyid))["dsseEnvelope"])


def test_securesystemslib_needs_the_keyid_that_we_always_write() -> None:
    library = pytest.importorskip("securesystemslib.dsse")
    with pytest.raises(KeyError):
        library.Envelope.from_dict(json.loads(REFUSED["no keyid"][0]())["dsseEnvelope"])


def test_what_is_written_is_none_of_these(folder: Folder) -> None:
    """Our own files: known fields, one digest, one signature, one spelling; the envelope as well."""
    written = [sign(GOOD, KEY), dsse(GOOD, parse_bundle(sign(GOOD, KEY)).signatures)]
    for data in written:
        folder.bundle.write_bytes(data)
        verify(folder.bundle, trust=TRUST, now=NOW)
        assert canonical(parse(data)) + b"\n" == data
