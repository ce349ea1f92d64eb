"""Time stamps beside a certificate: where they are looked for, what they change, when they are refused."""

import inspect
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from signed_folder import CONTROLLER, NOW, Folder, make_folder, trusted, trusting

from cu_certificates._verify_time import stamp_places
from cu_certificates.check.carrier import parse_bundle
from cu_certificates.countersign import countersign
from cu_certificates.errors import UntrustedError
from cu_certificates.trust import Trust
from cu_certificates.verify import verify

ROOT = Path("tsa/root.pem")
ISSUED = datetime.fromisoformat("2026-11-20T18:00:00+00:00")


class Authority:
    """Stands for ``cu_certificates.timestamp``; the tests of that module use a real one."""

    def __init__(self, when: datetime) -> None:
        self.when = when
        self.asked: list[tuple[bytes, bytes, list[Path]]] = []

    def verify_token(self, token: bytes, signature: bytes, roots: list[Path]) -> datetime:
        self.asked.append((token, signature, roots))
        if token != b"token":
            raise UntrustedError("time", "time stamp: not valid")
        return self.when


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return make_folder(tmp_path / "out")


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch) -> Authority:
    found = Authority(ISSUED + timedelta(minutes=5))
    monkeypatch.setitem(sys.modules, "cu_certificates.timestamp", found)  # type: ignore[arg-type]
    return found


def believing(*more: Any, required: bool = False, **changes: Any) -> Trust:
    return trusting(*more, rules={"tsa_roots": (ROOT,), "require_timestamp": required}, **changes)


def stamp(folder: Folder, name: str = "certificate.tsr", token: bytes = b"token") -> None:
    (folder.path / name).write_bytes(token)


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("certificate.sigstore.json", ["certificate.tsr"]),
        ("certificate.dsse.json", ["certificate.tsr"]),
        ("report.html", ["report.tsr", "certificate.tsr"]),
        ("mine.sigstore.json", ["mine.tsr", "certificate.tsr"]),
        ("mine.json", ["mine.tsr", "certificate.tsr"]),
        ("mine", ["mine.tsr", "certificate.tsr"]),
    ],
)
def test_a_stamp_lies_beside_its_certificate(name: str, places: list[str]) -> None:
    assert stamp_places(Path("a") / name) == [Path("a") / place for place in places]


def test_the_authority_is_asked_about_the_auditors_signature(folder: Folder, authority: Authority) -> None:
    envelope = folder.path / "certificate.dsse.json"
    partner = trusted(CONTROLLER, roles=("controller",))
    countersign(folder.bundle, CONTROLLER, out=envelope, trust=trusting(partner), now=NOW)
    stamp(folder)
    signature = parse_bundle(folder.bundle.read_bytes()).signatures[0].value
    for file in (folder.bundle, folder.report, envelope):
        found = verify(file, trust=believing(partner), now=NOW)
        assert found.stamped == authority.when
        (step,) = (step for step in found.steps if step.name == "time")
        assert step.detail.endswith("time stamp 2026-11-20 18:05:00+00:00")
    assert authority.asked == [(b"token", signature, [ROOT])] * 3


def test_who_believes_no_authority_asks_none(folder: Folder, authority: Authority) -> None:
    stamp(folder, token=b"rubbish")
    assert verify(folder.bundle, trust=trusting(), now=NOW).stamped is None
    assert authority.asked == []


def test_a_stamp_that_is_asked_for_must_be_there(folder: Folder, authority: Authority) -> None:
    error = folder.refused("time", "require_timestamp = true", trust=believing(required=True))
    assert "certificate.tsr" in str(error)
    assert verify(folder.bundle, trust=believing(), now=NOW).stamped is None
    stamp(folder)
    assert verify(folder.bundle, trust=believing(required=True), now=NOW).stamped == authority.when


def test_a_stamp_that_does_not_hold_is_refused_even_where_none_is_asked_for(
    folder: Folder, authority: Authority
) -> None:
    stamp(folder, token=b"other")
    error = folder.refused("time", "time stamp: not valid", trust=believing())
    assert "certificate.tsr" in str(error)
    assert str(error).count("time: ") == 1


def test_a_stamp_shows_that_a_key_was_still_valid(folder: Folder, authority: Authority) -> None:
    ended = believing(not_after=ISSUED + timedelta(hours=1))
    folder.refused("time", "was valid until", trust=ended)
    stamp(folder)
    assert verify(folder.bundle, trust=ended, now=NOW).stamped == authority.when


@pytest.mark.parametrize(
    ("when", "changes", "message"),
    [
        (NOW + timedelta(days=1, seconds=1), {}, "which is after now"),
        (ISSUED - timedelta(days=1, seconds=1), {}, "before the certificate was issued"),
        (ISSUED + timedelta(hours=2), {"not_after": ISSUED + timedelta(hours=1)}, "was valid from"),
        (ISSUED - timedelta(hours=2), {"not_before": ISSUED - timedelta(hours=1)}, "was valid from"),
    ],
)
def test_a_stamp_that_contradicts_the_certificate_or_its_key_is_refused(
    folder: Folder, authority: Authority, when: datetime, changes: dict[str, Any], message: str
) -> None:
    stamp(folder)
    authority.when = when
    folder.refused("time", message, trust=believing(**changes))


def test_a_stamp_does_not_stretch_the_life_of_a_certificate(folder: Folder, authority: Authority) -> None:
    stamp(folder)
    late = NOW + timedelta(days=90)
    folder.refused("time", "expired", trust=believing(), now=late)
    trust = replace(believing(), max_age_days=1)
    folder.refused("time", "max_age_days = 1", trust=trust, now=NOW + timedelta(days=1))


def test_a_countersigner_is_held_against_the_clock(folder: Folder, authority: Authority) -> None:
    envelope = folder.path / "certificate.dsse.json"
    partner = trusted(CONTROLLER, roles=("controller",))
    countersign(folder.bundle, CONTROLLER, out=envelope, trust=trusting(partner), now=NOW)
    stamp(folder)
    for changes, message in (
        ({"not_after": NOW - timedelta(hours=1)}, "was valid until"),
        ({"not_before": NOW + timedelta(hours=1)}, "becomes valid on"),
    ):
        ended = trusted(CONTROLLER, roles=("controller",), **changes)
        folder.refused("time", message, file=envelope, trust=believing(ended))
    # A controller's key may be younger than the audit that it stands under.
    young = trusted(CONTROLLER, roles=("controller",), not_before=NOW - timedelta(minutes=1))
    verify(envelope, trust=believing(young), now=NOW)


def test_the_real_module_is_asked_in_this_way() -> None:
    from cu_certificates.timestamp import verify_token

    assert list(inspect.signature(verify_token).parameters) == ["token", "signature", "roots"]
