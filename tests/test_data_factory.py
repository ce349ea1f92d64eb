"""Data from a function of the user's."""

from pathlib import Path

import pytest

from cu_cert.data import DataConfig, Dataset, load_records
from cu_cert.errors import ConfigError, CuCertError, DataError


def factory(folder: Path, name: str, body: str) -> Dataset:
    (folder / f"{name}.py").write_text(body)
    return load_records(DataConfig(source=f"python:{name}:make"), folder)


def test_a_factory_gives_rows_or_records(tmp_path: Path) -> None:
    data = factory(
        tmp_path,
        "factory_rows",
        "import numpy as np\n"
        "def make():\n"
        "    return [f'r{n}' for n in range(30)], np.ones((30, 2)), [n % 2 for n in range(30)], ('a', 'b')\n",
    )
    assert data.records.classes == ("a", "b")
    again = factory(
        tmp_path,
        "factory_records",
        "import factory_rows\nfrom cu_cert.records import make_records\n"
        "def make():\n    return make_records(*factory_rows.make())\n",
    )
    assert again.records.digest == data.records.digest
    assert again.holdout == data.holdout


@pytest.mark.parametrize(
    ("name", "body", "kind", "message"),
    [
        ("f_none", "def make(): pass", DataError, r"python:f_none:make: returned a NoneType; expected Records or"),
        ("f_three", "def make(): return 1, 2, 3", DataError, r"returned a tuple of 3"),
        ("f_list", "def make(): return 1, 2, 3, 4", DataError, r"ids or classes are not a list"),
        ("f_ids", "def make(): return [1], [[1.]], [0], 'ab'", DataError, r"row 0 has id 1; expected a non-empty str"),
        ("f_rag", "def make(): return ['a'], [[1], [1, 2]], [0], 'ab'", DataError, r"the features are not an array"),
        ("f_sur", "def make(): return ['\\ud800'], [[1.]], [0], 'ab'", DataError, r"which no file can hold"),
        ("f_const", "make = 3", ConfigError, r"\[data\] source = 'python:f_const:make': is a int; expected a function"),
        ("f_raise", "\ndef make():\n    1 / 0", ConfigError, r"calling it failed: ZeroDivisionError.*f_raise\.py:3\)"),
        ("f_exit", "raise SystemExit(3)", ConfigError, r"importing f_exit failed: SystemExit: 3 \(.*f_exit\.py:1\)"),
        ("f_other", "def build(): pass", ConfigError, r"f_other\.py has no make; expected an object of this name"),
        ("f_syntax", "def make(:", ConfigError, r"importing f_syntax failed: SyntaxError: .*f_syntax\.py, line 1"),
        ("f_import", "\nimport nowhere_at_all", ConfigError, r"No module named 'nowhere_at_all' \(.*f_import\.py:2\)"),
    ],
)
def test_wrong_factories(tmp_path: Path, name: str, body: str, kind: type[CuCertError], message: str) -> None:
    with pytest.raises(kind, match=message):
        factory(tmp_path, name, body)


def test_factories_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no module f_absent in .*; expected the file f_absent\.py"):
        load_records(DataConfig(source="python:f_absent:make"), tmp_path)
    with pytest.raises(ConfigError, match=r"\[data\] source = 'python:a b'; expected python:module:NAME"):
        load_records(DataConfig(source="python:a b"), tmp_path)
    with pytest.raises(ConfigError, match=r"Python already has a module sys"):
        load_records(DataConfig(source="python:sys:path"), tmp_path)
