"""Each example runs as its own files say: the indented commands at the top of its cu-cert.toml."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SLOW

from cu_certificates.check.main import check_file

EXAMPLES = Path(__file__).parent.parent / "examples"
COMMAND = re.compile(r"^#     (\S.*)$", re.MULTILINE)


def commands(folder: Path) -> list[str]:
    """Return the commands in the comment that opens a project file."""
    opening = (folder / "cu-cert.toml").read_text(encoding="utf-8").partition("\nschema")[0]
    return COMMAND.findall(opening)


def test_there_is_an_example_and_nothing_that_is_none() -> None:
    folders = [path for path in EXAMPLES.iterdir() if path.is_dir()]
    assert folders
    assert all(commands(folder) for folder in folders)


@pytest.mark.slow
@pytest.mark.parametrize("name", [path.name for path in sorted(EXAMPLES.iterdir()) if path.is_dir()])
def test_an_example_runs_as_its_files_say(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__", ".cu-cert"))
    if not SLOW:  # the same commands on models that are trained for a shorter time
        text = (folder / "cu-cert.toml").read_text(encoding="utf-8")
        text, count = re.subn(r"^epochs = \d+$", "epochs = 3", text, flags=re.MULTILINE)
        assert count == 1
        (folder / "cu-cert.toml").write_text(text, encoding="utf-8")
    environment = os.environ | {
        "CU_CERT_CONFIG": str(tmp_path / "config"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    asked = commands(folder)
    assert asked[-1].startswith("cu-cert audit ")
    for command in asked:
        found = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert found.returncode == 0, f"{command}\n{found.stdout}\n{found.stderr}"
        assert "Traceback" not in found.stderr
        assert "Warning" not in found.stderr
    result = check_file(folder / "audit-out" / "certificate.sigstore.json")
    assert result.rejected == ()
    assert result.missing == ()
    assert result.stated == result.derived
    recipe = result.predicate["scope"]["recipe"]
    assert recipe["name"] == "python:train_code:Recipe"
    assert json.loads((folder / "out.pt.json").read_text())["recipe_digest"] == recipe["digest"]["sha256"]
