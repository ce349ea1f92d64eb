"""docs/verify.md, run from top to bottom in a folder that holds what an issuer hands over."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_certificate import tiny_certificate

from cu_certificates.keys import fingerprint, load_public_key

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "verify.md"
FENCE = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOOLS = ("openssl", "ssh-keygen", "sha256sum", "base64", "cmp")


@dataclass(frozen=True)
class Handed:
    """What the issuer handed over, and what each block of the page printed there, by its first line."""

    folder: Path
    said: dict[str, "subprocess.CompletedProcess[str]"]

    def of(self, start: str) -> "subprocess.CompletedProcess[str]":
        (found,) = [done for line, done in self.said.items() if line.startswith(start)]
        return found


def hand_over(factory: pytest.TempPathFactory, folder: Path) -> None:
    tiny = tiny_certificate(factory)
    shutil.copytree(tiny.bundle.parent, folder, ignore=shutil.ignore_patterns("private"))
    shutil.copy(tiny.model, folder / "model.pt")
    shutil.copy(tiny.folder / "keys" / "audit.pub.pem", folder)
    shutil.copytree(ROOT / "certificates" / "cu_certificates" / "check", folder / "check")


def shell(command: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CU_CERT_", "PYTHON"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=kept | {"PATH": path, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def handed(tmp_path_factory: pytest.TempPathFactory) -> Handed:
    if absent := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"the page needs {', '.join(absent)}, which this machine lacks")
    folder = tmp_path_factory.mktemp("handed") / "over"
    hand_over(tmp_path_factory, folder)
    said = {}
    for kind, name, body in FENCE.findall(PAGE.read_text("utf-8")):
        if kind == "python":
            (folder / name).write_text(body)
            body = f"python {name}\n"
        if kind in ("sh", "python"):
            done = shell(body, folder)
            assert done.returncode == 0, f"{body}\n{done.stdout}{done.stderr}"
            said[body.splitlines()[0]] = done
    return Handed(folder, said)


def test_three_ways_to_the_fingerprint_agree(handed: Handed) -> None:
    expected = fingerprint(load_public_key(handed.folder / "audit.pub.pem"))
    assert expected in handed.of("ssh-keygen").stdout
    assert handed.of("{ printf").stdout.strip() == expected.removeprefix("SHA256:")
    assert expected in handed.of("cu-cert key trust").stdout


def test_openssl_finds_the_signature_valid_and_the_sums_are_the_signed_ones(handed: Handed) -> None:
    assert "Verified OK" in handed.of('sed -n \'s/.*"payload"').stdout
    subject, model, page = handed.of("grep -o").stdout.splitlines()
    assert model.split()[0] in subject
    assert page.split()[0] in subject
    assert handed.of("sed -n 's/^<script").stdout == "the report carries this certificate\n"


def test_every_file_of_evidence_is_named(handed: Handed) -> None:
    lines = handed.of("for file in").stdout.splitlines()
    files = ["plan.json", *sorted(f"evidence/{path.name}" for path in (handed.folder / "evidence").iterdir())]
    assert sorted(lines) == sorted(f"named       {file}" for file in files)


def test_the_copied_checker_and_verify_come_to_the_same_verdict(handed: Handed) -> None:
    copied = handed.of("python3 -S -m check").stdout
    assert copied.startswith("No signature was checked")
    verdict = re.search(r"verdict derived from the claims: (\w+); stated: \1$", copied, re.MULTILINE)
    assert verdict is not None
    assert handed.of("cu-cert key trust").stdout.splitlines()[-1].startswith(f"{verdict[1]}: signature valid")


def test_securesystemslib_agrees(handed: Handed) -> None:
    assert handed.of("python verify_with").stdout == "signature valid\n"


# Each file that an issuer hands over, altered: the block of the page that must notice, and what it then says.
ALTERED = {
    "certificate.sigstore.json": ('sed -n \'s/.*"payload"', "Verification failure"),
    "model.pt": ("grep -o", None),
    "report.html": ("grep -o", None),
    "plan.json": ("for file in", "NOT NAMED   plan.json"),
    "evidence/slots.jsonl": ("for file in", "NOT NAMED   evidence/slots.jsonl"),
}


@pytest.mark.parametrize("name", ALTERED)
def test_by_openssl_and_sums_alone_an_altered_file_shows(
    handed: Handed, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "altered"
    hand_over(tmp_path_factory, folder)
    path = folder / name
    data = path.read_bytes()
    if name == "certificate.sigstore.json":
        # One letter of the payload; its base64 stays well-formed.
        at = data.index(b'"payload":"') + 500
        data = data[:at] + (b"A" if data[at : at + 1] != b"A" else b"B") + data[at + 1 :]
    else:
        data = data.replace(b"</h1>", b" </h1>") if name == "report.html" else data + b"\n"
    path.write_bytes(data)
    start, said = ALTERED[name]
    blocks = [body for kind, _, body in FENCE.findall(PAGE.read_text("utf-8")) if kind == "sh"]
    first = next(body for body in blocks if body.startswith('sed -n \'s/.*"payload"'))
    done = shell(first, folder)
    if name == "certificate.sigstore.json":
        assert done.returncode != 0
        assert said is not None
        assert said in done.stdout + done.stderr
        return
    done = shell(next(body for body in blocks if body.startswith(start)), folder)
    if said is not None:
        assert said in done.stdout
        return
    subject, *sums = done.stdout.splitlines()
    assert sum(line.split()[0] not in subject for line in sums) == 1


def test_with_cosign_itself_where_it_is_at_hand(handed: Handed) -> None:
    if shutil.which("cosign") is None:
        pytest.skip("cosign is not installed; securesystemslib and sigstore's verifier for node stand in for it")
    (command,) = [body for kind, _, body in FENCE.findall(PAGE.read_text("utf-8")) if body.startswith("cosign")]
    done = shell(command, handed.folder)
    assert done.returncode == 0, done.stderr
