"""Finding methods by name, inside and outside the tree, and listing them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer
from typer.testing import CliRunner

from cu_cert.cli.methods import command
from cu_cert.errors import ConfigError, MethodError
from cu_cert.methods import get, names
from cu_cert.recipes import make_recipe
from cu_cert.records import make_records
from cu_cert.rng import Stream

MEMBERS = names()
ROOT = Stream.from_seed("find")
RECORDS = make_records(
    [f"r{row:02d}" for row in range(12)],
    [[float(row % 5), float(row % 3)] for row in range(12)],
    [row % 2 for row in range(12)],
    ["even", "odd"],
)
RECIPE = make_recipe("logistic", {"epochs": 2})


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(MethodError, match=r"'retrian' is unknown; did you mean retrain\? expected one of finetune"):
        get("retrian")
    for private in ("_params", "__init__", "", "npo.npo"):
        with pytest.raises(MethodError, match="is unknown"):
            get(private)


OUTSIDE = """
from dataclasses import replace

from cu_cert.methods import Task, UnlearningMethod, Work
from cu_cert.methods._params import NoParams

def work(task: Task) -> Work:
    return Work(model=task.original)

MINE: UnlearningMethod = UnlearningMethod(
    name="retrain", kind="approximate", guarantee="none", level="EMPIRICAL", needs=frozenset({"original"}),
    paper="none", summary="mine", params_type=NoParams, work=work,
)
NOT_ONE = 3

def fails(task: Task) -> Work:
    import cu_outside_helper
    return cu_outside_helper.work(task)

FAILING: UnlearningMethod = replace(MINE, work=fails)
"""
HELPER = """
def work(task):
    return {}["gone"]
"""


def test_a_member_outside_the_tree_is_named_in_full(tmp_path: Path) -> None:
    (tmp_path / "cu_outside_example.py").write_text(OUTSIDE)
    (tmp_path / "cu_outside_broken.py").write_text("1 / 0\n")
    method = get("python:cu_outside_example:MINE", root=str(tmp_path))
    assert method.name == "python:cu_outside_example:MINE"
    trained = RECIPE.train(RECORDS, rng=ROOT)
    result = method.unlearn(trained, ("r03",), RECORDS, recipe=RECIPE, params=method.params({}), rng=ROOT)
    assert torch.equal(RECIPE.logits(result.model, RECORDS), RECIPE.logits(trained, RECORDS))
    assert str(tmp_path) not in sys.path
    for name, message in (
        ("python:cu_outside_example:NOT_ONE", "is of type int; expected an UnlearningMethod"),
        ("python:cu_outside_example:GONE", "cu_outside_example.py has no GONE"),
        ("python:cu_outside_broken:MINE", "importing cu_outside_broken failed: ZeroDivisionError"),
        ("python:cu_outside_missing:MINE", "there is no module cu_outside_missing in "),
        ("python:cu_outside_example", "is of type module; expected an UnlearningMethod"),
        ("python:", "expected python:module:NAME"),
    ):
        with pytest.raises(MethodError, match=message):
            get(name, root=str(tmp_path))


def test_an_error_inside_an_outside_member_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "cu_outside_example.py").write_text(OUTSIDE)
    (tmp_path / "cu_outside_helper.py").write_text(HELPER)
    method = get("python:cu_outside_example:FAILING", root=str(tmp_path))
    trained = RECIPE.train(RECORDS, rng=ROOT)
    with pytest.raises(ConfigError, match=r"cu_outside_example:FAILING failed: KeyError: 'gone' \(.*helper.py:3\)"):
        method.unlearn(trained, ("r03",), RECORDS, recipe=RECIPE, params=method.params({}), rng=ROOT)


def test_the_example_in_the_documentation_is_a_method(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "methods.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "cu_documented_example.py").write_text(code, encoding="utf-8")
    method = get("python:cu_documented_example:METHOD", root=str(tmp_path))
    trained = RECIPE.train(RECORDS, rng=ROOT)
    result = method.unlearn(trained, ("r03",), RECORDS, recipe=RECIPE, params=method.params({}), rng=ROOT)
    assert len(result.log) == 5


def test_the_documentation_names_every_member() -> None:
    page = (Path(__file__).parent.parent / "docs" / "methods.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+)` \| (?:exact|certified|approximate) ", page, flags=re.MULTILINE)) == MEMBERS


# The command


def _cli(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(command)
    outcome = CliRunner().invoke(app, list(arguments))
    assert outcome.exit_code == 0
    return outcome.stdout


def test_the_command_lists_every_member() -> None:
    rows = json.loads(_cli("--json"))
    assert [row["name"] for row in rows] == MEMBERS
    for row in rows:
        method = get(row["name"])
        assert row == {
            "name": method.name,
            "kind": method.kind,
            "guarantee": method.guarantee,
            "level": method.level,
            "needs": sorted(method.needs),
            "paper": method.paper,
            "summary": method.summary,
        }
    table = _cli().splitlines()
    assert table[0].split() == ["NAME", "KIND", "GUARANTEE", "NEEDS", "PAPER"]
    assert [line.split()[0] for line in table[1:-1]] == MEMBERS
    assert "arXiv:2404.05868" in table[3]


def test_listing_imports_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from cu_cert.cli.methods import command; command(as_json=True); command(as_json=False); "
        "print([name for name in ('torch', 'numpy', 'scipy') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
