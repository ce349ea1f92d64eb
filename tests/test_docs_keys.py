"""docs/keys.md, run from top to bottom by a signer and a reader in one folder; the trust file that it shows is read."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from signed_folder import MODEL, make_folder, payload_of, predicate

from cu_certificates import keys
from cu_certificates.check.carrier import parse_dsse
from cu_certificates.envelope import sign
from cu_certificates.errors import UntrustedError
from cu_certificates.trust import load_trust
from cu_certificates.verify import verify

PAGE = Path(__file__).parent.parent / "docs" / "keys.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOOLS = ("bash", "openssl", "jq", "base64", "cut")


@dataclass(frozen=True)
class Walk:
    """The folder after the last command, and each block with what became of it."""

    folder: Path
    done: list[tuple[str, "subprocess.CompletedProcess[str]"]]

    def said(self, start: str) -> str:
        (found,) = [done.stdout for block, done in self.done if block.startswith(start)]
        return found


def blocks(kind: str) -> list[str]:
    return [body for found, body in FENCE.findall(PAGE.read_text(encoding="utf-8")) if found == kind]


def issue(folder: Path) -> None:
    """Sign a certificate of today with the key that the page made."""
    today = datetime.now(UTC).replace(microsecond=0)
    content = predicate()
    key = keys.load_private_key(folder / "audit.pem", b"many words")
    content["auditor"]["keyid"] = key.keyid
    content["issuedAt"] = today.strftime("%Y-%m-%dT%H:%M:%SZ")
    content["expiresAt"] = (today + timedelta(days=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    make_folder(folder / "out").write(sign(payload_of(content), key))


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    if absent := [tool for tool in TOOLS if shutil.which(tool) is None]:
        pytest.skip(f"the page needs {', '.join(absent)}, which this machine lacks")
    folder = tmp_path_factory.mktemp("keys")
    (folder / "passphrase.txt").write_text("many words\n")
    (folder / "model.pt").write_bytes(MODEL)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CU_CERT_", "PYTHON"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = kept | {"PATH": path, "HOME": str(folder)}
    done = []
    for block in blocks("sh"):
        if "countersign" in block:
            issue(folder)
        command = ["bash", "-euo", "pipefail", "-c", block]
        found = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        done.append((block, found))
    return Walk(folder, done)


@pytest.mark.parametrize("number", range(len(blocks("sh"))))
def test_every_command_works(walk: Walk, number: int) -> None:
    block, found = walk.done[number]
    assert found.returncode == 0, f"{block}\n{found.stdout}{found.stderr}"


def test_the_commands_do_what_the_page_says(walk: Walk) -> None:
    auditor = keys.fingerprint(keys.load_public_key(walk.folder / "audit.pub.pem"))
    assert "protected by your passphrase" in walk.said("cu-cert key generate audit.pem")
    assert walk.said("cu-cert key show").startswith(auditor)
    told = walk.said("cu-cert countersign")
    assert "INCONCLUSIVE" in told
    assert "2 of different keys over the same bytes, by auditor; controller" in told
    assert len(parse_dsse((walk.folder / "out" / "certificate.dsse.json").read_bytes()).signatures) == 2
    trust = load_trust(walk.folder / "trust.toml")
    assert [key.roles for key in trust.keys] == [("auditor",), ("controller",), ("auditor",), ("auditor",)]
    assert trust.keys[3].keyid == keys.fingerprint(keys.load_public_key(walk.folder / "audit-2028.pub.pem"))
    assert "number 2, 1 entries; nothing was added" in walk.said("cu-cert revoke --certificate")
    assert f"number 3, 2 entries; {auditor} (key-compromise" in walk.said("cu-cert revoke --keyid")
    assert "Verified OK" in walk.said("jq -r .payload")
    assert "Signature Verified Successfully" in walk.said("jq -r '.signatures[1].sig'")


def test_a_reader_who_asks_the_list_believes_neither_certificate_nor_key(walk: Walk) -> None:
    file, path = walk.folder / "out" / "certificate.sigstore.json", walk.folder / "asking.toml"
    now = datetime.now(UTC)
    assert verify(file, trust=load_trust(walk.folder / "trust.toml"), now=now)
    path.write_text((walk.folder / "trust.toml").read_text() + '\n[revocation]\nlist = "revoked.sigstore.json"\n')
    with pytest.raises(UntrustedError, match=r"payload sha256:[0-9a-f]{64} was revoked on .* \(error\)"):
        verify(file, trust=load_trust(path), now=now)


def test_the_trust_file_that_the_page_shows_is_one(walk: Walk) -> None:
    (text,) = blocks("toml")
    keyid = keys.fingerprint(keys.load_public_key(walk.folder / "audit.pub.pem"))
    (walk.folder / "tsa").mkdir(exist_ok=True)
    (walk.folder / "tsa" / "root.pem").write_text("a root certificate")
    shown = walk.folder / "shown.toml"
    shown.write_text(text.replace("SHA256:…", keyid))
    trust = load_trust(shown)
    assert [key.keyid for key in trust.keys] == [keyid]
    assert trust.max_age_days == 90
    assert trust.revocation is not None
    assert (trust.revocation.max_age_days, trust.revocation.min_sequence) == (30, 1)


def test_every_option_that_the_page_names_exists() -> None:
    text = PAGE.read_text(encoding="utf-8")
    sources = "".join((PAGE.parent.parent / "cu_cert" / "cli" / f"{name}.py").read_text() for name in FILES)
    for option in sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - {"--no-deps"}):
        name = option.removeprefix("--").replace("-", "_")
        assert f'"{option}"' in sources or re.search(rf"^ +{name}: Annotated", sources, re.MULTILINE), option


FILES = ("key", "countersign", "revoke", "verify")
