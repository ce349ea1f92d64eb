"""Attacks on keys and trust that no other test covers; the table of all attacks, docs/threats.md, held to its word."""

import ast
import base64
import hashlib
import hmac
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from signed_folder import CONTROLLER, KEY, NOW, SECOND, Folder, make_folder, payload_of, predicate, trusted, trusting

from cu_certificates.check.carrier import Signature, parse_bundle
from cu_certificates.check.strict import canonical, parse
from cu_certificates.envelope import (
    GATE_TYPE,
    PAYLOAD_TYPE,
    PREDICATE_TYPE,
    REVOCATION_TYPE,
    ROTATION_TYPE,
    bundle,
    dsse,
    pae,
    read_statement,
    sign,
    statement,
)
from cu_certificates.errors import UntrustedError
from cu_certificates.keys import public_pem
from cu_certificates.revocation import Entry, revoke
from cu_certificates.trust import RevocationRule, Trust
from cu_certificates.verify import open_trusted, verify

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "threats.md"

# The attacks of the design (certificates.md A.7) and the ones that revocation and rotation bring.
ATTACKS = (
    "signature stripping",
    "algorithm confusion",
    "keyid swap",
    "key-role confusion",
    "payloadType and predicateType confusion",
    "parser differential",
    "verify, then read again",
    "envelope malleability",
    "subject confusion",
    "signatures cut off",
    "claims dropped before signing",
    "model swapped after the audit",
    "altered page",
    "text that commands a log",
    "resource exhaustion",
    "stolen key",
    "back-dating",
    "list of revocations withheld or rolled back",
    "successor that was not named, or that gains rights",
)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return make_folder(tmp_path / "out")


# --- The table -------------------------------------------------------------------------------------------------------


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_the_table_has_every_attack_once() -> None:
    assert [row[0] for row in rows()] == list(ATTACKS)
    assert all(len(row) == 3 and row[1] for row in rows())


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_every_test_that_the_table_names_exists(row: list[str]) -> None:
    named = re.findall(r"`(test_\w+)::(test_\w+)`", row[2])
    assert named, f"no test is named for {row[0]!r}"
    assert len(named) == row[2].count("`") // 2
    for module, name in named:
        path = TESTS / f"{module}.py"
        assert path.is_file(), path
        functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{module} has no {name}"


# --- Algorithm confusion ---------------------------------------------------------------------------------------------


def test_a_signature_of_another_algorithm_is_refused_whatever_the_file_says(folder: Folder) -> None:
    data = pae(PAYLOAD_TYPE, payload_of(predicate()))
    secret = public_pem(KEY.public)  # the classic: the public key taken for the secret of an HMAC
    forged = {
        "hmac with the public key": hmac.new(secret, data, hashlib.sha256).digest(),
        "none": b"\0",
        "the digest alone": hashlib.sha256(data).digest(),
        "ed25519 by another key": CONTROLLER.sign(data),
    }
    for value in forged.values():
        folder.bundle.write_bytes(bundle(payload_of(predicate()), value, KEY.keyid))
        folder.refused("signature", "does not match")
    document = parse(sign(payload_of(predicate()), KEY))
    for place in (document["dsseEnvelope"]["signatures"][0], document["dsseEnvelope"], document):
        place["alg"] = "none"
        folder.bundle.write_bytes(canonical(document))
        folder.refused("carrier", "unknown field 'alg'")
        del place["alg"]


def test_a_statement_signed_in_another_domain_is_refused(folder: Folder) -> None:
    payload = payload_of(predicate())
    for data in (payload, b"DSSEv1" + payload, pae("application/json", payload), pae(PAYLOAD_TYPE, payload + b" ")):
        folder.bundle.write_bytes(bundle(payload, KEY.sign(data), KEY.keyid))
        folder.refused("signature", "does not match")


# --- Key-role confusion ----------------------------------------------------------------------------------------------

TYPES = (PREDICATE_TYPE, GATE_TYPE, REVOCATION_TYPE, ROTATION_TYPE)


def document(kind: str) -> bytes:
    if kind == PREDICATE_TYPE:
        return sign(payload_of(predicate()), KEY)
    return sign(statement({"x": "0a" * 32}, {"a": "b"}, predicate_type=kind), KEY)


@pytest.mark.parametrize("signed", TYPES)
@pytest.mark.parametrize("allowed", TYPES)
def test_a_key_signs_no_document_of_another_type(signed: str, allowed: str) -> None:
    trust = trusting(roles=("auditor", "gate"), predicates=(allowed,))
    if signed == allowed:
        payload = open_trusted(document(signed), trust, role=None, predicate_type=signed, now=NOW)
        assert read_statement(payload, predicate_type=signed).document["predicateType"] == signed
        return
    with pytest.raises(UntrustedError, match="this file needs"):  # the reader asks for what the file is
        open_trusted(document(signed), trust, role=None, predicate_type=signed, now=NOW)
    with pytest.raises(UntrustedError, match="expected exactly"):  # the reader asks for what the key may sign
        open_trusted(document(signed), trust, role=None, predicate_type=allowed, now=NOW)


def test_a_gate_signs_no_audit_and_an_auditor_no_decision(folder: Folder) -> None:
    folder.refused("trust", "roles gate", trust=trusting(roles=("gate",)))
    for roles in (("auditor",), ("controller",), ("auditor", "controller")):
        trust = trusting(roles=roles, predicates=(GATE_TYPE,))
        with pytest.raises(UntrustedError, match="a gate decision needs a key with 'gate'") as caught:
            open_trusted(document(GATE_TYPE), trust, role="gate", predicate_type=GATE_TYPE, now=NOW)
        assert caught.value.step == "trust"
    gate = trusting(roles=("gate",), predicates=(GATE_TYPE,))
    assert open_trusted(document(GATE_TYPE), gate, role="gate", predicate_type=GATE_TYPE, now=NOW)


def test_a_document_needs_a_key_that_is_valid_now() -> None:
    gate: dict[str, Any] = {"roles": ("gate",), "predicates": (GATE_TYPE,)}
    for times, message in (
        ({"not_after": NOW - timedelta(seconds=1)}, "was valid until"),
        ({"not_before": NOW + timedelta(seconds=1)}, "becomes valid on"),
    ):
        trust = trusting(**gate, **times)
        with pytest.raises(UntrustedError, match=message) as caught:
            open_trusted(document(GATE_TYPE), trust, role="gate", predicate_type=GATE_TYPE, now=NOW)
        assert caught.value.step == "time"


def test_a_page_is_no_other_document(folder: Folder) -> None:
    with pytest.raises(UntrustedError, match="an HTML page; expected a bundle"):
        open_trusted(folder.report.read_bytes(), trusting(), role="auditor", predicate_type=PREDICATE_TYPE, now=NOW)


# --- Versions: what is unknown ---------------------------------------------------------------------------------------


def test_an_unknown_optional_field_is_ignored_and_never_a_reason(folder: Folder) -> None:
    folder.issue(lambda content: content.update(laterInvention={"verdict": "NOT_REFUTED"}))
    assert verify(folder.bundle, trust=trusting(), now=NOW).verdict == "INCONCLUSIVE"


# --- Envelope malleability -------------------------------------------------------------------------------------------

# The group order of P-256 (FIPS 186-4, D.1.2.3).
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def test_a_revoked_certificate_stays_revoked_in_every_spelling(folder: Folder, tmp_path: Path) -> None:
    listed, lister = tmp_path / "revoked.sigstore.json", trusted(SECOND, predicates=(REVOCATION_TYPE,))
    payload = payload_of(predicate())
    digest = hashlib.sha256(payload).hexdigest()
    revoke(listed, SECOND, Entry(payload_sha256=digest, revoked_at=NOW, reason="error"), now=NOW)
    trust = trusting(lister, rules={"revocation": RevocationRule(list=listed)})
    value = parse_bundle(folder.bundle.read_bytes()).signatures[0].value
    r, s = decode_dss_signature(value)
    mirrored = encode_dss_signature(r, ORDER - s)
    url = folder.bundle.read_bytes().replace(
        base64.b64encode(payload), base64.urlsafe_b64encode(payload)
    )  # the other alphabet, where the text has one of its characters
    spellings = [
        bundle(payload, mirrored, KEY.keyid),
        sign(payload, KEY),
        url,
        folder.bundle.read_bytes().replace(b'","', b'" , "'),
        dsse(payload, [Signature(keyid=KEY.keyid, value=mirrored)]),
    ]
    for data in spellings:
        folder.bundle.write_bytes(data)
        verify(folder.bundle, trust=trusting(), now=NOW)
        folder.refused("revocation", "was revoked on", trust=trust)


# --- A trust file is the reader's own --------------------------------------------------------------------------------


def test_nothing_in_a_certificate_adds_a_key(folder: Folder) -> None:
    """A public key that travels with a certificate is a claim about a key, never a reason to trust it."""
    stranger = Trust(path=Path("trust.toml"), keys=(trusted(SECOND),))
    content = predicate()
    content["auditor"]["publicKey"] = public_pem(KEY.public).decode()
    folder.write(sign(payload_of(content), KEY))
    (folder.path / "trust.toml").write_text("schema = 1\n")
    (folder.path / "audit.pub.pem").write_bytes(public_pem(KEY.public))
    folder.refused("trust", "does not list", trust=stranger)
