"""What a pipeline installs: the wheel of this tree and the hash-pinned readers' requirements, never torch or numpy."""

import hashlib
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [str(ROOT / name) for name in ("", "attacks", "certificates", "templates")]
REQUIREMENTS = ROOT / "integrations" / "requirements.txt"
OFFLINE = re.compile(r"No matching distribution|Could not find a version|connection|ConnectionError|Temporary failure")


@cache
def wheel_in(base: Path) -> Path:
    """Build the wheel once in a session."""
    folder = base / "gate-wheel"
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def shell(script: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a script as GitHub's and GitLab's runners do, in an environment that holds nothing of this project."""
    own = {
        key: value for key, value in os.environ.items() if not key.startswith(("CU_CERT_", "PYTHON", "GITHUB_", "CI"))
    }
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env=own | environment,
        capture_output=True,
        text=True,
    )


def require_online(found: "subprocess.CompletedProcess[str]") -> None:
    """Skip where no package index can be reached; anything else must have worked."""
    if found.returncode and OFFLINE.search(found.stderr):
        pytest.skip("no package index offers the readers' requirements")
    assert found.returncode == 0, found.stderr


def declared_plugin(folder: Path) -> Path:
    """Declare the pytest plugin as an installed distribution does, whether or not this tree's is installed."""
    declared = folder / "site" / "declared-0.dist-info"
    declared.mkdir(parents=True)
    (declared / "METADATA").write_text("Metadata-Version: 2.1\nName: declared\nVersion: 0\n")
    (declared / "entry_points.txt").write_text("[pytest11]\ncu_cert = cu_cert.pytest_plugin\n")
    return folder / "site"
