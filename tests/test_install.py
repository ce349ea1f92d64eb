"""Installing: the archives hold what they should; reading a certificate works without torch and numpy.

The environments are made outside the repository, so nothing of the working tree can help. They need a package index.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import SLOW
from drafts import write_draft
from packaging.requirements import Requirement
from packaging.version import Version
from tiny_certificate import Tiny, tiny_certificate

ROOT = Path(__file__).parent.parent
READER = ("cryptography", "jinja2", "typer")
OFFLINE = re.compile(r"Could not find a version|No matching distribution|NewConnectionError|Temporary failure in name")


def run(*command: str | Path, folder: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a program with nothing of this process's Python settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CU_CERT_", "PYTHON", "VIRTUAL_"))}
    found = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=kept | {"CU_CERT_CONFIG": str(folder / "config")},
        capture_output=True,
        text=True,
        timeout=1800,
    )
    assert found.returncode == expect, f"{command} gave {found.returncode}\n{found.stdout}\n{found.stderr}"
    assert "Traceback" not in found.stderr
    return found


def environment(folder: Path) -> Path:
    """Make an empty virtual environment; returns its folder of programs."""
    venv.create(folder, with_pip=False, symlinks=True)
    return folder / "bin"


def install(programs: Path, *what: str | Path) -> None:
    """Install into an environment with this one's pip; without an index the test is skipped."""
    found = subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--quiet", *map(str, what)],
        cwd=programs,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if found.returncode and OFFLINE.search(found.stderr):
        pytest.skip(f"no package index offers {what}")
    assert found.returncode == 0, found.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, folder=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def reader(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment as a reader of certificates has it."""
    programs = environment(tmp_path_factory.mktemp("reader") / "venv")
    install(programs, "--no-deps", wheel)
    install(programs, *READER)
    return programs


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return tiny_certificate(tmp_path_factory)


@pytest.fixture
def project(tiny: Tiny, tmp_path: Path) -> Tiny:
    shutil.copytree(tiny.folder, tmp_path / "project", ignore=shutil.ignore_patterns(".cu-cert"))
    return Tiny(tmp_path / "project")


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    packages = {"cu_cert", "cu_attacks", "cu_certificates", "cu_templates"}
    assert tops == packages | {f"cu_cert-{version}.dist-info"}
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert {Path(name).suffix for name in names if name.split("/")[0] in packages} == {
        ".py",
        ".typed",
        ".j2",
        ".css",
        ".toml",
    }
    tree = {"cu_cert": ROOT, "cu_attacks": ROOT / "attacks", "cu_certificates": ROOT / "certificates"}
    for package, above in tree.items():
        here = {path.relative_to(above).as_posix() for path in (above / package).rglob("*.py")}
        assert here == {name for name in names if name.startswith(f"{package}/") and name.endswith(".py")}


def test_the_source_archive_holds_no_data_from_outside(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        members = archive.getmembers()
    assert all(member.isfile() or member.isdir() for member in members)
    names = [Path(*Path(member.name).parts[1:]) for member in members if member.isfile()]
    assert {name.parts[0] for name in names} >= {"cu_cert", "attacks", "certificates", "templates", "tests", "docs"}
    # What a run leaves behind, and what only a data set, a model or a key looks like.
    runs = {".cu-cert", ".venv", ".git", "audit-out", "demo-out", "private", "__pycache__"}
    assert [name for name in names if runs & set(name.parts)] == []
    data = {".pt", ".npz", ".npy", ".csv", ".parquet", ".pem", ".jsonl", ".gz", ".zip", ".data", ".png", ".pdf"}
    assert [name for name in names if name.suffix in data] == []
    assert max(member.size for member in members) < 200_000
    for name in names:
        if name != Path("PKG-INFO"):  # made by the build
            assert (ROOT / name).is_file(), name


def test_a_reader_has_neither_torch_nor_numpy(reader: Path, tmp_path: Path) -> None:
    for name in ("torch", "numpy", "scipy", "sklearn", "statsmodels", "opacus"):
        found = subprocess.run(
            [reader / "python", "-c", f"import {name}"], cwd=tmp_path, capture_output=True, text=True
        )
        assert "ModuleNotFoundError" in found.stderr


def test_a_reader_can_verify_check_gate_and_report(reader: Path, project: Tiny, tmp_path: Path) -> None:
    cu_cert = reader / "cu-cert"
    trust, model = ("--trust", project.trust), ("--model", project.model)
    verified = run(cu_cert, "verify", project.report, *trust, *model, folder=tmp_path)
    assert "is the audited model" in verified.stdout
    verdict = verified.stdout.splitlines()[-1].partition(":")[0]
    assert verdict in ("REFUTED", "NOT_REFUTED", "INCONCLUSIVE")
    for program in ((cu_cert, "check"), (reader / "cu-cert-check",)):
        checked = run(*program, project.bundle, folder=tmp_path)
        assert f"stated: {verdict}" in checked.stdout
    code = {"REFUTED": 1, "NOT_REFUTED": 0, "INCONCLUSIVE": 3}[verdict]
    gated = run(
        cu_cert, "gate", project.bundle, "--policy", project.policy, *trust, *model, folder=tmp_path, expect=code
    )
    assert "Checks: signature ok" in gated.stdout
    run(cu_cert, "report", project.bundle, *trust, "-o", tmp_path / "again.html", folder=tmp_path)
    assert (tmp_path / "again.html").read_bytes() == project.report.read_bytes()


def test_a_reader_can_ask_for_help_and_make_keys(reader: Path, tmp_path: Path) -> None:
    run(reader / "cu-cert", "--help", folder=tmp_path)
    run(reader / "cu-cert", "methods", folder=tmp_path)
    run(reader / "cu-cert", "init", folder=tmp_path)
    run(reader / "cu-cert", "key", "generate", "k.pem", folder=tmp_path)
    run(reader / "cu-cert", "key", "trust", "k.pub.pem", "-o", "trust.toml", folder=tmp_path)


def test_a_reader_can_sign_a_draft_and_keep_a_log(reader: Path, tmp_path: Path) -> None:
    write_draft(tmp_path / "out")
    run(reader / "cu-cert", "key", "generate", "k.pem", folder=tmp_path)
    signed = run(reader / "cu-cert", "sign", "out/certificate.draft.json", "--key", "k.pem", folder=tmp_path)
    assert signed.stdout.splitlines()[-1].startswith("verdict ")
    (tmp_path / "log.jsonl").write_bytes(b"")
    run(reader / "cu-cert", "log", "add", "out/report.html", "--log", "log.jsonl", folder=tmp_path)
    run(reader / "cu-cert", "log", "verify", "out/report.html", "--log", "log.jsonl", folder=tmp_path)
    asked = run(reader / "cu-cert", "sign", "out/plan.json", "--tsq", "q.tsq", folder=tmp_path, expect=2)
    assert "pip install 'cu-cert[timestamp]'" in asked.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "-o", "new.pt"),
        ("unlearn", "model.pt", "--forget", "ids.txt", "--method", "npo", "-o", "new.pt"),
        ("audit", "unlearned.pt", "--forget", "ids.txt"),
        ("demo",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_verb_that_needs_more_names_the_install_line(arguments: tuple[str, ...], reader: Path, project: Tiny) -> None:
    found = run(reader / "cu-cert", *arguments, folder=project.folder, expect=2)
    assert found.stdout == ""
    assert re.match(
        r"cu-cert: this verb needs (numpy|torch), which is not installed; install the whole with\n", found.stderr
    )
    assert "\n    pip install cu-cert\n" in found.stderr
    assert not (project.folder / "new.pt").exists()
    assert not (project.folder / "demo-out").exists()


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.partition("==") for line in lines if line and not line.startswith("#")]
    assert all(equals for _, equals, _ in pairs)
    return {name: version for name, _, version in pairs}


def test_the_constraints_fit_the_requirements() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]
    pinned = constraints()
    for requirement in wanted:
        if requirement.name in pinned:
            assert requirement.specifier.contains(Version(pinned[requirement.name])), requirement
    # Another build of these gives other bits, or another page to sign.
    assert {"torch", "numpy", "scipy", "statsmodels", "scikit-learn", "opacus", "jinja2", "cryptography"} <= set(pinned)


@pytest.mark.slow
@pytest.mark.skipif(not SLOW, reason="downloads torch and runs the demo; CU_CERT_SLOW=1 runs it")
def test_the_whole_installed_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    programs = environment(tmp_path / "venv")
    install(programs, "--constraint", ROOT / "constraints.txt", wheel)
    done = run(programs / "cu-cert", "demo", "--out", tmp_path / "demo", folder=tmp_path)
    for subject in ("untouched", "approximate", "retrained"):
        assert (tmp_path / "demo" / subject / "report.html").is_file()
        assert subject in done.stdout
