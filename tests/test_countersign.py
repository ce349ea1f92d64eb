"""Several signatures over the same bytes: thresholds by role, countersigning, the envelope that carries them."""

import base64
import json
import subprocess
from itertools import permutations
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_folder import (
    CONTROLLER,
    KEY,
    NOW,
    OTHER,
    SECOND,
    Folder,
    bits_of,
    flipped,
    make_folder,
    payload_of,
    predicate,
    trusted,
    trusting,
)

from cu_certificates.check.carrier import MAX_SIGNATURES, Signature, parse_bundle, parse_dsse
from cu_certificates.check.main import check_file
from cu_certificates.check.strict import Rejected, canonical
from cu_certificates.countersign import countersign, open_for_countersigning
from cu_certificates.envelope import PAYLOAD_TYPE, PREDICATE_TYPE, dsse, open_envelope, pae, sign
from cu_certificates.errors import PolicyError, UntrustedError, UsageError
from cu_certificates.keys import SigningKey, public_pem
from cu_certificates.trust import Threshold, Trust
from cu_certificates.verify import Step, load_unverified, open_trusted, verify

PARTNER = trusted(CONTROLLER, roles=("controller",))
BOTH = trusting(PARTNER)
TWO_PARTIES = trusting(PARTNER, rules={"threshold": Threshold(controller=1)})


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return make_folder(tmp_path / "out")


@pytest.fixture
def envelope(folder: Folder) -> Path:
    """The certificate with the controller's signature as well."""
    out = folder.path / "certificate.dsse.json"
    countersign(folder.bundle, CONTROLLER, out=out, trust=BOTH, now=NOW)
    return out


def signatures(*keys: SigningKey, payload: bytes | None = None) -> list[Signature]:
    data = pae(PAYLOAD_TYPE, payload_of(predicate()) if payload is None else payload)
    return [Signature(keyid=key.keyid, value=key.sign(data)) for key in keys]


def changed(file: Path, change: Any) -> None:
    document = json.loads(file.read_bytes())
    change(document)
    file.write_bytes(canonical(document))


# --- Both files are one certificate ----------------------------------------------------------------------------------


def test_both_files_of_a_certificate_have_one_identity(folder: Folder, envelope: Path) -> None:
    single, double = (verify(file, trust=BOTH, now=NOW) for file in (folder.bundle, envelope))
    assert single.payload_sha256 == double.payload_sha256
    assert single.payload == double.payload
    assert double.keyid == single.keyid == KEY.keyid
    assert [entry.keyid for entry in double.signatures] == [KEY.keyid, CONTROLLER.keyid]
    assert double.signatures[0] == single.signatures[0]  # so a time stamp of it stays good
    assert double.bundle == folder.bundle.read_bytes()
    assert canonical(json.loads(envelope.read_bytes())) + b"\n" == envelope.read_bytes()


def test_every_signature_and_the_count_are_shown(envelope: Path) -> None:
    seen: list[Step] = []
    verify(envelope, trust=TWO_PARTIES, now=NOW, watch=seen.append)
    names = [step.name for step in seen]
    assert names[:6] == ["carrier", "trust", "trust", "signature", "threshold", "time"]
    assert seen[0].detail.startswith("a DSSE envelope, a file of its own; payload sha256:")
    assert "ed25519, role controller" in seen[2].detail
    assert seen[4].detail == "2 of different keys over the same bytes, by auditor; controller"


def test_a_file_that_was_signed_by_two_can_be_signed_by_a_third_in_place(envelope: Path) -> None:
    third = trusting(PARTNER, trusted(SECOND))
    before = envelope.read_bytes()
    countersign(envelope, SECOND, out=envelope, trust=third, now=NOW)
    found = verify(envelope, trust=third, now=NOW)
    assert [entry.keyid for entry in found.signatures] == [KEY.keyid, CONTROLLER.keyid, SECOND.keyid]
    assert [entry.name for entry in envelope.parent.iterdir() if entry.name.startswith(".")] == []
    assert json.loads(before)["signatures"] == json.loads(envelope.read_bytes())["signatures"][:2]


def test_the_checker_and_unverified_readers_take_the_envelope(folder: Folder, envelope: Path) -> None:
    assert check_file(envelope).derived == check_file(folder.bundle).derived == "INCONCLUSIVE"
    assert load_unverified(envelope).payload_sha256 == load_unverified(folder.bundle).payload_sha256
    assert load_unverified(envelope).stated_keyid == KEY.keyid


# --- Thresholds ------------------------------------------------------------------------------------------------------


def test_one_signature_cannot_meet_a_threshold_of_two(folder: Folder, envelope: Path) -> None:
    error = folder.refused("threshold", "expected auditor = 1 and controller = 1", trust=TWO_PARTIES)
    assert "certificate.dsse.json" in str(error)
    folder.refused("threshold", "1 of different keys", file=folder.report, trust=TWO_PARTIES)
    assert verify(envelope, trust=TWO_PARTIES, now=NOW).keyid == KEY.keyid


def test_a_signature_that_is_cut_off_is_missed(folder: Folder, envelope: Path) -> None:
    changed(envelope, lambda document: document["signatures"].pop())
    folder.refused("threshold", "controller = 1", file=envelope, trust=TWO_PARTIES)
    changed(envelope, lambda document: document["signatures"].clear())
    folder.refused("carrier", "UNSIGNED", file=envelope, trust=TWO_PARTIES)


def test_two_auditors_may_be_asked_for(folder: Folder) -> None:
    trust = trusting(trusted(SECOND), rules={"threshold": Threshold(auditor=2)})
    file = folder.path / "two.dsse.json"
    countersign(folder.bundle, SECOND, out=file, trust=trust, now=NOW)
    verify(file, trust=trust, now=NOW)
    folder.refused("threshold", "auditor = 2", trust=trust)


def test_one_key_is_one_party(folder: Folder) -> None:
    both = trusting(roles=("auditor", "controller"), rules={"threshold": Threshold(controller=1)})
    folder.refused("threshold", "each key counted once", trust=both)


def enough(wanted: Threshold, signers: list[tuple[str, ...]]) -> bool:
    """Try every way to give each signer one part; the naive judge of the formula."""
    parts = ["auditor"] * wanted.auditor + ["controller"] * wanted.controller
    return any(
        all(part in roles for part, roles in zip(parts, chosen, strict=True))
        for chosen in permutations(signers, len(parts))
    )


@settings(deadline=None)
@given(
    st.integers(1, 3),
    st.integers(0, 3),
    st.lists(
        st.sampled_from([("auditor",), ("controller",), ("auditor", "controller"), ("gate",), ("auditor", "gate")]),
        max_size=6,
    ),
)
def test_the_count_by_role_is_that_of_a_search(auditor: int, controller: int, signers: list[tuple[str, ...]]) -> None:
    wanted = Threshold(auditor=auditor, controller=controller)
    assert wanted.met_by(signers) == enough(wanted, signers)


def test_a_threshold_that_nobody_could_meet_is_a_mistake_of_the_reader() -> None:
    alone = trusting(rules={"threshold": Threshold(controller=1)})
    with pytest.raises(PolicyError, match="are too few"):
        alone.require_enough_signers()
    TWO_PARTIES.require_enough_signers()
    other = trusted(CONTROLLER, roles=("controller",), predicates=("https://example.com/v1",))
    no_audits = trusting(other, rules={"threshold": Threshold(controller=1)})
    with pytest.raises(PolicyError, match="are too few"):
        no_audits.require_enough_signers()


# --- What is refused as a whole --------------------------------------------------------------------------------------


ENVELOPE = dsse(payload_of(predicate()), signatures(KEY, CONTROLLER))


def test_every_flipped_bit_of_an_envelope_is_refused(folder: Folder) -> None:
    text = json.loads(ENVELOPE)["payload"].encode()
    start = ENVELOPE.index(text)
    bits = bits_of(ENVELOPE, range(start, start + len(text)))
    for bit in bits:
        try:
            open_trusted(flipped(ENVELOPE, bit), BOTH, role=None, predicate_type=PREDICATE_TYPE, now=NOW)
        except UntrustedError:
            continue
        pytest.fail(
            f"bit {bit % 8} of byte {bit // 8} ({ENVELOPE[bit // 8 - 20 : bit // 8 + 20]!r}) was flipped unseen"
        )
    file = folder.path / "certificate.dsse.json"
    for bit in bits[::97]:  # and a few through the whole verification, from a file
        file.write_bytes(flipped(ENVELOPE, bit))
        with pytest.raises(UntrustedError):
            verify(file, trust=BOTH, now=NOW)
    file.write_bytes(ENVELOPE)
    verify(file, trust=BOTH, now=NOW)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, len(ENVELOPE)), st.integers(0, 40), st.binary(max_size=40))
def test_any_edit_is_refused_or_leaves_the_same_payload(place: int, removed: int, put: bytes) -> None:
    edited = ENVELOPE[:place] + put + ENVELOPE[place + removed :]
    try:
        payload = open_trusted(edited, BOTH, role=None, predicate_type=PREDICATE_TYPE, now=NOW)
    except UntrustedError:
        return
    assert payload == payload_of(predicate())


def test_an_unknown_key_among_good_ones_is_refused(folder: Folder, envelope: Path) -> None:
    error = folder.refused("trust", "does not list", file=envelope)  # TRUST lists the auditor alone
    assert CONTROLLER.keyid in str(error)
    verify(folder.bundle, trust=trusting(), now=NOW)  # the same certificate with the auditor's signature alone


def test_a_key_without_a_part_in_audits_may_not_stand_under_one(folder: Folder, envelope: Path) -> None:
    gate = trusting(trusted(CONTROLLER, roles=("gate",)))
    folder.refused(
        "trust", "roles gate; an audit needs a key with 'auditor' or 'controller'", file=envelope, trust=gate
    )


def test_a_controller_alone_is_no_auditor(folder: Folder) -> None:
    file = folder.path / "c.dsse.json"
    file.write_bytes(dsse(payload_of(predicate()), signatures(CONTROLLER)))
    folder.refused("trust", "an audit needs a key with 'auditor'", file=file, trust=BOTH)
    file.write_bytes(dsse(payload_of(predicate()), signatures(CONTROLLER, SECOND)))
    folder.refused("trust", "names auditor key", file=file, trust=trusting(PARTNER, trusted(SECOND)))


def test_signatures_must_be_over_the_same_bytes(folder: Folder, envelope: Path) -> None:
    other = payload_of(predicate() | {"limitations": ["L2"]})
    (theirs,) = signatures(CONTROLLER, payload=other)
    envelope.write_bytes(dsse(payload_of(predicate()), [*signatures(KEY), theirs]))
    folder.refused("signature", "does not match the content for key", file=envelope, trust=BOTH)


def test_exchanged_names_of_two_signatures_are_refused(folder: Folder, envelope: Path) -> None:
    def exchange(document: Any) -> None:
        first, second = document["signatures"]
        first["keyid"], second["keyid"] = second["keyid"], first["keyid"]

    changed(envelope, exchange)
    folder.refused("signature", "does not match", file=envelope, trust=BOTH)


def test_one_key_stands_once_in_an_envelope(folder: Folder, envelope: Path) -> None:
    changed(envelope, lambda document: document["signatures"].append(document["signatures"][0]))
    folder.refused("carrier", "stands twice; expected one signature a key", file=envelope, trust=BOTH)
    with pytest.raises(UsageError, match="expected each key once"):
        dsse(b"{}", signatures(KEY, KEY))
    with pytest.raises(UsageError, match="nobody"):
        dsse(b"{}", [])


def test_a_second_signature_in_a_bundle_is_refused(folder: Folder) -> None:
    (second,) = signatures(CONTROLLER)
    entry = {"keyid": second.keyid, "sig": base64.b64encode(second.value).decode()}
    changed(folder.bundle, lambda document: document["dsseEnvelope"]["signatures"].append(entry))
    error = folder.refused("carrier", "2 signatures; expected exactly one", trust=BOTH)
    assert ".dsse.json" in str(error)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.update(extra=1), "envelope: unknown field 'extra'"),
        (lambda document: document.pop("payloadType"), "envelope: field 'payloadType' is absent"),
        (lambda document: document["signatures"][0].update(cert="x"), r"signatures\[0\]: unknown field 'cert'"),
        (lambda document: document["signatures"][0].pop("keyid"), "field 'keyid' is absent"),
        (lambda document: document["signatures"][0].update(keyid=""), "keyid: ''"),
        (lambda document: document.update(signatures=[document["signatures"][0]] * 17), f"at most {MAX_SIGNATURES}"),
        (lambda document: document.update(signatures={}), "dict; expected a list of 1 to 16 signatures"),
        (lambda document: document.update(payload=document["payload"] + "\n"), "not base64"),
        (lambda document: document.update(payload=7), "payload: 7"),
        (lambda document: document.update(mediaType="x"), "bundle: unknown field"),
    ],
)
def test_an_envelope_has_one_form(folder: Folder, envelope: Path, change: Any, message: str) -> None:
    changed(envelope, change)
    folder.refused("carrier", message, file=envelope, trust=BOTH)


def test_an_envelope_alone_is_parsed_like_one_among_other_carriers(envelope: Path) -> None:
    carrier = parse_dsse(envelope.read_bytes())
    assert carrier.hint is None
    assert open_envelope(carrier, KEY.public, CONTROLLER.public) == payload_of(predicate())
    with pytest.raises(Rejected, match="envelope: unknown field"):
        parse_dsse(sign(payload_of(predicate()), KEY))
    with pytest.raises(Rejected, match="bundle: unknown field"):
        parse_bundle(envelope.read_bytes())


def test_an_envelope_opens_with_as_many_keys_as_signatures(envelope: Path) -> None:
    carrier = parse_dsse(envelope.read_bytes())
    for keys in ((), (KEY.public,), (KEY.public, CONTROLLER.public, SECOND.public)):
        with pytest.raises(ValueError, match=r"zip|none was given"):
            open_envelope(carrier, *keys)
    with pytest.raises(UntrustedError, match=r"expected: ECDSA P-256"):
        open_envelope(carrier, SECOND.public, CONTROLLER.public)
    with pytest.raises(UntrustedError, match="expected: Ed25519, 64 bytes"):
        open_envelope(carrier, CONTROLLER.public, KEY.public)


# --- Nobody signs what they do not believe ---------------------------------------------------------------------------


def test_countersigning_verifies_first(folder: Folder, tmp_path: Path) -> None:
    out = tmp_path / "c.dsse.json"

    def refused(step: str, **options: Any) -> None:
        with pytest.raises(UntrustedError) as caught:
            countersign(folder.bundle, CONTROLLER, **{"out": out, "trust": BOTH, "now": NOW, **options})
        assert caught.value.step == step
        assert not out.exists()

    refused("trust", trust=Trust(path=Path("t.toml"), keys=(trusted(OTHER),)))
    refused("time", now=NOW.replace(year=2028))
    folder.model.write_bytes(b"another")
    refused("subject", model=folder.model)
    (folder.path / "plan.json").unlink()
    refused("evidence")
    found = open_for_countersigning(folder.bundle, trust=BOTH, now=NOW, allow_missing_evidence=True)
    assert dict(found.described())["evidence"].startswith("not at hand: plan.json; the verdict was not re-derived")
    folder.write(folder.bundle.read_bytes().replace(b"ey", b"eX", 1))
    refused("signature")


def test_what_is_signed_is_described(folder: Folder) -> None:
    told = dict(open_for_countersigning(folder.bundle, trust=BOTH, now=NOW).described())
    assert told["verdict"] == "INCONCLUSIVE"
    assert told["model"].startswith("model.pt sha256:")
    assert told["request"] == f"50 records, commitment {'0c' * 32}"
    assert told["auditor"] == f"Example Auditor ({KEY.keyid})"
    assert told["signed by"] == KEY.keyid
    assert told["payload"] == f"sha256:{load_unverified(folder.bundle).payload_sha256}"


def test_a_key_signs_once(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has signed it already"):
        countersign(folder.bundle, KEY, out=tmp_path / "c.dsse.json", trust=BOTH, now=NOW)
    assert not (tmp_path / "c.dsse.json").exists()


@pytest.mark.parametrize("name", ["certificate.sigstore.json", "report.html", "new.sigstore.json"])
def test_several_signatures_get_a_name_of_their_own(folder: Folder, name: str) -> None:
    before = folder.bundle.read_bytes()
    with pytest.raises(UsageError, match="refuse a second signature"):
        countersign(folder.bundle, CONTROLLER, out=folder.path / name, trust=BOTH, now=NOW)
    assert folder.bundle.read_bytes() == before


def test_signatures_of_others_are_never_overwritten(folder: Folder, envelope: Path) -> None:
    with pytest.raises(UsageError, match="never overwritten"):
        countersign(folder.bundle, SECOND, out=envelope, trust=BOTH, now=NOW)
    assert len(parse_dsse(envelope.read_bytes()).signatures) == 2


# --- What other tools make of it -------------------------------------------------------------------------------------


def test_securesystemslib_opens_the_envelope_with_a_threshold_of_two(envelope: Path) -> None:
    library = pytest.importorskip("securesystemslib.dsse")
    signer = pytest.importorskip("securesystemslib.signer")
    error = pytest.importorskip("securesystemslib.exceptions").VerificationError
    found = library.Envelope.from_dict(json.loads(envelope.read_bytes()))
    first, second = (signer.SSlibKey.from_crypto(key.public, keyid=key.keyid) for key in (KEY, CONTROLLER))
    assert set(found.verify([first, second], threshold=2)) == {KEY.keyid, CONTROLLER.keyid}
    assert found.payload == payload_of(predicate())
    with pytest.raises(error):
        found.verify([first, signer.SSlibKey.from_crypto(SECOND.public, keyid=SECOND.keyid)], threshold=2)


@pytest.mark.skipif(which("openssl") is None, reason="openssl is not installed")
@pytest.mark.parametrize("key", [KEY, CONTROLLER], ids=["ecdsa-p256", "ed25519"])
def test_openssl_verifies_each_signature_of_the_envelope(envelope: Path, tmp_path: Path, key: SigningKey) -> None:
    document = json.loads(envelope.read_bytes())
    payload = base64.b64decode(document["payload"])
    text = next(entry["sig"] for entry in document["signatures"] if entry["keyid"] == key.keyid)
    (tmp_path / "pae").write_bytes(b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload)
    (tmp_path / "sig").write_bytes(base64.b64decode(text))
    (tmp_path / "key.pub").write_bytes(public_pem(key.public))
    if key.algorithm == "ed25519":
        command = ["pkeyutl", "-verify", "-pubin", "-inkey", "key.pub", "-rawin", "-in", "pae", "-sigfile", "sig"]
    else:
        command = ["dgst", "-sha256", "-verify", "key.pub", "-signature", "sig", "pae"]
    assert subprocess.run(["openssl", *command], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "pae").write_bytes((tmp_path / "pae").read_bytes() + b" ")
    assert subprocess.run(["openssl", *command], cwd=tmp_path, capture_output=True, check=False).returncode != 0
