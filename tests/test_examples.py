"""Each example runs as its own files say: the indented commands at the top of its project or plan file."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import SLOW

from cu_certificates.check.main import CheckResult, check_file

EXAMPLES = Path(__file__).parent.parent / "examples"
COMMAND = re.compile(r"^#     (\S.*)$", re.MULTILINE)
NAMES = [path.name for path in sorted(EXAMPLES.iterdir()) if path.is_dir()]
HANDED_IN = ["scores_from_a_plain_loop", "scores_from_sklearn"]

# What trains for a shorter time, so that a test does not wait: file, line, and what stands there instead.
SHORTER = {
    "own_training": ("cu-cert.toml", r"^epochs = \d+$", "epochs = 3"),
    "scores_from_a_plain_loop": ("make_scores.py", r"^EPOCHS = \d+$", "EPOCHS = 15"),
    "scores_from_sklearn": ("forests.py", r"^TREES = \d+$", "TREES = 8"),
}


def commands(folder: Path) -> list[str]:
    """Return the commands in the comment that opens a project or plan file."""
    file = folder / "cu-cert.toml"
    file = file if file.exists() else folder / "plan.toml"
    return COMMAND.findall(file.read_text(encoding="utf-8").partition("\nschema")[0])


def walk(name: str, folder: Path) -> list[Path]:
    """Run an example in a copy of its folder; returns its certificates."""
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("__pycache__", ".cu-cert"))
    if not SLOW:
        file, line, shorter = SHORTER[name]
        text, count = re.subn(line, shorter, (folder / file).read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert count == 1
        (folder / file).write_text(text, encoding="utf-8")
    environment = os.environ | {
        "CU_CERT_CONFIG": str(folder.parent / "config"),
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
    return sorted(folder.glob("audit-out*/certificate.sigstore.json"))


def sound(certificate: Path) -> CheckResult:
    result = check_file(certificate)
    assert result.rejected == ()
    assert result.missing == ()
    assert result.stated == result.derived
    return result


def test_there_are_examples_and_nothing_that_is_none() -> None:
    assert sorted(SHORTER) == NAMES
    assert set(HANDED_IN) < set(NAMES)
    assert all(commands(EXAMPLES / name) for name in NAMES)


@pytest.mark.slow
def test_own_training_runs_as_its_files_say(tmp_path: Path) -> None:
    folder = tmp_path / "own_training"
    (certificate,) = walk("own_training", folder)
    recipe = sound(certificate).predicate["scope"]["recipe"]
    assert recipe["name"] == "python:train_code:Recipe"
    assert json.loads((folder / "out.pt.json").read_text())["recipe_digest"] == recipe["digest"]["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("name", HANDED_IN)
def test_scores_from_elsewhere_run_as_their_files_say(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    certificates = walk(name, folder)
    by_coins, *after_the_fact = (sound(certificate).predicate for certificate in certificates)
    assert len(after_the_fact) == (name == "scores_from_a_plain_loop")
    assert by_coins["limitations"][0] == "L16"
    handed_out = hashlib.sha256((folder / "plan-out" / "plan.json").read_bytes()).hexdigest()
    assert by_coins["plan"]["digest"]["sha256"] == handed_out
    for found in after_the_fact:
        assert found["limitations"][0] == "L15"  # the plan was made after the fact, and that is said first
        assert found["plan"]["attacks"] == ["eps-lower"]
    if not SLOW:
        return  # cut short as they are, the audits may well miss what the methods leave
    # The methods leave the request half where it was; a control fails once in a hundred audits.
    assert {found["verdict"]["value"] for found in (by_coins, *after_the_fact)} <= {"REFUTED", "INCONCLUSIVE"}
