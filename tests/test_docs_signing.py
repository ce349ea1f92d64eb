"""docs/signing.md, run from top to bottom in a project; the authority that it speaks of is ``openssl ts``."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from authority import make_authority, served
from small_project import SMALLEST, fix_secrets, write_project

from cu_cert.cli.main import run

PAGE = Path(__file__).parent.parent / "docs" / "signing.md"
FENCE = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANY = "…"


def shell(command: str, folder: Path) -> str:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CU_CERT_", "PYTHON"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=kept | {"PATH": path, "HOME": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def here(body: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run lines of ``cu-cert`` in this process, which has loaded torch already."""
    capsys.readouterr()
    for line in body.splitlines():
        code = run(shlex.split(line)[1:])
        assert code == 0, f"{line}\n{capsys.readouterr()}"
    return capsys.readouterr().out


def shown(expected: str, said: str) -> bool:
    pattern = r"\n".join(
        "(?:.*\n)*?.*" if line == ANY else ".*".join(map(re.escape, line.split(ANY))) for line in expected.splitlines()
    )
    return re.search(pattern, said) is not None


def test_the_page_runs_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rfc3161_client", reason="the extra timestamp is not installed")
    if absent := [tool for tool in ("openssl", "bash", "sed", "base64") if shutil.which(tool) is None]:
        pytest.skip(f"the page needs {', '.join(absent)}, which this machine lacks")
    folder = write_project(tmp_path / "project", **SMALLEST)
    fix_secrets(folder, "signing page")
    monkeypatch.chdir(folder)
    assert run(["train", "-o", "model.pt"]) == 0
    authority = make_authority(tmp_path / "authority")
    shutil.copy(authority.root, folder / "tsa-root.pem")
    said, ran = "", 0
    for kind, name, body in FENCE.findall(PAGE.read_text("utf-8")):
        if kind == "toml":
            (folder / name).write_text((folder / name).read_text() + "\n" + body)
        elif kind == "sh":
            if "answer.tsr" in body:
                (folder / "answer.tsr").write_bytes(authority.answer((folder / "certificate.tsq").read_bytes()))
            with served(authority) as url:
                command = body.replace("https://tsa.example/", url)
                ours = all(line.startswith("cu-cert ") for line in command.splitlines())
                said = here(command, capsys) if ours else shell(command, folder)
            ran += 1
        elif kind == "text" and ANY in body:
            assert shown(body, said), f"{body}\nis not in\n{said}"
    assert ran == 12
    assert (folder / "audit-out" / "plan.tsr").exists()
    assert (folder / "audit-out" / "certificate.tsr").exists()
