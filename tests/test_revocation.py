"""The revocation list: what it takes away, what makes it count, how it grows, and every way to be refused."""

import hashlib
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
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
    make_folder,
    payload_of,
    predicate,
    trusted,
    trusting,
)

from cu_certificates import keys
from cu_certificates.check.carrier import Signature, parse_bundle
from cu_certificates.check.strict import canonical
from cu_certificates.countersign import countersign
from cu_certificates.envelope import (
    GATE_TYPE,
    PREDICATE_TYPE,
    REVOCATION_TYPE,
    dsse,
    open_envelope,
    sign,
    statement,
)
from cu_certificates.errors import UntrustedError, UsageError
from cu_certificates.revocation import (
    MAX_ENTRIES,
    Entry,
    RevocationList,
    _extended,
    digest_of_keyid,
    load_revocations,
    read_revocations,
    revoke,
)
from cu_certificates.trust import RevocationRule, Trust
from cu_certificates.verify import open_trusted, verify

LISTER = keys.ephemeral_key()
LISTER_TRUSTED = trusted(LISTER, roles=("controller",), predicates=(REVOCATION_TYPE,))
EARLIER = NOW - timedelta(days=10)
PAYLOAD = hashlib.sha256(payload_of(predicate())).hexdigest()
PARTNER = trusted(CONTROLLER, roles=("controller",))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return make_folder(tmp_path / "out")


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    return tmp_path / "revoked.sigstore.json"


def reader(listed: Path, *more: Any, max_age_days: int | None = None, min_sequence: int = 1, **changes: Any) -> Trust:
    """A reader who asks the list, which LISTER signs."""
    rule = RevocationRule(list=listed, max_age_days=max_age_days, min_sequence=min_sequence)
    return trusting(LISTER_TRUSTED, *more, rules={"revocation": rule}, **changes)


def of_key(keyid: str = KEY.keyid, when: datetime = EARLIER, reason: str = "key-compromise") -> Entry:
    return Entry(keyid=keyid, revoked_at=when, reason=reason)


def of_certificate(when: datetime = EARLIER) -> Entry:
    return Entry(payload_sha256=PAYLOAD, revoked_at=when, reason="error")


def add(listed: Path, entry: Entry | None, *, now: datetime = NOW, signer: keys.SigningKey = LISTER) -> RevocationList:
    return revoke(listed, signer, entry, now=now)


# --- What a list takes away ------------------------------------------------------------------------------------------


def test_a_list_that_names_neither_certificate_nor_key_changes_nothing(folder: Folder, listed: Path) -> None:
    add(listed, of_key(OTHER.keyid))
    found = verify(folder.bundle, trust=reader(listed), now=NOW)
    (step,) = (step for step in found.steps if step.name == "revocation")
    assert step.state == "ok"
    assert step.detail.startswith("list number 1 of 2026-11-21 12:00:00+00:00 with 1 entries")


def test_a_revoked_certificate_is_refused_in_every_carrier(folder: Folder, listed: Path) -> None:
    file = folder.path / "certificate.dsse.json"
    countersign(folder.bundle, CONTROLLER, out=file, trust=trusting(PARTNER), now=NOW)
    add(listed, of_certificate())
    told, trust = r"was revoked on 2026-11-11 .*\(error\)", reader(listed, PARTNER)
    for carrier in (folder.bundle, folder.report, file):
        folder.refused("revocation", told, file=carrier, trust=trust)


def test_a_revoked_key_takes_every_signature_with_it_that_nobody_stamped(folder: Folder, listed: Path) -> None:
    add(listed, of_key(when=NOW))  # issued before the revocation, by the signer's own word
    error = folder.refused("revocation", "no time stamp shows that it is older", trust=reader(listed))
    assert KEY.keyid in str(error)


@pytest.mark.parametrize(("stamp", "good"), [(-1, True), (0, False), (1, False)])
def test_a_stamp_before_the_revocation_saves_a_signature(
    folder: Folder, listed: Path, monkeypatch: pytest.MonkeyPatch, stamp: int, good: bool
) -> None:
    when = NOW - timedelta(hours=1)
    add(listed, of_key(when=when))
    stamped = when + timedelta(seconds=stamp)
    monkeypatch.setitem(
        sys.modules,
        "cu_certificates.timestamp",
        SimpleNamespace(verify_token=lambda token, signature, roots: stamped),
    )
    (folder.path / "certificate.tsr").write_bytes(b"token")
    trust = replace(reader(listed), tsa_roots=(folder.path / "root.pem",))
    if good:
        found = verify(folder.bundle, trust=trust, now=NOW)
        assert found.stamped == stamped
    else:
        folder.refused("revocation", "its time stamp is", trust=trust)


def test_a_stamp_of_the_auditor_does_not_save_the_countersigner(
    folder: Folder, listed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.path / "certificate.dsse.json"
    countersign(folder.bundle, CONTROLLER, out=file, trust=trusting(PARTNER), now=NOW)
    add(listed, of_key(CONTROLLER.keyid, when=NOW))
    fake = SimpleNamespace(verify_token=lambda token, signature, roots: NOW - timedelta(hours=2))
    monkeypatch.setitem(sys.modules, "cu_certificates.timestamp", fake)
    (folder.path / "certificate.tsr").write_bytes(b"token")
    trust = replace(reader(listed, PARTNER), tsa_roots=(folder.path / "root.pem",))
    folder.refused("revocation", re.escape(CONTROLLER.keyid), file=file, trust=trust)
    verify(folder.bundle, trust=trust, now=NOW)  # the auditor's signature alone stands


def test_other_documents_are_asked_after_too(listed: Path) -> None:
    gate = trusted(SECOND, roles=("gate",), predicates=(GATE_TYPE,))
    decision = sign(statement({"m": "0a" * 32}, {"timeCreated": "x"}, predicate_type=GATE_TYPE), SECOND)
    add(listed, None)
    trust = reader(listed, gate)
    payload = open_trusted(decision, trust, role="gate", predicate_type=GATE_TYPE, now=NOW)
    add(listed, of_key(SECOND.keyid))
    with pytest.raises(UntrustedError, match="revoked on") as caught:
        open_trusted(decision, trust, role="gate", predicate_type=GATE_TYPE, now=NOW)
    assert caught.value.step == "revocation"
    assert payload.startswith(b'{"_type"')


# --- Fail closed -----------------------------------------------------------------------------------------------------


def test_a_missing_list_refuses_everything(folder: Folder, listed: Path) -> None:
    for trust in (reader(listed), reader(listed, max_age_days=30)):
        folder.refused("revocation", r"revoked\.sigstore\.json' does not exist.*nobody knows", trust=trust)
    listed.mkdir()
    folder.refused("revocation", "is a folder", trust=reader(listed))


def test_a_stale_list_refuses_everything(folder: Folder, listed: Path) -> None:
    add(listed, None, now=NOW - timedelta(days=30))
    verify(folder.bundle, trust=reader(listed, max_age_days=30), now=NOW)
    verify(folder.bundle, trust=reader(listed), now=NOW + timedelta(days=80))
    later = NOW + timedelta(seconds=1)
    folder.refused("revocation", "max_list_age_days = 30", trust=reader(listed, max_age_days=30), now=later)
    add(listed, None)  # signed again, without a new entry
    verify(folder.bundle, trust=reader(listed, max_age_days=30), now=later)


def test_an_older_list_in_place_of_a_newer_one_is_noticed(folder: Folder, listed: Path) -> None:
    add(listed, None)
    old = listed.read_bytes()
    assert add(listed, of_key()).sequence == 2
    listed.write_bytes(old)
    verify(folder.bundle, trust=reader(listed), now=NOW)  # nothing in the list alone can tell
    folder.refused("revocation", "number 1; min_sequence = 2", trust=reader(listed, min_sequence=2))
    # Nor does its owner build on it, who would drop what came after.
    with pytest.raises(UntrustedError, match="min_sequence = 2"):
        revoke(listed, LISTER, None, now=NOW, trust=reader(listed, min_sequence=2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predicates": (PREDICATE_TYPE,)}, f"this file needs {REVOCATION_TYPE}"),
        ({"not_after": NOW - timedelta(days=1)}, "was valid until"),
        ({"not_before": NOW + timedelta(days=1)}, "becomes valid on"),
    ],
)
def test_a_list_counts_only_under_a_key_that_may_sign_it_now(
    folder: Folder, listed: Path, changes: dict[str, Any], message: str
) -> None:
    add(listed, None)
    fields = {"roles": ("controller",), "predicates": (REVOCATION_TYPE,)} | changes
    rule = RevocationRule(list=listed)
    trust = trusting(trusted(LISTER, **fields), rules={"revocation": rule})
    folder.refused("revocation", message, trust=trust)


def test_a_list_by_a_stranger_is_refused(folder: Folder, listed: Path) -> None:
    add(listed, None, signer=OTHER)
    folder.refused("revocation", "does not list", trust=reader(listed))
    listed.write_bytes(folder.bundle.read_bytes())
    folder.refused("revocation", f"needs {REVOCATION_TYPE}|may sign", trust=reader(listed))
    listed.write_bytes(b"hello")
    folder.refused("revocation", "not JSON", trust=reader(listed))
    listed.write_bytes(folder.report.read_bytes())
    folder.refused("revocation", "an HTML page", trust=reader(listed))


def test_an_altered_list_is_refused(folder: Folder, listed: Path) -> None:
    add(listed, of_key(OTHER.keyid))
    data = listed.read_bytes()
    for place in range(0, len(data), 7):
        spoiled = bytearray(data)
        spoiled[place] ^= 1 << place % 8
        listed.write_bytes(spoiled)
        folder.refused("revocation", "revocation list", trust=reader(listed))


def test_a_list_that_revokes_its_own_key_is_believed(folder: Folder, listed: Path) -> None:
    add(listed, of_key(LISTER.keyid))
    add(listed, of_key())
    folder.refused("revocation", re.escape(KEY.keyid), trust=reader(listed))


# --- How a list grows ------------------------------------------------------------------------------------------------


def test_a_list_only_grows_and_each_version_names_the_one_before(listed: Path) -> None:
    versions = [add(listed, entry) for entry in (None, of_certificate(), None, of_key(), of_key(OTHER.keyid))]
    assert [version.sequence for version in versions] == [1, 2, 3, 4, 5]
    assert [len(version.entries) for version in versions] == [0, 1, 1, 2, 3]
    assert [version.previous for version in versions] == [None, *(found.payload_sha256 for found in versions[:-1])]
    last = read_revocations(listed.read_bytes(), trusting(LISTER_TRUSTED), now=NOW)
    assert last == versions[-1]
    assert last.entries[:2] == versions[3].entries
    assert last.of(KEY.keyid) == of_key()
    assert last.of(f"sha256:{PAYLOAD}") == of_certificate()
    assert last.of(SECOND.keyid) is None


def test_what_is_listed_can_only_become_earlier(listed: Path) -> None:
    add(listed, of_key(when=EARLIER))
    for when in (EARLIER, EARLIER + timedelta(days=1)):
        with pytest.raises(UsageError, match="an entry is never taken back"):
            add(listed, of_key(when=when))
    before = EARLIER - timedelta(days=3)
    assert add(listed, of_key(when=before)).of(KEY.keyid) == of_key(when=before)
    assert load_revocations(reader(listed), now=NOW) is not None


def test_only_a_trusted_list_is_added_to(listed: Path) -> None:
    add(listed, of_key())
    data = listed.read_bytes()
    with pytest.raises(UntrustedError, match="does not list"):
        add(listed, None, signer=OTHER)
    listed.write_bytes(data.replace(b'"sig":"M', b'"sig":"N'))
    with pytest.raises(UntrustedError):
        add(listed, None)
    listed.write_bytes(b"")
    with pytest.raises(UntrustedError):
        add(listed, None)
    listed.write_bytes(data)
    # A further key may go on with it, when the trust file lists the one that signed before.
    found = revoke(listed, SECOND, of_key(OTHER.keyid), now=NOW, trust=trusting(LISTER_TRUSTED))
    assert (found.sequence, len(found.entries), found.keyid) == (2, 2, SECOND.keyid)


def test_times_that_cannot_be_are_refused(listed: Path) -> None:
    with pytest.raises(UsageError, match="which is after now"):
        add(listed, of_key(when=NOW + timedelta(seconds=1)))
    assert not listed.exists()
    add(listed, None)
    with pytest.raises(UsageError, match="check the clock"):
        add(listed, None, now=NOW - timedelta(hours=1))


def test_a_full_list_says_so(listed: Path) -> None:
    entries = tuple(of_certificate() for _ in range(MAX_ENTRIES))
    full = RevocationList(
        entries=entries, sequence=1, previous=None, issued_at=NOW, payload_sha256=PAYLOAD, keyid=LISTER.keyid
    )
    with pytest.raises(UsageError, match=f"holds {MAX_ENTRIES} entries"):
        _extended(full, of_key())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "either a certificate or a key"),
        ({"keyid": KEY.keyid, "payload_sha256": PAYLOAD}, "either a certificate or a key"),
        ({"payload_sha256": PAYLOAD.upper()}, "64 lower-case"),
        ({"keyid": "SHA256:short"}, "expected a fingerprint"),
        ({"keyid": KEY.keyid + "="}, "expected a fingerprint"),
        ({"keyid": "SHA256:" + "A" * 42 + "B"}, "unused bits"),
        ({"keyid": KEY.keyid, "reason": "Key Compromise"}, "one lower-case word"),
        ({"keyid": KEY.keyid, "reason": "a\n::error::"}, "one lower-case word"),
        ({"keyid": KEY.keyid, "revoked_at": NOW.replace(tzinfo=None)}, "time zone"),
        ({"keyid": KEY.keyid, "revoked_at": NOW.replace(microsecond=5)}, "whole seconds"),
    ],
)
def test_an_entry_checks_itself(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Entry(**({"revoked_at": NOW, "reason": "error"} | fields))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([KEY.keyid, OTHER.keyid]), st.integers(0, 9)), max_size=8))
def test_the_earliest_time_counts(pairs: list[tuple[str, int]]) -> None:
    entries = tuple(of_key(keyid, NOW - timedelta(days=days)) for keyid, days in pairs)
    found = RevocationList(
        entries=entries, sequence=1, previous=None, issued_at=NOW, payload_sha256=PAYLOAD, keyid=LISTER.keyid
    )
    for keyid in (KEY.keyid, OTHER.keyid):
        days = [number for name, number in pairs if name == keyid]
        entry = found.of(keyid)
        assert (entry and entry.revoked_at) == (NOW - timedelta(days=max(days)) if days else None)


# --- One form --------------------------------------------------------------------------------------------------------


def test_the_subjects_are_the_entries_and_what_they_name(listed: Path) -> None:
    add(listed, of_certificate())
    add(listed, of_key())
    carrier = parse_bundle(listed.read_bytes())
    document = json.loads(open_envelope(carrier, LISTER.public))
    assert document["predicateType"] == REVOCATION_TYPE
    found = {entry["name"]: entry["digest"]["sha256"] for entry in document["subject"]}
    listing = canonical(document["predicate"]["entries"])
    assert found == {
        "entries.json": hashlib.sha256(listing).hexdigest(),
        f"sha256:{PAYLOAD}": PAYLOAD,
        KEY.keyid: digest_of_keyid(KEY.keyid),
    }


def test_other_tools_read_and_verify_the_list(listed: Path) -> None:
    module = pytest.importorskip("in_toto_attestation.v1.statement")
    messages = pytest.importorskip("in_toto_attestation.v1.statement_pb2")
    json_format = pytest.importorskip("google.protobuf.json_format")
    library = pytest.importorskip("securesystemslib.dsse")
    signer = pytest.importorskip("securesystemslib.signer")
    for entry in (None, of_key()):
        add(listed, entry)
        envelope = library.Envelope.from_dict(json.loads(listed.read_bytes())["dsseEnvelope"])
        trusted_key = signer.SSlibKey.from_crypto(LISTER.public, keyid=LISTER.keyid)
        assert list(envelope.verify([trusted_key], threshold=1)) == [LISTER.keyid]
        module.Statement.copy_from_pb(json_format.Parse(envelope.payload, messages.Statement())).validate()


FORMS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "version": (lambda found: found.update(schemaVersion="2.0"), "schemaVersion '2.0'"),
    "no version": (lambda found: found.pop("schemaVersion"), "schemaVersion"),
    "number": (lambda found: found.update(sequence=0), "whole number from 1"),
    "number as text": (lambda found: found.update(sequence="1"), "whole number from 1"),
    "true": (lambda found: found.update(sequence=True), "whole number from 1"),
    "first with previous": (lambda found: found.update(previous={"sha256": PAYLOAD}), "previous"),
    "later without previous": (lambda found: found.update(sequence=2), "previous"),
    "previous": (lambda found: found.update(sequence=2, previous={"sha512": PAYLOAD}), "previous"),
    "time": (lambda found: found.update(issuedAt="2026-11-21"), "expected a time"),
    "future": (lambda found: found.update(issuedAt="2026-11-22T12:00:01Z"), "after now"),
    "entries": (lambda found: found.update(entries={}), "no list"),
    "too many": (lambda found: found.update(entries=[1] * (MAX_ENTRIES + 1)), "at most 998"),
    "entry": (lambda found: found.update(entries=[7]), "expected an object"),
    "unknown kind": (lambda found: found["entries"][0].update(model="x"), "expected exactly"),
    "identity": (
        lambda found: found.update(entries=[{"identity": "x", "revokedAt": "x", "reason": "error"}]),
        "expected exactly",
    ),
    "both kinds": (lambda found: found["entries"][0].update(payloadSha256=PAYLOAD), "expected exactly"),
    "no reason": (lambda found: found["entries"][0].pop("reason"), "expected exactly"),
    "reason": (lambda found: found["entries"][0].update(reason="A b"), "one lower-case word"),
    "reason as number": (lambda found: found["entries"][0].update(reason=1), "expected strings"),
    "when": (lambda found: found["entries"][0].update(revokedAt="2026-11-11t12:00:00z"), "expected a time"),
    "key": (lambda found: found["entries"][0].update(keyid="SHA256:x"), "expected a fingerprint"),
    "subjects": (lambda found: found["entries"][0].update(keyid=OTHER.keyid), "subjects of the list"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_signed_list_of_another_form_is_refused(folder: Folder, listed: Path, name: str) -> None:
    add(listed, of_key())
    document = json.loads(open_envelope(parse_bundle(listed.read_bytes()), LISTER.public))
    change, message = FORMS[name]
    change(document["predicate"])
    subjects = {entry["name"]: entry["digest"]["sha256"] for entry in document["subject"]}
    listed.write_bytes(sign(statement(subjects, document["predicate"], predicate_type=REVOCATION_TYPE), LISTER))
    folder.refused("revocation", message, trust=reader(listed))


def test_a_list_may_come_in_an_envelope_of_its_own(folder: Folder, listed: Path) -> None:
    add(listed, of_key())
    carrier = parse_bundle(listed.read_bytes())
    listed.write_bytes(dsse(carrier.payload, [Signature(keyid=LISTER.keyid, value=carrier.signatures[0].value)]))
    folder.refused("revocation", re.escape(KEY.keyid), trust=reader(listed))
