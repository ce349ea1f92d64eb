"""Data sources: what they load, what they refuse, and that nothing depends on the order of rows."""

import contextlib
import csv
import io
import os
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_cert.data import DataConfig, Dataset, load_records
from cu_cert.data._holdout import is_held_out
from cu_cert.data._table import one_hot
from cu_cert.errors import DataError
from cu_cert.records import make_records

CSV = DataConfig(source="d.csv", id_column="id", label_column="label", numeric=("a",), categorical=("w",), buckets=4)
NPZ = DataConfig(source="d.npz")


def load_csv(folder: Path, text: str, config: DataConfig = CSV) -> Dataset:
    (folder / "d.csv").write_text(text, encoding="utf-8", newline="")
    return load_records(config, folder)


def rows(count: int = 12) -> str:
    return "id,a,w,label\n" + "\n".join(f"r{n},{n}.5,w{n % 3},{'ny'[n % 2]}" for n in range(count)) + "\n"


def save(folder: Path, **arrays: object) -> None:
    np.savez(folder / "d.npz", **arrays)  # type: ignore[arg-type]


def good(count: int = 20) -> dict[str, object]:
    return {
        "x": np.arange(count * 3, dtype=np.float64).reshape(count, 3),
        "y": np.arange(count) % 2,
        "ids": np.array([f"id-{n}" for n in range(count)]),
    }


# digits ---------------------------------------------------------------------------------------------------------------


def test_digits(tmp_path: Path) -> None:
    data = load_records(DataConfig(), tmp_path)
    assert len(data.records) == 1797
    assert data.records.ids[:2] == ("digit-0000", "digit-0001")
    assert data.records.x.shape == (1797, 64)
    assert data.records.x.max() == 1.0
    assert data.records.classes == tuple("0123456789")
    assert 300 < len(data.holdout) < 420
    assert len(data.train) + len(data.held_out) == 1797
    assert not set(data.train.ids) & set(data.holdout)


def test_declared_classes_must_be_those_of_the_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"digits: its classes are '0', '1', .* but \[data\] classes lists 'a', 'b'"):
        load_records(DataConfig(classes=("a", "b")), tmp_path)


# holdout --------------------------------------------------------------------------------------------------------------


def test_the_holdout_is_a_hash_of_the_id_and_stays_as_it_is() -> None:
    ids = [f"digit-{n:04d}" for n in range(40)]
    chosen = [n for n, name in enumerate(ids) if is_held_out(name, Fraction(1, 5), "cu-cert")]
    assert chosen == [3, 4, 6, 9, 14, 16, 19, 26, 32, 34, 35]  # a change here would change every project's split
    assert chosen != [n for n, name in enumerate(ids) if is_held_out(name, Fraction(1, 5), "other")]


@given(st.fractions(min_value="1/50", max_value="49/50", max_denominator=50))
@settings(max_examples=20)
def test_the_holdout_has_about_the_share_asked_for(share: Fraction) -> None:
    held = sum(is_held_out(f"r{n}", share, "s") for n in range(2000))
    assert abs(held / 2000 - share) < 0.06  # over five standard deviations


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1).filter(
    lambda name: name == name.strip()
)


@given(st.data(), st.lists(names, unique=True, min_size=12, max_size=30), st.randoms(use_true_random=False))
def test_selection_and_holdout_go_by_id_not_by_row(data: st.DataObject, ids: list[str], random: object) -> None:
    order = data.draw(st.permutations(range(len(ids))))
    x, y = np.arange(2.0 * len(ids)).reshape(-1, 2), np.arange(len(ids)) % 2
    share = Fraction(1, 3)
    first = make_records(ids, x, y, ["a", "b"])
    second = make_records([ids[n] for n in order], x[order], y[order], ["a", "b"])
    held = [tuple(name for name in records.ids if is_held_out(name, share, "k")) for records in (first, second)]
    assert held[0] == held[1]
    wanted = data.draw(st.lists(st.sampled_from(ids), unique=True, min_size=1))
    assert first.select(wanted).digest == second.select(list(reversed(wanted))).digest
    # Removing a record moves no other one across the split.
    gone = first.without([ids[0]])
    assert {n for n in gone.ids if is_held_out(n, share, "k")} == set(held[0]) - {ids[0]}


@given(st.permutations(range(12)))
@settings(max_examples=25)
def test_a_csv_gives_the_same_dataset_in_any_order_of_rows(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    header, *body = rows().strip().split("\n")
    folder = tmp_path_factory.mktemp("csv")
    config = DataConfig(**{**vars(CSV), "holdout": "1/3"})
    first = load_csv(folder, "\n".join([header, *body]), config)
    second = load_csv(folder, "\n".join([header, *(body[n] for n in order)]), config)
    assert first.records.digest == second.records.digest
    assert first.holdout == second.holdout


def test_a_holdout_file(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("# two\nr3\n\nr1\n")
    data = load_csv(tmp_path, rows(), DataConfig(**{**vars(CSV), "holdout": "held.txt"}))
    assert data.holdout == ("r1", "r3")
    assert "r1" not in data.train
    assert data.held_out.ids == ("r1", "r3")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("r1\nr99\n", r"held\.txt:2: id 'r99' is to be held out but is not in the data \(d\.csv, 12 records\)"),
        ("r1\nr1\n", r"held\.txt:2: id 'r1' stands twice \(first on line 1\)"),
        ("\n", r"held\.txt: names no id"),
        ("\n".join(f"r{n}" for n in range(12)), r"12 of 12 records are held out"),
    ],
)
def test_wrong_holdout_files(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "held.txt").write_text(content)
    with pytest.raises(DataError, match=message):
        load_csv(tmp_path, rows(), DataConfig(**{**vars(CSV), "holdout": "held.txt"}))


def test_a_missing_holdout_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"held\.txt: cannot be read"):
        load_csv(tmp_path, rows(), DataConfig(**{**vars(CSV), "holdout": "held.txt"}))


def test_too_few_records_to_hold_any_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"2 of 2 records are held out; expected at least 1"):
        load_csv(tmp_path, rows(2))


def test_a_dataset_checks_itself() -> None:
    records = make_records(["a", "b", "c"], [[1.0], [2.0], [3.0]], [0, 1, 0], ["x", "y"])
    with pytest.raises(DataError, match="not strictly ascending"):
        Dataset(records, ("b", "a"))
    with pytest.raises(DataError, match="unknown id 'z'"):
        Dataset(records, ("z",))


# csv ------------------------------------------------------------------------------------------------------------------


def test_csv(tmp_path: Path) -> None:
    data = load_csv(tmp_path, "\ufeff" + rows().replace("\n", "\r\n").replace("r5,", '" r5 ", '))
    records = data.records
    assert records.classes == ("n", "y")
    row = records.ids.index("r5")
    assert records.x[row].tolist() == [5.5, *one_hot("w", "w2", 4)]
    assert records.y[row] == 1
    assert records.x.shape == (12, 5)


def test_one_hot_depends_on_column_and_word_alone() -> None:
    assert sum(one_hot("w", "cook", 8)) == 1.0
    assert one_hot("w", "cook", 8) == one_hot("w", "cook", 8)
    words = [f"w{n}" for n in range(200)]
    assert {one_hot("w", word, 8).index(1.0) for word in words} == set(range(8))
    assert [one_hot("w", word, 8) for word in words] != [one_hot("v", word, 8) for word in words]


def test_a_removed_record_changes_no_feature_of_another(tmp_path: Path) -> None:
    lines = rows().strip().split("\n")
    config = DataConfig(**{**vars(CSV), "holdout": "1/3"})
    full = load_csv(tmp_path, "\n".join(lines), config).records
    less = load_csv(tmp_path, "\n".join(lines[:4] + lines[5:]), config).records
    assert less.digest == full.without(["r3"]).digest


def test_classes_are_declared_or_found(tmp_path: Path) -> None:
    text = rows().replace(",n\n", ",10\n").replace(",y\n", ",9\n")
    assert load_csv(tmp_path, text).records.classes == ("9", "10")
    declared = DataConfig(**{**vars(CSV), "classes": ("10", "9", "11")})
    assert load_csv(tmp_path, text, declared).records.classes == ("10", "9", "11")
    with pytest.raises(DataError, match=r"id 'r1' has label '9'; expected one of '10', '11'"):
        load_csv(tmp_path, text, DataConfig(**{**vars(CSV), "classes": ("10", "11")}))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("r3,3.5", "r3,", r"d\.csv:5: id 'r3' has no value in column 'a'; fill the cell"),
        ("r3,3.5", "r3,NaN", r"d\.csv:5: id 'r3' has no value in column 'a'"),
        ("r3,3.5", "r3,inf", r"d\.csv:5: id 'r3' has 'inf' in column 'a'; expected a finite number"),
        ("r3,3.5", "r3,1e39", r"d\.csv:5: id 'r3' has '1e39' in column 'a'; expected a finite"),
        ("r3,3.5", "r3,old", r"d\.csv:5: id 'r3' has 'old' in column 'a'; .*categorical"),
        ("r3,3.5,w0", "r3,3.5,", r"d\.csv:5: id 'r3' has no value in column 'w'"),
        ("w0,y\nr4", "w0, \nr4", r"d\.csv:5: id 'r3' has no value in column 'label'"),
        ("r3,3.5", ",3.5", r"d\.csv:5: no id in column 'id'"),
        ("r3,3.5", "r2,3.5", r"d\.csv:5: id 'r2' stands twice \(first on line 4\)"),
        ("r3,3.5", "r3,3.5,9", r"d\.csv:5: 5 cells, but the header has 4 columns; quote cells"),
        ("r3,3.5", 'r3,"3.5', r"d\.csv:\d+: not CSV"),
        ("id,a,w,label", "id,b,w,label", r"d\.csv:1: has no column 'a'; .*The columns are id, b, w, label"),
        ("id,a,w,label", "id,a,w,labels", r"d\.csv:1: has no column 'label'; did you mean 'labels'\?"),
        ("id,a,w,label", "id,a,a,label", r"d\.csv:1: column name 'a' is empty or stands twice"),
        ("r3", "r\0", r"d\.csv:5: holds a NUL character"),
    ],
)
def test_wrong_csv_cells_are_named_with_line_id_and_column(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in rows()
    with pytest.raises(DataError, match=message):
        load_csv(tmp_path, rows().replace(old, new, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is empty; expected a header line"),
        ("id,a,w,label\n", r"has no row; expected at least one record"),
        ("id;a;w;label\n1;2;3;4\n", r"d\.csv:1: the header has no comma"),
        ("id,a,w,label\nr1,1,w,n\nr2,2,w,n\n", r"only one class \('n'\)"),
    ],
)
def test_wrong_csv_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_csv(tmp_path, text)


def test_csv_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"d\.csv: cannot be read \(No such file"):
        load_records(CSV, tmp_path)
    (tmp_path / "d.csv").write_bytes(b"id,a,w,label\nr1,1,caf\xe9,n\n")
    with pytest.raises(DataError, match=r"d\.csv:2: byte 21 is not UTF-8"):
        load_records(CSV, tmp_path)
    (tmp_path / "d.csv").unlink()
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(DataError, match=r"d\.csv: is a folder"):
        load_records(CSV, tmp_path)


def test_csv_without_feature_columns(tmp_path: Path) -> None:
    bare = DataConfig(source="d.csv", id_column="id", label_column="label")
    with pytest.raises(DataError, match=r"name no column; .*The columns are id, a, w, label"):
        load_csv(tmp_path, rows(), bare)


ADULT = "39, State-gov, ?, <=50K\n50, ?, Bachelors, >50K\n39, State-gov, ?, <=50K\n\n28, Private, 11th, <=50K\n"
BARE = DataConfig(
    source="csv:d.csv",
    columns=("age", "work", "school", "income"),
    ids="content",
    label_column="income",
    numeric=("age",),
    categorical=("work", "school"),
    missing=("?",),
    buckets=4,
    holdout="1/2",
)


def test_a_table_without_header_ids_and_some_values(tmp_path: Path) -> None:
    records = load_csv(tmp_path, ADULT + "".join(f"{n}, Private, 11th, <=50K\n" for n in range(20)), BARE).records
    assert records.x.shape == (24, (1 + 1) + 2 * (4 + 1))
    twice = [name for name in records.ids if name.endswith("/2")]
    assert len(twice) == 1
    (gap,) = {name for name in records.ids if records.x[records.ids.index(name), 6] == 1}
    row = records.select([gap]).x[0].tolist()
    assert row == [50, 0, 0, 0, 0, 0, 1, *one_hot("school", "Bachelors", 4), 0]


def test_ids_by_content_of_a_table_know_neither_order_nor_features(tmp_path: Path) -> None:
    text = "".join(f"{n // 2}, w{n % 3}, s{n}, {'<>'[n % 2]}=50K\n" for n in range(20))
    full = load_csv(tmp_path, text, BARE).records
    lines = text.splitlines(keepends=True)
    assert load_csv(tmp_path, "".join(reversed(lines)), BARE).records.digest == full.digest
    less = load_csv(tmp_path, "".join(lines[3:]), BARE).records
    assert less.digest == full.select(less.ids).digest
    assert load_csv(tmp_path, text, replace(BARE, categorical=("work",))).records.ids == full.ids


@pytest.mark.parametrize(
    ("text", "change", "message"),
    [
        ("age,work,school,income\n" + ADULT, {}, r"d\.csv:1: is a header line; take columns out of \[data\]"),
        ("39, State-gov, ?\n", {}, r"d\.csv:1: 3 cells, but \[data\] columns names 4 columns"),
        (
            ADULT,
            {"columns": ()},
            r"d\.csv:1: has no column 'income'; .*If the first line is a record, name the columns",
        ),
        (ADULT, {"label_column": "pay"}, r"d\.csv: has no column 'pay'; The columns are age, work, school, income"),
        (
            ADULT.replace("28", "?"),
            {"missing": ()},
            r"d\.csv:5: id '[0-9a-f]{32}' has '\?' in column 'age'; expected a",
        ),
        (ADULT.replace("<=50K", "?"), {}, r"d\.csv:1: id '[0-9a-f]{32}' has no value in column 'income'"),
        ("", {}, r"d\.csv: is empty"),
    ],
)
def test_wrong_tables_without_header(tmp_path: Path, text: str, change: dict[str, object], message: str) -> None:
    config = replace(BARE, **change)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        load_csv(tmp_path, text, config)


def test_init_sees_a_missing_header_and_what_stands_for_no_value(tmp_path: Path) -> None:
    from cu_cert.data._guess import guess

    (tmp_path / "d.data").write_text(ADULT + "28, Private, HS, >50K\n")
    found = guess(tmp_path / "d.data", tmp_path)
    assert found.config.columns == ("c1", "c2", "c3", "c4")
    assert (found.config.ids, found.config.missing) == ("content", ("?",))
    assert any("in 3 cells of c2, c3; they count as no value" in reason for reason in found.reasons)
    load_records(replace(found.config, holdout="2/3"), tmp_path)


# npz ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("x", "y"), ("X", "labels"), ("features", "y")])
def test_npz(tmp_path: Path, names: tuple[str, str]) -> None:
    arrays = good()
    save(tmp_path, **{names[0]: arrays["x"], names[1]: arrays["y"], "ids": arrays["ids"]})
    data = load_records(NPZ, tmp_path)
    assert len(data.records) == 20
    assert data.records.x.dtype == np.float32
    assert data.records.classes == ("0", "1")
    assert data.records.select(["id-7"]).x.tolist() == [[21.0, 22.0, 23.0]]


def test_npz_with_names_bytes_and_numbers(tmp_path: Path) -> None:
    arrays = good()
    save(tmp_path, x=np.zeros((20, 2, 2), np.uint8), y=np.array([b"no", b"yes"] * 10), ids=np.arange(20),
         classes=np.array(["yes", "no"]))  # fmt: skip
    data = load_records(DataConfig(source="d.npz", holdout="1/2"), tmp_path)
    assert data.records.classes == ("yes", "no")
    assert data.records.y[data.records.ids.index("3")] == 0
    assert data.records.x.shape == (20, 2, 2)
    arrays["y"] = np.arange(20) % 2
    save(tmp_path, **arrays)
    named = load_records(DataConfig(source="d.npz", classes=("cat", "dog")), tmp_path)
    assert named.records.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ids": None}, r"d\.npz: has no array 'ids'; .*A row number is no id"),
        ({"x": None}, r"has no array 'x' or 'X' or 'features' or 'data'; .*It holds ids, y"),
        ({"y": None}, r"has no array 'y' or 'labels' or 'fine_labels'"),
        ({"X": np.zeros((20, 3))}, r"has the arrays x and X; expected only one"),
        ({"ids": np.array([{}] * 20, dtype=object)}, r"holds Python objects, and reading those runs code"),
        ({"ids": np.zeros((20, 2))}, r"array 'ids' has type float64 and shape \(20, 2\)"),
        ({"ids": np.array(["a"] * 20)}, r"d\.npz: records: id 'a' stands twice"),
        ({"ids": np.array(["a", "b"])}, r"2 ids but labels of shape \(20,\)"),
        ({"ids": np.array([b"\xff"] * 20)}, r"array 'ids' is not UTF-8"),
        ({"x": np.zeros(20)}, r"the features have shape \(20,\); expected \(records, features\)"),
        ({"x": np.zeros((19, 3))}, r"20 ids, 19 feature rows"),
        ({"x": np.full((20, 3), np.nan)}, r"id 'id-0' has a feature that is NaN or infinite \(20 such"),
        ({"x": np.full((20, 3), 1e300)}, r"id 'id-0' has a feature that is NaN or infinite"),
        ({"x": np.full((20, 3), 1j)}, r"the features have type complex128; expected real numbers"),
        ({"x": np.full((20, 3), "a")}, r"the features have type <U1"),
        ({"y": np.zeros(20)}, r"the labels have type float64; expected whole numbers from 0, or class names"),
        ({"y": np.arange(20) - 1}, r"labels span -1\.\.18"),
        ({"y": np.array([["a"] * 20])}, r"labels of shape \(1, 20\)"),
        ({"classes": np.array(["a"])}, r"only one class"),
        ({"classes": np.array(["a", "b"]), "y": np.arange(20)}, r"labels span 0\.\.19; expected 0\.\.1"),
    ],
)
def test_wrong_npz_files(tmp_path: Path, change: dict[str, object], message: str) -> None:
    arrays = {name: value for name, value in (good() | change).items() if value is not None}
    save(tmp_path, **arrays)
    with pytest.raises(DataError, match=message):
        load_records(NPZ, tmp_path)


def test_npz_without_ids_of_its_own(tmp_path: Path) -> None:
    arrays = good()
    del arrays["ids"]
    save(tmp_path, **arrays)
    full = load_records(replace(NPZ, ids="content"), tmp_path).records
    save(tmp_path, **{name: np.asarray(values)[3:] for name, values in arrays.items()})
    less = load_records(replace(NPZ, ids="content"), tmp_path).records
    assert less.digest == full.select(less.ids).digest
    save(tmp_path, x=np.zeros((4, 2)), y=np.zeros(3))
    with pytest.raises(DataError, match=r"labels of shape \(3,\); expected one row of features and one label"):
        load_records(replace(NPZ, ids="content"), tmp_path)


def test_cifar10_as_it_lies_there(data_folder: Path, tmp_path: Path) -> None:
    source = data_folder / "cifar10" / "train.npz"
    if not source.is_file():
        pytest.skip("CU_CERT_DATA holds no cifar10/train.npz")
    records = load_records(DataConfig(source=str(source)), tmp_path).records
    assert records.x.shape == (5000, 3072)
    assert records.ids[0].endswith(".png")


def test_npz_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"d\.npz: cannot be read \(No such file"):
        load_records(NPZ, tmp_path)
    save(tmp_path, **good())
    whole = (tmp_path / "d.npz").read_bytes()
    for damaged in (b"", b"junk", whole[:-30], whole[:200] + b"\xff" * 40 + whole[240:]):
        (tmp_path / "d.npz").write_bytes(damaged)
        with pytest.raises(DataError, match=r"d\.npz: is not an \.npz archive"):
            load_records(NPZ, tmp_path)
    (tmp_path / "d.npz").unlink()
    (tmp_path / "d.npz").mkdir()
    with pytest.raises(DataError, match=r"d\.npz: is a folder"):
        load_records(NPZ, tmp_path)


@given(st.binary(max_size=300), st.integers(0, 700))
@settings(max_examples=40)
def test_a_damaged_npz_never_gives_another_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    folder = tmp_path_factory.mktemp("npz")
    save(folder, **good())
    whole = (folder / "d.npz").read_bytes()
    (folder / "d.npz").write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    with contextlib.suppress(DataError):  # any other error would fail the test, and so would a warning
        load_records(NPZ, folder)


# real data ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    not (Path(os.environ.get("CU_CERT_DATA", "")) / "adult" / "adult.data").is_file()
    or "CU_CERT_DATA" not in os.environ,
    reason="CU_CERT_DATA does not name a folder with adult/adult.data",
)
def test_adult(tmp_path: Path) -> None:
    columns = ["age", "workclass", "fnlwgt", "education", "education_num", "marital", "occupation", "relationship"]
    columns += ["race", "sex", "gain", "loss", "hours", "country", "income"]
    source = (Path(os.environ["CU_CERT_DATA"]) / "adult" / "adult.data").read_text().strip().split("\n")[:4000]
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["id", *columns])
    for number, line in enumerate(source):
        table.writerow([f"person-{number:05d}", *(cell.strip() for cell in line.split(","))])
    (tmp_path / "adult.csv").write_text(text.getvalue())
    from cu_cert.data._guess import guess

    found = guess(tmp_path / "adult.csv", tmp_path).config
    assert (found.id_column, found.label_column, found.classes) == ("id", "income", ("<=50K", ">50K"))
    assert set(found.numeric) == {"age", "fnlwgt", "education_num", "gain", "loss", "hours"}
    data = load_records(found, tmp_path)
    assert found.missing == ("?",)
    assert data.records.x.shape == (4000, 6 * (1 + 1) + 8 * (8 + 1))
    assert 0.2 < data.records.y.mean() < 0.3
