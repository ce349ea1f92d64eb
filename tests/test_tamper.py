"""A finished certificate against every change: one flipped bit, a missing file, an unknown key. All by the CLI."""

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from small_project import Finished, environment, files_below, finished_audit

from cu_cert.cli.main import run
from cu_certificates.check import main as checker
from cu_certificates.keys import generate_key, public_path_of
from cu_certificates.trust import write_trust

STEPS = ("carrier", "trust", "signature", "time", "report", "subject", "evidence", "claims", "verdict")
EVIDENCE = ("plan.json", *(f"evidence/{name}.jsonl" for name in ("slots", "artifact", "pilots", "utility")))
FLIPS = 12


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    return finished_audit(tmp_path_factory.getbasetemp())


@pytest.fixture
def done(original: Finished, tmp_path: Path) -> Finished:
    return received(original, tmp_path)


def received(original: Finished, tmp_path: Path) -> Finished:
    """Copy what a reader gets: never ``private/``."""
    out = Path(shutil.copytree(original.out, tmp_path / "received", ignore=shutil.ignore_patterns("private")))
    model = Path(shutil.copyfile(original.model, tmp_path / "model.pt"))
    return replace(original, out=out, model=model)


def verify(done: Finished, *options: str, carrier: str = "certificate.sigstore.json") -> int:
    return run(["verify", str(done.out / carrier), "--trust", str(done.trust), *options])


def gate(done: Finished, folder: Path) -> int:
    policy, file = folder / "policy.toml", done.out / "certificate.sigstore.json"
    policy.write_text('schema = 1\n[policy.require]\nverdict = ["NOT_REFUTED"]\n')
    return run(["gate", str(file), "--policy", str(policy), "--trust", str(done.trust), "--model", str(done.model)])


def flip(path: Path, place: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(bytes(data))


def test_the_untouched_certificate_verifies_in_both_carriers(
    done: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    for carrier in ("certificate.sigstore.json", "report.html"):
        assert verify(done, "--model", str(done.model), carrier=carrier) == 0
        said = capsys.readouterr().out
        assert said.splitlines()[-1].startswith("REFUTED: signature valid; claims re-derived; assumed: A1")
        assert "no model file compared" not in said
    assert verify(done) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("no model file compared")


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("certificate.sigstore.json", ("carrier", "trust", "signature")),
        ("report.html", ("carrier", "trust", "signature", "report")),
        ("model.pt", ("subject",)),
        *((name, ("evidence",)) for name in EVIDENCE),
    ],
)
def test_one_flipped_bit_is_refused_and_the_step_is_named(
    done: Finished, capsys: pytest.CaptureFixture[str], name: str, steps: tuple[str, ...]
) -> None:
    path = done.model if name == "model.pt" else done.out / name
    whole, draw = path.read_bytes(), random.Random(f"flip {name}")
    places = {0, len(whole) - 1, *(draw.randrange(len(whole)) for _ in range(FLIPS))}
    for place in sorted(places):
        flip(path, place, draw.randrange(8))
        carrier = name if name == "report.html" else "certificate.sigstore.json"
        assert verify(done, "--model", str(done.model), carrier=carrier) == 4, place
        said = capsys.readouterr()
        step = said.err.removeprefix("cu-cert: ").split(":")[0]
        assert step in STEPS
        assert step in steps
        assert len(said.err.splitlines()) == 1
        path.write_bytes(whole)
    assert verify(done, "--model", str(done.model)) == 0


def test_every_bit_of_a_byte_of_the_signature_counts(done: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    path = done.out / "certificate.sigstore.json"
    whole = path.read_bytes()
    start = whole.index(b'"sig":') + len(b'"sig":"')
    for place in (start, start + 40, whole.index(b'"}', start) - 1):
        for bit in range(8):
            flip(path, place, bit)
            assert verify(done) == 4
            path.write_bytes(whole)
    assert verify(done) == 0
    assert capsys.readouterr().err.count("cu-cert: ") == 24


@pytest.mark.parametrize("name", EVIDENCE)
def test_a_missing_evidence_file_stops_the_reader(
    done: Finished, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    (done.out / name).unlink()
    assert verify(done) == 4
    said = capsys.readouterr().err
    assert said.startswith(f"cu-cert: evidence: '{name}' is absent from ")
    assert "use --without-evidence" in said
    # What the signer refuted stays refuted, whoever deletes the evidence.
    assert gate(done, tmp_path) == 1
    assert f"{name} is not at hand" in capsys.readouterr().out
    assert verify(done, "--without-evidence") == 0
    assert "stated verdict REFUTED not re-derived" in capsys.readouterr().out


@pytest.mark.parametrize("name", EVIDENCE)
def test_a_missing_evidence_file_leaves_the_gate_undecided(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    done = received(finished_audit(tmp_path_factory.getbasetemp(), verdict="NOT_REFUTED"), tmp_path)
    assert gate(done, tmp_path) == 0
    (done.out / name).unlink()
    assert verify(done) == 4
    capsys.readouterr()
    assert gate(done, tmp_path) == 3
    assert f"{name} is not at hand" in capsys.readouterr().out


def test_altered_evidence_is_refused_even_where_missing_evidence_is_not(done: Finished) -> None:
    flip(done.out / "evidence" / "slots.jsonl", 100, 0)
    assert verify(done, "--without-evidence") == 4


def test_a_key_that_the_reader_does_not_trust_is_named(
    done: Finished, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    generate_key(other, passphrase=None)
    stranger = tmp_path / "stranger.toml"
    write_trust(stranger, public_path_of(other), not_before=datetime.now(UTC) - timedelta(days=1))
    bundle = json.loads((done.out / "certificate.sigstore.json").read_bytes())
    fingerprint = bundle["verificationMaterial"]["publicKey"]["hint"]
    assert fingerprint.startswith("SHA256:")
    assert verify(replace(done, trust=stranger)) == 4
    said = capsys.readouterr()
    assert said.err.startswith(f"cu-cert: trust: the file names key '{fingerprint}'")
    assert "signature" not in said.out


def test_the_report_is_drawn_again_byte_for_byte(done: Finished, tmp_path: Path) -> None:
    before = (done.out / "report.html").read_bytes()
    for carrier in ("certificate.sigstore.json", "report.html"):
        again = tmp_path / f"again-{carrier}.html"
        assert run(["report", str(done.out / carrier), "--trust", str(done.trust), "-o", str(again)]) == 0
        assert again.read_bytes() == before
    unverified = tmp_path / "unverified.html"
    assert run(["report", str(done.out / "certificate.sigstore.json"), "-o", str(unverified)]) == 0
    assert unverified.read_bytes() != before


def test_check_says_that_it_checks_no_signature_and_every_way_to_it_agrees(
    done: Finished, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = str(done.out / "certificate.sigstore.json")
    assert run(["check", path]) == 0
    first = capsys.readouterr().out
    assert first.startswith("No signature was checked: ")
    assert first.endswith("verdict derived from the claims: REFUTED; stated: REFUTED\n")
    assert checker.main([path]) == 0
    assert capsys.readouterr().out == first
    alone = [sys.executable, "-m", "cu_certificates.check.main", path]
    shown = subprocess.run(alone, env=environment(tmp_path), capture_output=True, text=True, check=True)
    assert (shown.stdout, shown.stderr) == (first, "")
    assert run(["check", str(done.out / "report.html"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["signatureChecked"] is False
    assert (found["accepted"], found["derived"], found["missing"]) == (True, "REFUTED", [])


@pytest.mark.parametrize("change", ["flip", "delete"])
def test_check_refuses_what_does_not_follow(done: Finished, capsys: pytest.CaptureFixture[str], change: str) -> None:
    victim = done.out / "evidence" / "artifact.jsonl"
    if change == "flip":
        flip(victim, 200, 1)
    else:
        victim.unlink()
    path = str(done.out / "certificate.sigstore.json")
    assert run(["check", path]) == checker.main([path]) == 4
    assert capsys.readouterr().out.startswith("No signature was checked: ")


def test_nothing_that_reads_writes(done: Finished, tmp_path: Path) -> None:
    before = files_below(done.out)
    verify(done)
    run(["check", str(done.out / "report.html")])
    gate(done, tmp_path)
    assert files_below(done.out) == before
