"""What is imported when, and by whom: a stranger who only reads a certificate never waits for torch or numpy."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from types import ModuleType

import grimp
import pytest
from tiny_certificate import Tiny, tiny_certificate

import cu_attacks
import cu_cert

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "cu_cert": ROOT / "cu_cert",
    "cu_attacks": ROOT / "attacks" / "cu_attacks",
    "cu_certificates": ROOT / "certificates" / "cu_certificates",
    "cu_templates": ROOT / "templates" / "cu_templates",
}
HEAVY = {"torch", "numpy", "scipy", "sklearn", "statsmodels", "opacus", "pandas", "matplotlib", "cu_attacks"}
CHECK = PACKAGES["cu_certificates"] / "check"

# Runs code, then prints what it imported that a bare interpreter had not.
LIST_MODULES = """
import sys
before = set(sys.modules)
code = 0
{}
print(sorted(set(sys.modules) - before).__repr__().replace("'", '"'), file=sys.stderr)
sys.exit(code)
"""


def imported(code: str, *arguments: str, folder: Path = ROOT, expect: tuple[int, ...] = (0,)) -> set[str]:
    """Run code in a fresh process that ends with one of the expected codes; returns the modules that it imported."""
    found = subprocess.run(
        [sys.executable, "-c", LIST_MODULES.format(code), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(str(path.parent) for path in PACKAGES.values())},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode in expect, found.stdout + found.stderr
    *told, modules = found.stderr.splitlines()
    assert told == [], told
    return set(json.loads(modules))


def imported_by(*arguments: str, folder: Path = ROOT, expect: tuple[int, ...] = (0,)) -> set[str]:
    """Run ``cu-cert`` in a fresh process; returns the modules that it imported."""
    return imported(
        "from cu_cert.cli.main import run\ncode = run(sys.argv[1:])", *arguments, folder=folder, expect=expect
    )


def tops(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.fixture
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return tiny_certificate(tmp_path_factory)


def reading(tiny: Tiny) -> dict[str, tuple[tuple[int, ...], tuple[str, ...]]]:
    """Exit codes and command of each verb that reads; what the gate decides depends on the bits of this machine."""
    report, trust, model = str(tiny.report), str(tiny.trust), str(tiny.model)
    key = str(tiny.folder / "keys" / "audit.pub.pem")
    private = ("--certificate", report, "--private", str(tiny.folder), "--forget", str(tiny.folder / "ids.txt"))
    return {
        "verify": ((0,), ("verify", report, "--trust", trust, "--model", model)),
        "verify --json": ((0,), ("verify", str(tiny.bundle), "--trust", trust, "--json")),
        "check": ((0,), ("check", report)),
        "gate": ((0, 1, 3), ("gate", report, "--policy", str(tiny.policy), "--trust", trust, "--model", model)),
        "report": ((0,), ("report", report, "--trust", trust, "-o", "again.html")),
        "report, unverified": ((0,), ("report", report, "-o", "marked.html")),
        "report --edition": ((0,), ("report", report, "--trust", trust, "--edition", "annex", "-o", "annex")),
        "receipt issue": ((0,), ("receipt", "issue", *private, "--all", "-o", "receipts")),
        "lint privacy": ((0,), ("lint", "privacy", str(tiny.bundle), "--forget", str(tiny.folder / "ids.txt"))),
        "lint wording": ((0,), ("lint", "wording", report)),
        "methods": ((0,), ("methods",)),
        "methods --json": ((0,), ("methods", "--json")),
        "init": ((0,), ("init",)),
        "init --data": ((0,), ("init", "--force", "--data", "data.csv")),
        "key generate": ((0,), ("key", "generate", "k.pem")),
        "key show": ((0,), ("key", "show", key)),
        "key trust": ((0,), ("key", "trust", key, "-o", "t.toml")),
        "revoke": ((0,), ("revoke", "--key", str(tiny.folder / "keys" / "audit.pem"), "--refresh")),
    }


@pytest.mark.parametrize("verb", list(reading(Tiny(Path()))))
def test_reading_needs_no_numerical_library(verb: str, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("id,label,a,b\np1,x,1,u\np2,y,2,v\np3,x,3.5,u\n")
    codes, command = reading(tiny)[verb]
    found = imported_by(*command, folder=tmp_path, expect=codes)
    assert tops(found) & HEAVY == set()
    if verb == "check":
        assert tops(found) & {"cryptography", "jinja2"} == set()


def test_the_audit_does_need_one(tiny: Tiny) -> None:
    assert "numpy" in tops(imported("import cu_cert.protocol"))


READING = (
    "verify",
    "check",
    "gate",
    "report",
    "sign",
    "log",
    "countersign",
    "revoke",
    "methods",
    "key",
    "receipt",
    "lint",
)
VERBS = ("demo", "init", "train", "unlearn", "audit", "drill", "plan", *READING)


@pytest.mark.parametrize("arguments", [("--help",), *((verb, "--help") for verb in VERBS)], ids=" ".join)
def test_help_imports_next_to_nothing(arguments: tuple[str, ...]) -> None:
    found = imported_by(*arguments)
    assert tops(found) & (HEAVY | {"cryptography", "jinja2", "rich", "cu_certificates", "cu_templates"}) == set()
    # About 130, and 240 where typer reads the options of a verb; rich or numpy would bring hundreds more.
    assert len(found) < (200 if arguments == ("--help",) else 350)
    ours = {name for name in found if name.startswith("cu_")}
    assert all(name in ("cu_cert", "cu_cert.cli") or name.startswith("cu_cert.cli.") for name in ours)


@pytest.mark.parametrize("package", ["cu_cert", "cu_certificates", "cu_attacks", "cu_templates"])
def test_a_package_imports_none_of_ours_on_load(package: str) -> None:
    found = imported(f"import {package}")
    assert {name for name in found if name.startswith("cu_")} == {package}
    assert tops(found) - {package} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(("package", "own"), [(cu_cert, {"__version__"}), (cu_attacks, {"get", "names"})])
def test_a_front_door_is_what_it_says(package: ModuleType, own: set[str]) -> None:
    assert dir(package) == sorted(package.__all__)
    assert len(package.__all__) == len(own) + len(package._DOOR)
    assert set(package.__all__) == own | set(package._DOOR)
    names: dict[str, object] = {}
    exec(f"from {package.__name__} import *", names)
    assert set(names) - {"__builtins__"} == set(package.__all__)
    for name, (module, attribute) in package._DOOR.items():
        assert names[name] is getattr(import_module(module), attribute)
        assert callable(names[name]) or name.isupper()
        assert (names[name].__doc__ or "").strip()
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        package.nothing_of_the_kind  # noqa: B018


@pytest.mark.parametrize("package", [cu_cert, cu_attacks])
def test_type_checkers_see_the_same_front_door(package: ModuleType) -> None:
    tree = ast.parse((PACKAGES[package.__name__] / "__init__.py").read_text())
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == package._DOOR


def test_no_name_of_the_attacks_front_door_is_that_of_a_file() -> None:
    # Importing a file binds it to the package under its own name, which would hide a function of that name from then
    # on: what a name means would depend on who imported what before.
    files = {path.stem for path in PACKAGES["cu_attacks"].glob("*.py")}
    assert files > set(cu_attacks.names())
    assert set(cu_attacks.__all__) & files == set()
    used = "assert cu_attacks.coinflip_audit.__name__ == 'coinflip'"
    for order in (f"{used}; import cu_attacks.coinflip", f"import cu_attacks.coinflip; {used}"):
        same = "assert cu_attacks.coinflip.coinflip is cu_attacks.coinflip_audit"
        assert "sklearn" not in tops(imported(f"import cu_attacks; {order}; {same}"))  # what is used, and no more


def test_the_version_stands_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == cu_cert.__version__


def files() -> list[Path]:
    return sorted(path for folder in PACKAGES.values() for path in folder.rglob("*.py"))


def test_relative_imports_stand_in_the_checker_alone() -> None:
    assert len(files()) > 100
    for path in files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Import | ast.ImportFrom):
                continue
            level = getattr(node, "level", 0)
            inside = path.is_relative_to(CHECK)
            assert level == 0 or (inside and level == 1), f"{path}:{node.lineno}"
            if inside and level == 0:
                names = (
                    [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                )
                assert tops(set(names)) <= set(sys.stdlib_module_names), f"{path}:{node.lineno}"


def test_the_contract_of_the_checker_names_every_other_room_of_its_floor() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (listed,) = [one["forbidden_modules"] for one in contracts if one["name"].endswith("imports nothing else of ours")]
    floor = ROOT / "certificates" / "cu_certificates"
    rooms = {path.stem for path in floor.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert listed == sorted(f"cu_certificates.{room}" for room in rooms - {"__init__", "check"})


def test_the_import_contracts_hold() -> None:
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    found = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    assert f"Contracts: {len(contracts)} kept, 0 broken." in found.stdout


def test_no_two_files_import_each_other() -> None:
    # What only a type checker imports may go in a circle: the front door names functions of modules that ask it for
    # the version.
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    assert len(graph.modules) > 100
    TopologicalSorter({name: graph.find_modules_directly_imported_by(name) for name in graph.modules}).prepare()


def test_the_readme_shows_the_help_as_it_is() -> None:
    shown = re.findall(
        r"^```\w*\n\$ cu-cert --help\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert len(shown) == 1, "README.md needs one fenced block that starts with the line '$ cu-cert --help'"
    found = subprocess.run(
        [sys.executable, "-m", "cu_cert", "--help"],
        cwd=ROOT,
        env=os.environ | {"COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert found.stdout.rstrip() == shown[0].rstrip()
