"""What cu-cert.toml says of people, dates and scope: repeated in the certificate, without weight in plan or verdict."""

import json
import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_project import SMALLEST, fix_secrets, predicate_of, write_project

from cu_cert._signing import SigningConfig, day
from cu_cert._tables import UnlearningConfig
from cu_cert.cli.main import run
from cu_cert.data._ids import read_ids
from cu_cert.errors import ConfigError, DataError
from cu_cert.project import load_project

SIGNING = """
[signing]
name = "Model audit office"
independence = "external"
language = "de"
controller = "Example Ltd"
controller_contact = "privacy@example.org"
responsible = "A. Person"
responsible_role = "head of model governance"
responsible_text = "The request was carried out as described here."
deployments = ["support chat, EU"]
derivatives = ["chat-small"]
excluded = ["search index"]
evidence_retained_until = 2036-12-31
evidence_access = "on request"
dpia = "DPIA 7"
dpo_advice = "file 3"
reaudit = "yearly"
suppression = "list before each import"
revocation_contact = "security@example.org"
[unlearning]
regimes = ["GDPR-17", "CCPA-1798.105"]
received = 2026-10-01
executed = "2026-10-20"
due = "2026-11-01"
"""


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes, bytes, str]:
    """The predicate with all descriptions, and the plans and the seeds' commitment with and without them."""
    folder = write_project(tmp_path_factory.mktemp("described") / "project", **SMALLEST)
    fix_secrets(folder, "described")
    settings = (folder / "cu-cert.toml").read_text()
    plans = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CU_CERT_CONFIG", str(folder.parent / "config"))
        patch.chdir(folder)
        assert run(["train", "-o", "model.pt"]) == 0
        for more in ("", SIGNING):
            (folder / "cu-cert.toml").write_text(settings + more)
            assert run(["audit", "model.pt", "--forget", "ids.txt", "--procedure", "none"]) == 0
            plans.append((folder / "audit-out" / "plan.json").read_bytes())
    kept = json.loads((folder / "audit-out" / "private" / "request.json").read_text())
    return predicate_of(folder / "audit-out"), plans[0], plans[1], kept["auditSeed"]


def test_every_description_arrives(audited: tuple[dict[str, Any], bytes, bytes, str]) -> None:
    predicate = audited[0]
    assert predicate["auditor"]["name"] == "Model audit office"
    assert predicate["auditor"]["independence"] == "external"
    assert predicate["language"] == "de"
    assert predicate["controller"] == {"name": "Example Ltd", "contact": "privacy@example.org"}
    assert predicate["affirmation"] == {
        "name": "A. Person",
        "role": "head of model governance",
        "text": "The request was carried out as described here.",
    }
    assert predicate["governance"] == {
        "evidenceRetainedUntil": "2036-12-31",
        "evidenceAccess": "on request",
        "dpia": "DPIA 7",
        "dpoAdvice": "file 3",
        "reaudit": "yearly",
        "suppression": "list before each import",
        "revocationContact": "security@example.org",
    }
    assert predicate["scope"]["deployments"] == ["support chat, EU"]
    assert predicate["scope"]["derivatives"] == ["chat-small"]
    assert predicate["scope"]["excluded"][0] == "backups"
    assert predicate["scope"]["excluded"][-1] == "search index"
    asked = {key: predicate["request"][key] for key in ("regimes", "receivedAt", "executedAt", "dueAt")}
    assert asked == {
        "regimes": ["GDPR-17", "CCPA-1798.105"],
        "receivedAt": "2026-10-01",
        "executedAt": "2026-10-20",
        "dueAt": "2026-11-01",
    }


def test_plan_and_seed_do_not_depend_on_descriptions(audited: tuple[dict[str, Any], bytes, bytes, str]) -> None:
    predicate, plain, described, _ = audited
    assert plain == described
    assert not {"controller", "affirmation", "governance", "regimes"} & set(described.decode().split('"'))
    assert predicate["plan"]["seedCommitment"] == json.loads(plain)["seedCommitment"]


def test_what_is_not_given_is_not_said() -> None:
    assert SigningConfig().statements() == {}
    assert SigningConfig().scope() == {}
    assert UnlearningConfig().dates() == {}
    assert SigningConfig(controller="C").statements() == {"controller": {"name": "C"}}
    assert SigningConfig(language="fr").statements() == {"language": "fr"}
    assert UnlearningConfig(due="2026-01-01").dates() == {"dueAt": "2026-01-01"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            '[signing]\nindependence = "yes"',
            r'cu-cert.toml:3: \[signing\] independence = "yes"; expected "internal" or',
        ),
        ('[signing]\nlanguage = "it"', "expected en or de or fr"),
        ('[signing]\nresponsible = "A"', "expected responsible_role beside it"),
        ('[signing]\nresponsible_role = "A"', "expected responsible beside it"),
        ('[signing]\nresponsible_text = "A"', "expected responsible beside it"),
        ('[signing]\ncontroller_contact = "A"', "expected controller beside it"),
        ('[signing]\ncontroller = "a\\nb"', "printable text on one line"),
        ('[signing]\ncontroller = "a\\u202eb"', "printable text on one line"),
        ('[signing]\ndpia = "' + "x" * 1001 + '"', "at most 1000 characters"),
        ('[signing]\nderivatives = ["a", "b\\u0007"]', "printable text on one line"),
        ('[signing]\nevidence_retained_until = "31.12.2036"', 'a date of the calendar such as "2026-11-20"'),
        ('[signing]\nevidence_retained_until = "2026-02-30"', "a date of the calendar"),
        ("[signing]\nevidence_retained_until = 2026-01-01T00:00:00Z", "a date of the calendar"),
        ("[unlearning]\nreceived = 20261001", "a date of the calendar"),
        ('[unlearning]\nreceived = "2026-10-02"\nexecuted = "2026-10-01"', "not before received = 2026-10-02"),
        ('[unlearning]\nreceived = "2026-10-02"\ndue = "2026-10-01"', "not before received = 2026-10-02"),
        ('[unlearning]\nregimes = ["a\\tb"]', "printable text on one line"),
        ('[signing]\ncontroler = "A"', "unknown key"),
    ],
)
def test_a_wrong_description_is_refused_with_its_line(lines: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "cu-cert.toml").write_text(f"schema = 1\n{lines}\n")
    with pytest.raises(ConfigError, match=message) as refusal:
        load_project(tmp_path / "cu-cert.toml")
    assert str(refusal.value).startswith(f"{tmp_path / 'cu-cert.toml'}:")


@given(st.dates())
def test_any_date_is_read_in_both_spellings(value: date) -> None:
    assert day(value) == day(value.isoformat()) == value.isoformat()


def test_init_shows_each_key_as_a_commented_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["init"]) == 0
    text = (tmp_path / "cu-cert.toml").read_text()
    for key in ("controller", "responsible", "deployments", "evidence_retained_until", "regimes", "received"):
        assert f"\n#{key} = " in text
    for key in ("pad_request = 0", 'independence = "internal"', 'language = "en"'):
        assert f"\n{key}\n" in text


# --- An id of the request in a name is refused before anything is trained -------------------------------------------


@pytest.mark.parametrize(
    ("name", "toml", "out", "where"),
    [
        ("{id}.pt", "", "audit-out", "plan.json would hold the id listed at ids.txt:1, at subjects[0].name"),
        ("model.pt", '[signing]\nname = "for {id}"', "audit-out", "the certificate would hold the id listed at"),
        ("model.pt", '[signing]\nexcluded = ["{ID}"]', "audit-out", "signing.excluded[0]"),
        ("model.pt", '[signing]\ndeployments = ["{hash}"]', "audit-out", "a plain hash of the id listed at ids.txt:1"),
        ("model.pt", "", "case-{id}", "an output would hold the id listed at ids.txt:1, at file name"),
    ],
)  # fmt: skip
def test_an_id_in_a_name_stops_the_audit_before_anything_is_written(
    name: str,
    toml: str,
    out: str,
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from hashlib import sha256

    folder = write_project(tmp_path / "project", **SMALLEST)
    identifier = (folder / "ids.txt").read_text().split()[0]
    words = {"id": identifier, "ID": identifier.upper(), "hash": sha256(identifier.encode()).hexdigest()}
    with (folder / "cu-cert.toml").open("a") as stream:
        stream.write(toml.format(**words))
    (folder / name.format(**words)).write_bytes(b"never looked into")
    monkeypatch.chdir(folder)
    asked = [name.format(**words), "--forget", "ids.txt", "--method", "retrain", "--out", out.format(**words)]
    assert run(["audit", *asked]) == 2
    message = capsys.readouterr().err
    assert "nothing was written, trained or signed" in message
    assert where in message
    assert identifier not in message
    assert not (folder / out.format(**words)).exists()
    assert not (folder / ".cu-cert" / "store").exists()
    assert not (folder / ".cu-cert" / "log.jsonl").exists()


def test_short_ids_are_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np

    folder = write_project(tmp_path / "project", **SMALLEST)
    data = dict(np.load(folder / "data.npz"))
    np.savez(folder / "data.npz", x=data["x"], y=data["y"], ids=np.array([str(number) for number in range(150)]))
    from cu_cert.data import load_records

    train = load_records(load_project(folder / "cu-cert.toml").data, folder).train
    (folder / "ids.txt").write_text("\n".join(train.ids[:12]))
    monkeypatch.chdir(folder)
    assert run(["train", "-o", "model.pt"]) == 0
    assert run(["audit", "model.pt", "--forget", "ids.txt", "--dry-run"]) == 0
    assert "12 of 12 ids are plain words, short or numeric" in capsys.readouterr().out
    assert run(["audit", "model.pt", "--forget", "ids.txt", "--procedure", "none"]) == 0  # counts are no ids
    shutil.copyfile("model.pt", f"{train.ids[0]}.pt")
    capsys.readouterr()
    assert run(["audit", f"{train.ids[0]}.pt", "--forget", "ids.txt", "--procedure", "none"]) == 2
    assert "the id listed at ids.txt:1, at subjects[0].name" in capsys.readouterr().err


# --- Lists of the Delete Request and Opt-out Platform -----------------------------------------------------------------

HASHES = ["q1Zk0mZyQ3s=", "b" * 64]


def drop(tmp_path: Path, text: str) -> Path:
    (tmp_path / "Email.csv").write_text(text)
    return Path(f"drop:{tmp_path / 'Email.csv'}")


def test_a_drop_list_names_its_hashes(tmp_path: Path) -> None:
    found = read_ids(drop(tmp_path, f"ID,Hash\na1B2c3D4e5F6,{HASHES[0]}\nZZZZZZZZZZZZ,{HASHES[1]}\n"))
    assert [(entry.id, entry.line) for entry in found.entries] == [(HASHES[0], 2), (HASHES[1], 3)]
    swapped = read_ids(drop(tmp_path, f"Hash,ID,More\n{HASHES[0]},a1B2c3D4e5F6,x\n"))
    assert swapped.ids == (HASHES[0],)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\nx\n", "Email.csv:1: the header has columns id; expected one column ID and one column Hash"),
        ("ID,Hash,Hash\na1B2c3D4e5F6,x,y\n", "expected one column ID and one column Hash"),
        ("ID,Hash\na1B2c3D4e5F6,\n", "Email.csv:2: no id in this row; expected one in column 2"),
        ("ID,Hash\nshort,x\n", "Email.csv:2: no work item of 12 letters and digits in the column ID"),
        ("Hash,ID\nx\n", "Email.csv:2: no work item"),
        ("ID,Hash\na1B2c3D4e5F6,x\nb1B2c3D4e5F6,x\n", "Email.csv:3: id 'x' stands twice"),
        ("ID,Hash\n", "names no id"),
    ],
)
def test_what_is_no_drop_list(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_ids(drop(tmp_path, text))
    with pytest.raises(DataError, match="cannot be read"):
        read_ids(Path("drop:nowhere.csv"))
