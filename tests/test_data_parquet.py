"""Parquet: the same records as the same table in CSV, the types that only Parquet has, and what is refused."""

import contextlib
import csv
import importlib
import sys
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import TRAIN, refused

from cu_cert.cli.main import run
from cu_cert.data import DataConfig, load_records
from cu_cert.data._guess import guess
from cu_cert.data._table import one_hot
from cu_cert.errors import DataError, EnvironmentProblem
from cu_cert.project import load_project

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = importlib.import_module("pyarrow.parquet")

CONFIG = DataConfig(
    source="d.parquet",
    id_column="id",
    label_column="label",
    numeric=("a",),
    categorical=("w",),
    buckets=4,
    holdout="1/3",
)


def table(count: int = 12, **columns: Any) -> Any:
    plain = {
        "id": [f"r{n}" for n in range(count)],
        "a": [n + 0.5 for n in range(count)],
        "w": [f"w{n % 3}" for n in range(count)],
        "label": ["ny"[n % 2] for n in range(count)],
    }
    return pa.table({name: value for name, value in (plain | columns).items() if value is not None})


def load(folder: Path, rows: Any, config: DataConfig = CONFIG, **options: Any) -> Any:
    pq.write_table(rows, folder / "d.parquet", **options)
    return load_records(config, folder).records


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=6)
rows_of_a_table = st.lists(
    st.tuples(
        st.one_of(st.none(), st.floats(-1e30, 1e30), st.just(-9.0)),
        st.one_of(st.none(), words, st.just("?")),
        st.sampled_from(["n", "y"]),
    ),
    min_size=6,
    max_size=20,
)


@given(rows_of_a_table, st.booleans(), st.integers(1, 7))
@settings(max_examples=40)
def test_a_table_means_the_same_in_both_formats(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float | None, str | None, str]], coded: bool, group: int
) -> None:
    folder = tmp_path_factory.mktemp("both")
    rows = [*rows, (1.0, "w", "n"), (2.0, "v", "y")]
    with (folder / "d.csv").open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow(["id", "a", "w", "label"])
        for number, (a, w, label) in enumerate(rows):
            out.writerow([f"r{number}", "" if a is None else repr(a) if a != -9 else "-9", w or "", label])
    column = pa.array([row[1] for row in rows], pa.string())
    made = table(
        len(rows),
        a=[row[0] for row in rows],
        w=column.dictionary_encode() if coded else column,
        label=[row[2] for row in rows],
    )
    config = replace(CONFIG, missing=("?", "-9"), holdout="1/2")
    pq.write_table(made, folder / "d.parquet", row_group_size=group)
    from cu_cert.data import csv_table, parquet_table

    one = parquet_table.load(config, folder)
    two = csv_table.load(replace(config, source="d.csv"), folder)
    assert one.digest == two.digest


def test_columns_with_gaps_say_so_and_take_nothing_from_others(tmp_path: Path) -> None:
    gaps = table(6, a=[1.5, None, float("nan"), 3.0, -9.0, 2.0], w=["x", "?", None, "", "nan", "y"])
    config = replace(CONFIG, missing=("?", "-9"), holdout="1/2", holdout_seed="gaps")
    found = load(tmp_path, gaps, config).x
    assert found[:, :2].tolist() == [[1.5, 0], [0, 1], [0, 1], [3, 0], [0, 1], [2, 0]]
    assert found[:, 6].tolist() == [0, 1, 1, 1, 1, 0]
    assert found[0, 2:6].tolist() == one_hot("w", "x", 4)
    assert not found[1:5, 2:6].any()


@pytest.mark.parametrize(
    ("kind", "values", "wanted"),
    [
        ("int8", [1, -2] * 6, [1, -2]),
        ("uint64", [2**63, 5] * 6, [2.0**63, 5]),
        ("float16", [np.float16(0.5), np.float16(2)] * 6, [0.5, 2]),
        ("float32", [0.1, 2.0] * 6, [np.float32(0.1), 2]),
        ("bool", [True, False] * 6, [1, 0]),
        ("decimal128(9, 2)", [Decimal("1.25"), Decimal("-3.00")] * 6, [1.25, -3]),
    ],
)
def test_types_of_numbers(tmp_path: Path, kind: str, values: list[Any], wanted: list[float]) -> None:
    made = {"decimal128(9, 2)": pa.decimal128(9, 2), "bool": pa.bool_()}.get(kind) or getattr(pa, kind)()
    found = load(tmp_path, table(a=pa.array(values, made)))
    assert found.select(["r0"]).x[0, 0] == wanted[0]
    assert found.select(["r1"]).x[0, 0] == wanted[1]


def test_words_may_be_numbers_and_coded(tmp_path: Path) -> None:
    made = table(
        id=pa.array([f" r{n} " for n in range(12)]),
        w=pa.array([True, False, None] * 4),
        label=pa.array([0.0, 1.0] * 6),  # whole numbers that pandas made float
    )
    config = replace(CONFIG, missing=("null",))
    found = load(tmp_path, made, config)
    assert found.classes == ("0", "1")
    assert found.select(["r0"]).x[0, 2:].tolist() == [*one_hot("w", "true", 4), 0]
    assert found.select(["r2"]).x[0, 2:].tolist() == [0, 0, 0, 0, 1]
    coded = made.set_column(3, "label", pa.array([0, 1] * 6).dictionary_encode())
    assert load(tmp_path, coded.set_column(0, "id", pa.array(range(12))), config).ids[:3] == ("0", "1", "10")


def test_lists_of_one_length_are_features(tmp_path: Path) -> None:
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(36, dtype=np.float32)), 3)
    found = load(tmp_path, table(a=values), row_group_size=5)
    assert found.x.shape == (12, 3 + 4)
    assert found.select(["r7"]).x[0, :3].tolist() == [21, 22, 23]
    with_gaps = pa.array([[1, 2, 3], None, [4, None, 6]] * 4, pa.list_(pa.float64(), 3))
    with pytest.raises(DataError, match=r"d\.parquet: row 2: id 'r1' has no value in column 'a'"):
        load(tmp_path, table(a=with_gaps))
    found = load(tmp_path, table(a=with_gaps), replace(CONFIG, missing=("null",)))
    assert found.select(["r0"]).x[0, :4].tolist() == [1, 2, 3, 0]
    assert found.select(["r1"]).x[0, :4].tolist() == [0, 0, 0, 1]
    assert found.select(["r2"]).x[0, :4].tolist() == [0, 0, 0, 1]


def test_a_folder_of_parts_is_one_table(tmp_path: Path) -> None:
    whole = load(tmp_path, table())
    parts = tmp_path / "d"
    parts.mkdir()
    for number in range(3):
        pq.write_table(table().slice(4 * number, 4), parts / f"part-{number}.parquet")
    (parts / "_SUCCESS").write_text("")
    config = replace(CONFIG, source="parquet:d")
    assert load_records(config, tmp_path).records.digest == whole.digest
    assert guess(parts, tmp_path).config.source == "parquet:d"
    pq.write_table(table().slice(0, 4), parts / "part-3.parquet")
    with pytest.raises(DataError, match=r"part-3\.parquet: row 1: id 'r0' stands twice \(first in row 1 of part-0\.pa"):
        load_records(config, tmp_path)
    pq.write_table(table(a=["1"] * 12), parts / "part-3.parquet")
    with pytest.raises(DataError, match=r"part-3\.parquet: column 'a' has type string"):
        load_records(config, tmp_path)
    pq.write_table(table(a=[1] * 12), parts / "part-3.parquet")
    with pytest.raises(DataError, match=r"part-3\.parquet: column 'a' has type int64, but double in part-0\.parquet"):
        load_records(config, tmp_path)
    (parts / "year=2020").mkdir()
    with pytest.raises(DataError, match=r"holds the folder 'year=2020'; expected part files alone"):
        load_records(config, tmp_path)


def test_ids_by_content_cover_every_column(tmp_path: Path) -> None:
    when = [datetime(2020, 1, 1 + n) for n in range(12)]
    made = table(id=None, a=[1.0] * 12, w=["x"] * 12, when=pa.array(when, pa.timestamp("ns")), raw=[b"\xff"] * 12)
    made = made.append_column("day", pa.array([date(2020, 1, 1)] * 12))
    config = replace(CONFIG, id_column=None, ids="content")
    found = load(tmp_path, made, config)
    assert not any("/" in name for name in found.ids)  # only the time tells them apart
    less = load(tmp_path, made.take([5, 3, 1, 0, 8, 10, 2]), config)
    assert less.digest == found.select(less.ids).digest
    same = load(tmp_path, made.drop_columns(["when"]), config)
    assert sorted(name.partition("/")[2] for name in same.ids) == sorted(2 * [*map(str, range(2, 7)), ""])


def test_rows_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cu_cert.data.parquet_table._MOST_ROWS", 5)
    taken = []
    from cu_cert.data import parquet_table

    original = parquet_table._batch
    monkeypatch.setattr(
        parquet_table,
        "_batch",
        lambda *arguments: taken.append(len(arguments[3])) or original(*arguments),  # type: ignore[func-returns-value]
    )
    pieces = load(tmp_path, table(23))
    assert max(taken) <= 5
    monkeypatch.undo()
    assert load(tmp_path, table(23)).digest == pieces.digest


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": None}, "has no column 'a'; The columns are id, w, label"),
        ({"a": ["1"] * 12}, "column 'a' has type string; expected numbers, or lists of numbers of one fixed length"),
        ({"a": pa.array([[]] * 12, pa.list_(pa.float32(), 0))}, "has type fixed_size_list<"),
        ({"a": pa.array([None] * 12, pa.list_(pa.float32(), 2**25))}, "would have 33554436 features; expected at most"),
        ({"a": [[1.0], [1.0, 2.0]] * 6}, "cast the column to pyarrow.list_(float32, LENGTH)"),
        ({"a": [{"b": 1}] * 12}, "has type struct<b: int64>; expected numbers"),
        ({"w": [{"b": 1}] * 12}, "column 'w' has type struct<b: int64>; expected text or numbers. Write what is"),
        ({"w": [date(2020, 1, 1)] * 12}, "column 'w' has type date32[day]; expected text or numbers"),
        ({"label": [["x"]] * 12}, "column 'label' has type list<"),
        ({"id": [b"x"] * 12}, "column 'id' has type binary; expected text or numbers"),
        ({"a": [None, *range(11)]}, "row 1: id 'r0' has no value in column 'a'; fill the cell"),
        ({"a": [float("nan"), *range(11)]}, "row 1: id 'r0' has no value in column 'a'"),
        ({"a": [1.0, float("inf")] * 6}, "row 2: id 'r1' has inf in column 'a'; expected a finite number"),
        ({"a": [1.0, 1e39] * 6}, "row 2: id 'r1' has 1e+39 in column 'a'"),
        ({"w": ["x", None] * 6}, "row 2: id 'r1' has no value in column 'w'"),
        ({"label": ["x", None] * 6}, "row 2: id 'r1' has no value in column 'label'"),
        ({"id": ["x", None] * 6}, "row 2: no id in column 'id'; expected one in every row. A row number is no id"),
        ({"id": ["x"] * 12}, "row 2: id 'x' stands twice (first in row 1 of d.parquet)"),
        ({"label": ["x"] * 12}, "only one class ('x'); expected at least 2"),
    ],
)
def test_wrong_columns_are_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as told:
        load(tmp_path, table(**columns))
    assert message in str(told.value)


def test_a_table_without_rows(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"d\.parquet: has no row"):
        load(tmp_path, table().slice(0, 0))


def test_a_table_that_would_not_fit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(12 * 1000, np.float32)), 1000)
    monkeypatch.setattr("cu_cert.data._limits.MOST_BYTES", 40_000)
    monkeypatch.setattr("cu_cert.data.parquet_table._read", lambda *_: pytest.fail("was read"))
    with pytest.raises(DataError, match=r"its records would take 0\.0 GiB"):
        load(tmp_path, table(a=wide))
    monkeypatch.setattr("cu_cert.data.parquet_table.MOST_BYTES", 10)
    with pytest.raises(DataError, match=r"a row group unpacks to"):
        load(tmp_path, table())


@given(st.binary(min_size=1, max_size=30), st.integers(0, 2500))
@settings(max_examples=50)
def test_a_damaged_file_never_gives_another_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    pq.write_table(table(), folder / "d.parquet")
    whole = (folder / "d.parquet").read_bytes()
    (folder / "d.parquet").write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    with contextlib.suppress(DataError):  # any other error would fail the test, and so would a warning
        load_records(CONFIG, folder)


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table(), tmp_path / "d.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'cu-cert\[parquet\]'"):
        load_records(CONFIG, tmp_path)


# through the command line ---------------------------------------------------------------------------------------------


def test_init_guesses_and_train_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(180, dtype=np.float32)), 3)
    made = table(60, gap=[None, 1.0] * 30, tags=[["a"]] * 60).append_column("vector", vectors)
    pq.write_table(made, tmp_path / "d.parquet")
    monkeypatch.chdir(tmp_path)
    assert run(["init", "--data", "d.parquet"]) == 0
    told = capsys.readouterr().out
    assert "source = d.parquet: 60 rows, 7 columns" in told
    assert "tags is left out: type list<" in told
    assert "gap is left out: 30 missing cells, first in row 1; fill them and add the column, or allow gaps" in told
    data = load_project(tmp_path / "cu-cert.toml").data
    assert (data.id_column, data.label_column) == ("id", "label")
    assert (data.numeric, data.categorical) == (("a", "vector"), ("w",))
    assert run(["train", "-o", "model.pt"]) == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none.parquet", "none.parquet: cannot be read (No such file or directory); expected a Parquet file"),
        ("text.parquet", "text.parquet: is not a Parquet file, or a damaged one ("),
        ("cut.parquet", "cut.parquet: is not a Parquet file, or a damaged one ("),
        ("empty.parquet", "empty.parquet: is a folder without a .parquet file; expected part files"),
        ("parquet:none", "none: cannot be read (No such file or directory); expected a Parquet file"),
        ("nested.parquet", "nested.parquet: holds the folder 'year=1'; expected part files alone"),
    ],
)
def test_train_names_what_is_wrong_and_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str, message: str
) -> None:
    (tmp_path / "text.parquet").write_text("id,a,w,label\n")
    pq.write_table(table(), tmp_path / "d.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "d.parquet").read_bytes()[:-9])
    (tmp_path / "empty.parquet").mkdir()
    (tmp_path / "nested.parquet" / "year=1").mkdir(parents=True)
    lines = f'source = "{source}"\nid_column = "id"\nlabel_column = "label"\nnumeric = ["a"]'
    (tmp_path / "cu-cert.toml").write_text(f"schema = 1\n[data]\n{lines}\n")
    monkeypatch.chdir(tmp_path)
    assert message in refused(TRAIN, tmp_path, capsys)


# real data ------------------------------------------------------------------------------------------------------------


def test_adult_as_it_lies_there_and_as_parquet(data_folder: Path, tmp_path: Path) -> None:
    source = data_folder / "adult" / "adult.data"
    if not source.is_file():
        pytest.skip("CU_CERT_DATA holds no adult/adult.data")
    found = guess(source, tmp_path).config
    assert (found.ids, found.missing, len(found.columns)) == ("content", ("?",), 15)
    bare = load_records(found, tmp_path).records
    assert bare.x.shape == (32561, 6 * (1 + 1) + 8 * (8 + 1))
    assert sum("/" in name for name in bare.ids) == 24  # as many rows are copies of another
    with source.open(newline="") as file:
        columns = list(zip(*filter(None, csv.reader(file, skipinitialspace=True)), strict=True))
    made = {
        name: [int(cell) for cell in column] if name in found.numeric else pa.array(column).dictionary_encode()
        for name, column in zip(found.columns, columns, strict=True)
    }
    pq.write_table(pa.table(made), tmp_path / "adult.parquet")
    same = load_records(replace(found, source="adult.parquet", columns=()), tmp_path).records
    assert same.digest == bare.digest
