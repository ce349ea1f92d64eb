"""The scores file: what any framework may hand in, read strictly."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cu_attacks._scores import POOLS, Scores, read_scores, write_scores
from cu_attacks._types import AttackError


def columns(**changes: Any) -> dict[str, Any]:
    """Two models, two records to go and two others, as a long table."""
    table: dict[str, Any] = {
        "model": ["a"] * 4 + ["b"] * 4,
        "pool": ["unlearned"] * 4 + ["retrained"] * 4,
        "record": ["r1", "r2", "n1", "n2"] * 2,
        "group": ["request", "request", "never", "never"] * 2,
        "value": [1.0, 2.0, 0.5, 0.7, 0.1, 0.2, 0.4, 0.6],
    }
    return {name: np.array(column) for name, column in (table | changes).items() if column is not None}


def saved(folder: Path, **changes: Any) -> Path:
    path = folder / "scores.npz"
    np.savez(path, **columns(**changes))
    return path


@pytest.mark.parametrize("ending", [".npz", ".parquet"])
def test_what_is_written_is_read(ending: str, tmp_path: Path) -> None:
    path, values = tmp_path / f"scores{ending}", np.arange(12.0).reshape(3, 4)
    values[1, 2] = np.nan
    write_scores(
        path,
        values,
        models=["m2", "m0", "m1"],
        pools=["retrained", "unlearned", "retrained"],
        records=["b", "a", "d", "c"],
        request=[True, True, False, False],
        digests=["00" * 32, "11" * 32, "22" * 32],
    )
    found = read_scores(path)
    assert (found.models, found.records) == (("m0", "m1", "m2"), ("a", "b", "c", "d"))
    assert found.pools == ("unlearned", "retrained", "retrained")
    assert found.digests == ("11" * 32, "22" * 32, "00" * 32)
    assert found.request.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(found.values, values[[1, 2, 0]][:, [1, 0, 3, 2]])
    assert [found.usable(row) for row in range(3)] == [False, True, True]
    assert (found.signal, found.pool("retrained")) == ("margin", [1, 2])


def test_the_signal_is_relative_to_records_that_no_model_saw(tmp_path: Path) -> None:
    found = read_scores(saved(tmp_path))
    np.testing.assert_allclose(found.memory(0), [1.0 - 0.6, 2.0 - 0.6])
    alone = {name: column[:2] for name, column in columns().items()}
    np.savez(tmp_path / "alone.npz", **alone)
    np.testing.assert_allclose(read_scores(tmp_path / "alone.npz").memory(0), [1.0, 2.0])


def test_models_without_digests_get_distinct_ones(tmp_path: Path) -> None:
    same = read_scores(saved(tmp_path, value=[1.0, 2.0, 3.0, 4.0] * 2))
    assert len(set(same.digests)) == 2  # equal values, two models


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(8)))
def test_the_order_of_rows_means_nothing(order: list[int]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        straight = read_scores(saved(Path(folder)))
        mixed = read_scores(saved(Path(folder), **{name: column[order] for name, column in columns().items()}))
    assert (straight.models, straight.records, straight.digests) == (mixed.models, mixed.records, mixed.digests)
    np.testing.assert_array_equal(straight.values, mixed.values)


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("a column too few", {"group": None}, "no column group; expected model, pool, record, group, value"),
    ("columns of two lengths", {"value": [1.0]}, "expected columns of one equal length"),
    ("text for numbers", {"value": ["1"] * 8}, "column value is of type <U1; expected numbers"),
    ("numbers for text", {"model": [1] * 8}, "column model is of type int64; expected text"),
    ("an unknown pool", {"pool": ["forgotten"] * 8}, "pool 'forgotten'; expected one of unlearned"),
    ("an unknown group", {"group": ["in"] * 8}, "group 'in'; expected one of request, never"),
    ("a model in two pools", {"pool": ["unlearned", "retrained"] * 4}, "model 'a' stands in two pools"),
    ("a record in two groups", {"group": ["request"] * 4 + ["never"] * 4}, "stands in two groups"),
    ("a pair twice", {"record": ["r1", "r1", "n1", "n2"] * 2}, "model 'a' with record 'r1' stands 2 times"),
    ("a pair that is missing", {"record": ["r1", "r2", "n1", "n2", "r1", "r2", "n1", "n3"]}, "is missing; every model"),
    ("nothing to go", {"group": ["never"] * 8}, "no record of the group 'request'"),
    ("two signals", {"signal": ["loss", "margin"] * 4}, "signals loss, margin; name the one to take"),
    ("a digest that is none", {"digest": ["abc"] * 8}, "digest of model 'a' is 'abc'; expected 64"),
    ("two digests of a model", {"digest": ["00" * 32, "11" * 32] * 4}, "one model has two digests"),
]


@pytest.mark.parametrize(("changes", "expected"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_table_that_is_wrong(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(AttackError, match=re.escape(expected)):
        read_scores(saved(tmp_path, **changes))


def test_the_signal_that_is_asked_for(tmp_path: Path) -> None:
    twice = {name: np.concatenate([column, column]) for name, column in columns().items()}
    np.savez(tmp_path / "two.npz", **twice | {"signal": np.repeat(["loss", "margin"], 8)})
    assert read_scores(tmp_path / "two.npz", signal="loss").signal == "loss"
    with pytest.raises(AttackError, match="no signal 'entropy'; it holds loss, margin"):
        read_scores(tmp_path / "two.npz", signal="entropy")


def test_files_that_are_none(tmp_path: Path) -> None:
    for name, content in (("a.npz", b"no archive"), ("a.parquet", b"no parquet"), ("empty.npz", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AttackError, match=r"cannot be read as (\.npz|parquet)"):
            read_scores(tmp_path / name)
    for name in ("absent.npz", "absent.parquet"):
        with pytest.raises(AttackError, match="no such file"):
            read_scores(tmp_path / name)
    with pytest.raises(AttackError, match=r"ending '.csv'; expected .npz or .parquet"):
        read_scores(tmp_path / "a.csv")


def test_nothing_is_written_that_could_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    good: dict[str, Any] = {"models": ["a"], "pools": ["unlearned"], "records": ["r"], "request": [True]}
    for change, expected in (
        ({"pools": ["other"]}, "pool 'other'"),
        ({"records": ["r", "s"]}, r"shape \(1, 1\) with 1 models"),
        ({"request": [False]}, "no record of the group"),
        ({"digests": ["00" * 32] * 2}, "2 for 1 models"),
    ):
        with pytest.raises(AttackError, match=expected):
            write_scores(path, [[1.0]], **good | change)
    with pytest.raises(AttackError, match=r"ending '.h5'"):
        write_scores(tmp_path / "s.h5", [[1.0]], **good)
    assert list(tmp_path.iterdir()) == []
    write_scores(path, [[1.0]], **good)
    assert isinstance(read_scores(path), Scores)
    assert set(POOLS) >= {"unlearned", "retrained", "original", "rerun", "subject", "reference"}
