"""Verification from end to end, with the real checker: what is accepted, and every way to be refused."""

import base64
import dataclasses
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from signed_folder import (
    FILES,
    KEY,
    MODEL,
    NOW,
    OTHER,
    SKELETON,
    TRUST,
    Folder,
    bits_of,
    flipped,
    make_folder,
    payload_of,
    predicate,
    sha256,
    trusting,
    without_bound,
)

from cu_certificates.check.carrier import join_report, parse_bundle
from cu_certificates.check.strict import canonical
from cu_certificates.envelope import PAYLOAD_TYPE, bundle, pae, sign, statement
from cu_certificates.errors import MissingFileError, UntrustedError, UsageError
from cu_certificates.verify import Certificate, Step, load_unverified, verify


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return make_folder(tmp_path / "out")


# --- What is accepted ------------------------------------------------------------------------------------------------


def test_a_bundle_is_accepted_step_by_step(folder: Folder) -> None:
    seen: list[Step] = []
    found = verify(folder.bundle, trust=TRUST, model=folder.model, now=NOW, watch=seen.append)
    names = ["carrier", "trust", "signature", "time", "subject", "evidence", "claims", "verdict"]
    assert [step.name for step in found.steps] == names
    assert {step.state for step in found.steps} == {"ok"}
    assert tuple(seen) == found.steps
    assert found.verdict == found.check.stated == "INCONCLUSIVE"
    assert found.payload_sha256 == sha256(parse_bundle(folder.bundle.read_bytes()).payload)
    assert (found.keyid, found.roles) == (KEY.keyid, ("auditor",))
    assert found.subjects == {"model.pt": sha256(MODEL), "report.html": sha256(SKELETON)}
    assert found.bundle == folder.bundle.read_bytes()
    assert [claim.status for claim in found.check.claims] == ["proved", "proved", "assumed", "unverified"]


def test_a_report_is_accepted_with_its_page(folder: Folder) -> None:
    found = verify(folder.report, trust=TRUST, now=NOW)
    states = {step.name: step.state for step in found.steps}
    assert states["report"] == "ok"
    assert states["subject"] == "not checked"  # no model was given
    assert found.payload_sha256 == verify(folder.bundle, trust=TRUST, now=NOW).payload_sha256
    assert join_report(SKELETON, found.bundle) == folder.report.read_bytes()


def test_a_file_is_read_once(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    original = Path.open

    def counting(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self.name)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", counting)
    verify(folder.report, trust=TRUST, model=folder.model, now=NOW)
    assert sorted(opened) == ["model.pt", "plan.json", "report.html", "utility.jsonl"]


def test_only_verification_makes_a_certificate(folder: Folder) -> None:
    found = verify(folder.bundle, trust=TRUST, now=NOW)
    with pytest.raises(TypeError, match="only from"):
        Certificate(
            payload_sha256=found.payload_sha256,
            check=found.check,
            keyid=OTHER.keyid,
            roles=found.roles,
            steps=found.steps,
            bundle=found.bundle,
            payload=found.payload,
            signatures=found.signatures,
            stamped=found.stamped,
            seal=object(),
        )
    with pytest.raises(ValueError, match="seal"):
        dataclasses.replace(found, keyid=OTHER.keyid)  # type: ignore[call-arg]
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.keyid = OTHER.keyid  # type: ignore[misc]


def test_a_mirrored_signature_and_another_alphabet_are_the_same_certificate(folder: Folder) -> None:
    first = verify(folder.bundle, trust=TRUST, now=NOW)
    document = json.loads(folder.bundle.read_bytes())
    envelope = document["dsseEnvelope"]
    envelope["payload"] = envelope["payload"].replace("+", "-").replace("/", "_")
    envelope["signatures"][0]["sig"] = base64.urlsafe_b64encode(
        KEY.sign(pae(PAYLOAD_TYPE, base64.urlsafe_b64decode(envelope["payload"])))
    ).decode()
    folder.bundle.write_text(json.dumps(document, indent=1))
    assert verify(folder.bundle, trust=TRUST, now=NOW).payload_sha256 == first.payload_sha256


# --- Every flipped bit -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bundle", "report"])
def test_every_flipped_bit_is_refused(folder: Folder, kind: str) -> None:
    file: Path = getattr(folder, kind)
    data = file.read_bytes()
    if kind == "bundle":
        text = json.loads(data)["dsseEnvelope"]["payload"].encode()
    else:
        text = base64.b64encode(folder.bundle.read_bytes())
    start = data.index(text)
    for bit in bits_of(data, range(start, start + len(text))):
        file.write_bytes(flipped(data, bit))
        try:
            verify(file, trust=TRUST, now=NOW)
        except UntrustedError:
            continue
        pytest.fail(f"bit {bit % 8} of byte {bit // 8} ({data[bit // 8 - 20 : bit // 8 + 20]!r}) was flipped unseen")
    file.write_bytes(data)
    verify(file, trust=TRUST, now=NOW)


# --- Carrier, signature, trust ---------------------------------------------------------------------------------------


def test_what_is_unsigned_is_called_so(folder: Folder) -> None:
    folder.bundle.write_bytes(payload_of(predicate()))
    folder.refused("carrier", "UNSIGNED")
    folder.report.write_bytes(SKELETON)
    folder.refused("carrier", "UNSIGNED", file=folder.report)
    document = json.loads(sign(payload_of(predicate()), KEY))
    document["dsseEnvelope"]["signatures"] = []
    folder.bundle.write_bytes(canonical(document))
    folder.refused("carrier", "UNSIGNED")


def test_an_unknown_key_is_named_with_what_to_do(folder: Folder) -> None:
    folder.write(sign(payload_of(predicate()), OTHER))
    error = folder.refused("trust", "does not list")
    assert OTHER.keyid in str(error)
    assert "cu-cert key show" in str(error)
    assert "[[key]]" in str(error)


def test_a_swapped_keyid_is_refused(folder: Folder) -> None:
    payload = payload_of(predicate())
    # Somebody else signs and writes the trusted key's name on it.
    folder.bundle.write_bytes(bundle(payload, OTHER.sign(pae(PAYLOAD_TYPE, payload)), KEY.keyid))
    folder.refused("signature", "does not match")
    document = json.loads(sign(payload, KEY))
    document["verificationMaterial"]["publicKey"]["hint"] = OTHER.keyid
    folder.bundle.write_bytes(canonical(document))
    folder.refused("carrier", "hint")
    document = json.loads(sign(payload, KEY))
    document["dsseEnvelope"]["signatures"][0]["keyid"] = OTHER.keyid
    folder.bundle.write_bytes(canonical(document))
    folder.refused("trust", "does not list")


def test_a_key_signs_only_for_its_roles_and_document_types(folder: Folder) -> None:
    folder.refused("trust", "roles controller, gate", trust=trusting(roles=("controller", "gate")))
    folder.refused("trust", "may sign https://example.com/v1", trust=trusting(predicates=("https://example.com/v1",)))


def test_the_named_auditor_must_be_the_signer(folder: Folder) -> None:
    folder.issue(lambda content: content["auditor"].update(keyid=OTHER.keyid))
    folder.refused("trust", "names auditor key")
    folder.issue(lambda content: content.pop("auditor"))
    folder.refused("carrier", "auditor.keyid")


def signed_bytes(payload: bytes) -> bytes:
    """Sign bytes that ``sign`` would not."""
    return bundle(payload, KEY.sign(pae(PAYLOAD_TYPE, payload)), KEY.keyid)


def test_a_valid_signature_over_something_else_is_refused(folder: Folder) -> None:
    good = payload_of(predicate())
    cases = {
        "predicateType": good.replace(b"unlearning-audit/v1", b"unlearning-audit/v2"),
        "_type": good.replace(b"Statement/v1", b"Statement/v0.1"),
        "stands twice": good.replace(b'"schemaVersion":"1.0"', b'"schemaVersion":"1.0","schemaVersion":"1.0"'),
        "number '50.0'": good.replace(b'"size":50', b'"size":50.0'),
        "number 'NaN'": good.replace(b'"size":50', b'"size":NaN'),
        "2\\^53": good.replace(b'"size":50', b'"size":9007199254740993'),
        "byte-order mark": b"\xef\xbb\xbf" + good,
        "fields": good[:-1] + b',"extra":1}',
        "not JSON": b"hello",
        "expected an object": b"[]",
    }
    for message, payload in cases.items():
        assert payload != good
        folder.write(signed_bytes(payload))
        folder.refused("carrier", message)
    head, tail = good.rsplit(sha256(MODEL).encode(), 1)  # the last one is the subject's
    folder.write(signed_bytes(head + b"0f" * 32 + tail))
    folder.refused("subject", "not a subject")


def test_a_wrong_payload_type_is_refused(folder: Folder) -> None:
    payload, kind = payload_of(predicate()), "application/json"
    document = json.loads(bundle(payload, KEY.sign(pae(kind, payload)), KEY.keyid))
    document["dsseEnvelope"]["payloadType"] = kind
    folder.bundle.write_bytes(canonical(document))
    folder.refused("carrier", "payloadType")
    document["dsseEnvelope"]["payloadType"] = PAYLOAD_TYPE
    folder.bundle.write_bytes(canonical(document))
    folder.refused("signature", "does not match")


def test_an_unknown_major_version_is_refused(folder: Folder) -> None:
    folder.issue(lambda content: content.update(schemaVersion="2.0"))
    folder.refused("claims", "schemaVersion")


# --- Time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"issuedAt": "2026-11-22T12:00:01Z"}, "after now"),
        ({"expiresAt": "2026-11-21T12:00:00Z"}, "expired"),
        ({"expiresAt": "2026-11-20T18:00:00Z"}, "not later than issuedAt"),
        ({"issuedAt": "2026-11-20T18:00:00+00:00"}, "expected a time"),
        ({"issuedAt": "2026-11-20 18:00:00Z"}, "expected a time"),
        ({"issuedAt": "2026-13-20T18:00:00Z"}, "expected a time"),
        ({"issuedAt": "2026-11-20T18:00:00Z\n"}, "expected a time"),
        ({"expiresAt": "\N{FULLWIDTH DIGIT TWO}027-02-18T18:00:00Z"}, "expected a time"),
        ({"issuedAt": "2025-12-31T23:59:59Z"}, "before key"),
    ],
)
def test_a_certificate_outside_its_time_is_refused(folder: Folder, fields: dict[str, str], message: str) -> None:
    folder.issue(lambda content: content.update(fields))
    folder.refused("time", message)


def test_time_limits_are_exact(folder: Folder) -> None:
    folder.issue(lambda content: content.update(issuedAt="2026-11-22T12:00:00Z"))
    verify(folder.bundle, trust=TRUST, now=NOW)  # one day ahead is still a wrong clock, not a forgery
    folder.issue(lambda content: content.update(expiresAt="2026-11-21T12:00:01Z"))
    verify(folder.bundle, trust=TRUST, now=NOW)


def test_a_caller_may_judge_the_age_itself(folder: Folder) -> None:
    folder.issue(lambda content: content.update(expiresAt="2026-11-21T12:00:00Z"))
    found = verify(folder.bundle, trust=TRUST, now=NOW, allow_expired=True)
    assert [step.state for step in found.steps if step.name == "time"] == ["not checked"]


def test_a_key_past_its_end_is_not_believed_about_the_past(folder: Folder) -> None:
    ended = trusting(not_after=NOW - timedelta(hours=1))
    folder.refused("time", "was valid until", trust=ended)
    verify(folder.bundle, trust=trusting(not_after=NOW), now=NOW)


def test_an_old_certificate_is_refused_when_the_reader_says_so(folder: Folder) -> None:
    later = datetime(2026, 12, 20, 18, tzinfo=UTC)
    verify(folder.bundle, trust=trusting(max_age_days=30), now=later)
    folder.refused("time", "max_age_days = 30", trust=trusting(max_age_days=30), now=later + timedelta(seconds=1))


def test_a_time_without_a_zone_is_a_usage_error(folder: Folder) -> None:
    with pytest.raises(UsageError, match="time zone"):
        verify(folder.bundle, trust=TRUST, now=NOW.replace(tzinfo=None))


# --- Report and model ------------------------------------------------------------------------------------------------


def test_an_altered_page_is_refused(folder: Folder) -> None:
    html = folder.report.read_bytes()
    folder.report.write_bytes(html.replace(b"<body>\n", b"<body>\nNOT_REFUTED\n"))
    folder.refused("report", "the page was altered", file=folder.report)
    line = next(line for line in html.splitlines(keepends=True) if b"cu-cert-bundle" in line)
    folder.report.write_bytes(html + line)
    folder.refused("carrier", "2 times", file=folder.report)
    folder.report.write_bytes(html.replace(b"</script>\n", b"<p>PASS</p></script>\n"))
    folder.refused("carrier", "no bundle line", file=folder.report)


def test_a_page_needs_a_certificate_that_speaks_of_a_page(folder: Folder) -> None:
    folder.write(sign(statement({"model.pt": sha256(MODEL)}, predicate()), KEY))
    verify(folder.bundle, trust=TRUST, now=NOW)
    folder.refused("report", "no report", file=folder.report)


def test_another_model_is_refused(folder: Folder) -> None:
    folder.model.write_bytes(MODEL + b"!")
    error = folder.refused("subject", "speaks only of", model=folder.model)
    assert sha256(MODEL) in str(error)
    assert sha256(MODEL + b"!") in str(error)
    # The page is a subject too, but it is not the audited model.
    folder.model.write_bytes(SKELETON)
    folder.refused("subject", "speaks only of", model=folder.model)


def test_a_model_is_hashed_and_never_unpickled(folder: Folder) -> None:
    # Unpickling these bytes would make the folder "opened".
    opened = str(folder.path / "opened").encode()
    folder.model.write_bytes(b"cos\nmkdir\n(V" + opened + b"\ntR.")
    folder.refused("subject", "speaks only of", model=folder.model)
    assert not (folder.path / "opened").exists()


@pytest.mark.parametrize("option", ["file", "model"])
def test_missing_files_are_usage_errors(folder: Folder, option: str) -> None:
    os.mkfifo(folder.path / "pipe")
    for path in (folder.path / "none", folder.path, folder.path / "pipe", folder.path / "model.pt" / "x"):
        with pytest.raises(MissingFileError) as caught:
            verify(
                path if option == "file" else folder.bundle,
                trust=TRUST,
                model=path if option == "model" else None,
                now=NOW,
            )
        assert caught.value.exit_code == 2


# --- Evidence, claims, verdict ---------------------------------------------------------------------------------------


def test_absent_evidence_is_named_with_whom_to_ask(folder: Folder) -> None:
    folder.issue(without_bound)
    (folder.path / "evidence/utility.jsonl").unlink()
    error = folder.refused("evidence", "'evidence/utility.jsonl' is absent")
    assert "'Example Auditor'" in str(error)
    assert sha256(FILES["evidence/utility.jsonl"]) in str(error)
    found = verify(folder.bundle, trust=TRUST, now=NOW, allow_missing_evidence=True)
    assert found.check.missing == ("evidence/utility.jsonl",)
    states = {step.name: step.state for step in found.steps}
    assert (states["evidence"], states["claims"], states["verdict"]) == ("not checked",) * 3


def test_altered_evidence_is_refused_even_when_absence_is_allowed(folder: Folder) -> None:
    path = folder.path / "evidence/utility.jsonl"
    path.write_bytes(FILES["evidence/utility.jsonl"].replace(b'"score":0', b'"score":1'))
    for allowed in (False, True):
        folder.refused("evidence", "altered or exchanged", allow_missing_evidence=allowed)


def test_evidence_may_lie_in_another_folder(folder: Folder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (folder.path / "evidence").rename(elsewhere)
    # The folder that was called evidence/, while plan.json still lies beside the certificate.
    verify(folder.bundle, trust=TRUST, evidence=elsewhere, now=NOW)
    (elsewhere / "evidence").mkdir()
    (elsewhere / "utility.jsonl").rename(elsewhere / "evidence/utility.jsonl")
    (folder.path / "plan.json").rename(elsewhere / "plan.json")
    verify(folder.bundle, trust=TRUST, evidence=elsewhere, now=NOW)
    folder.refused("evidence", "'plan.json' is absent")
    with pytest.raises(UsageError, match="is no folder"):
        verify(folder.bundle, trust=TRUST, evidence=folder.model, now=NOW)


@pytest.mark.parametrize(
    "name", ["../plan.json", "/etc/hosts", "a/../b", "a//b", "", ".hidden", "a\\b", "a\0b", "plan.json\n", "-rf", 7]
)
def test_an_evidence_name_that_leads_elsewhere_is_refused(folder: Folder, name: object) -> None:
    folder.issue(lambda content: content["evidence"][1].update(name=name))
    folder.refused("evidence", "expected a plain path", allow_missing_evidence=True)


def test_one_evidence_name_stands_once(folder: Folder) -> None:
    folder.issue(lambda content: content["evidence"].append(content["evidence"][0] | {"id": "again"}))
    folder.refused("evidence", "once")
    folder.issue(lambda content: content.update(evidence={}))
    folder.refused("evidence", "expected a list")


def test_a_claim_that_does_not_follow_is_refused(folder: Folder) -> None:
    folder.issue(lambda content: content["claims"][1].update(k=37))
    error = folder.refused("claims", "do not follow")
    assert "'c-count'" in str(error)
    folder.issue(lambda content: content["claims"].append({"id": "c-new", "type": "erasure"}))
    folder.refused("claims", "'c-new'")
    folder.issue(lambda content: content.pop("claims"))
    folder.refused("claims", "checker refuses")


def test_the_stated_verdict_must_be_the_derived_one(folder: Folder) -> None:
    folder.issue(lambda content: content["verdict"].update(value="NOT_REFUTED"))
    folder.refused("verdict", "states NOT_REFUTED, but INCONCLUSIVE follows")
    folder.issue(lambda content: content.pop("verdict"))
    folder.refused("verdict", "draft")
    # Without evidence nothing can contradict it, so it is reported as not checked and never taken over.
    folder.issue(lambda content: content["verdict"].update(value="NOT_REFUTED"))
    (folder.path / "plan.json").unlink()
    found = verify(folder.bundle, trust=TRUST, now=NOW, allow_missing_evidence=True)
    assert (found.check.stated, found.verdict) == ("NOT_REFUTED", "INCONCLUSIVE")


# --- Unverified reading ----------------------------------------------------------------------------------------------


def test_unverified_reading_says_so_and_accepts_drafts(folder: Folder) -> None:
    for file in (folder.bundle, folder.report):
        found = load_unverified(file)
        assert found.predicate == predicate()
        assert found.stated_keyid == KEY.keyid
    draft = predicate()
    del draft["verdict"]
    payload = payload_of(draft)
    for data in (payload, payload + b"\n"):
        folder.bundle.write_bytes(data)
        found = load_unverified(folder.bundle)
        assert (found.predicate, found.stated_keyid, found.payload_sha256) == (draft, None, sha256(payload))
    assert not isinstance(found, Certificate)
    for data in (b"", b"{}", b"<html>", b'{"_type":1}'):
        folder.bundle.write_bytes(data)
        with pytest.raises(UntrustedError):
            load_unverified(folder.bundle)
