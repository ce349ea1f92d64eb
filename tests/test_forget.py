"""Id lists and requests: what is read, and each bad list with file, line and id."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cu_cert.data import Dataset
from cu_cert.errors import DataError
from cu_cert.forget import IdList, ListedId, ResolvedRequest, read_ids, resolve_request
from cu_cert.records import make_records

IDS = [f"r{n}" for n in range(10)]
DATA = Dataset(make_records(IDS, np.eye(10), [n % 2 for n in range(10)], ["a", "b"]), ("r8", "r9"))


def listed(folder: Path, content: str | bytes, name: str = "forget.txt") -> IdList:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_ids(path)


def test_one_id_a_line_with_comments(tmp_path: Path) -> None:
    found = listed(tmp_path, "\ufeff# May\r\nr3\r\n\r\n  r1  \r\n#r2\r\nname with spaces, and a comma\r\n")
    assert found.entries == (ListedId("r3", 2), ListedId("r1", 4), ListedId("name with spaces, and a comma", 6))
    assert found.ids == ("name with spaces, and a comma", "r1", "r3")


def test_a_csv_with_an_id_column(tmp_path: Path) -> None:
    found = listed(tmp_path, '# export\nticket,id\n812,r3\n\n813,"a, b"\n814,#5\n', "forget.csv")
    assert found.entries == (ListedId("r3", 3), ListedId("a, b", 5), ListedId("#5", 6))


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "f.txt", r"f\.txt: names no id; expected one id a line"),
        ("# only a comment\n\n", "f.txt", r"f\.txt: names no id"),
        ("r1\nr2\nr1\n", "f.txt", r"f\.txt:3: id 'r1' stands twice \(first on line 1\); remove one"),
        (b"r1\ncaf\xe9\n", "f.txt", r"f\.txt:2: byte 6 is not UTF-8; .*Save the file as UTF-8"),
        ("r1\n".encode("utf-16"), "f.txt", r"f\.txt:1: byte 0 is not UTF-8"),
        ("r1\nr2\n".encode("utf-16-le"), "f.txt", r"f\.txt:1: holds a NUL character"),
        ("id\n", "f.csv", r"f\.csv: names no id"),
        ("name\nr1\n", "f.csv", r"f\.csv:1: the header has columns name; expected one column id"),
        ("id,id\nr1,r1\n", "f.csv", r"f\.csv:1: the header has columns id, id; expected one"),
        ("n,id\n1,r1\n2\n", "f.csv", r"f\.csv:3: no id in this row; expected one in column 2"),
        ("n,id\n1,\n", "f.csv", r"f\.csv:2: no id in this row"),
        ('id\n"r1\n', "f.csv", r"f\.csv:\d: not CSV"),
    ],
)
def test_wrong_lists(tmp_path: Path, content: str | bytes, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        listed(tmp_path, content, name)


def test_lists_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.txt: cannot be read \(No such file"):
        read_ids(tmp_path / "no.txt")
    with pytest.raises(DataError, match=r"is a folder; expected a list with one id a line"):
        read_ids(tmp_path)


def test_a_request_is_sorted(tmp_path: Path) -> None:
    found = resolve_request(listed(tmp_path, "r5\nr0\nr3\n"), DATA, allow_missing=False)
    assert found == ResolvedRequest(ids=("r0", "r3", "r5"), missing=0)


def test_missing_ids_are_counted_only_when_allowed(tmp_path: Path) -> None:
    ids = listed(tmp_path, "r5\nx\nr0\ny\n")
    assert resolve_request(ids, DATA, allow_missing=True) == ResolvedRequest(ids=("r0", "r5"), missing=2)
    with pytest.raises(
        DataError, match=r"forget\.txt:2: id 'x' is not in the data; so is 'y' on line 4\. .*--allow-mis"
    ):
        resolve_request(ids, DATA, allow_missing=False)


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("r1\nr9\n", r"forget\.txt:2: id 'r9' is held out, so no model"),
        ("\n".join(IDS[:8]), r"forget\.txt:8: with id 'r7' the list names all 8 training records.*Delete the model"),
        ("x1\nx2\n", r"forget\.txt:1: id 'x1' is not in the data"),
    ],
)
def test_wrong_requests(tmp_path: Path, content: str, message: str, allow: bool) -> None:
    with pytest.raises(DataError, match=message):
        resolve_request(listed(tmp_path, content), DATA, allow_missing=allow)


def test_a_slip_of_the_pen_gets_a_hint_and_a_long_list_is_cut(tmp_path: Path) -> None:
    records = make_records([f"digit-{n:04d}" for n in range(10)], np.eye(10), [0, 1] * 5, ["a", "b"])
    content = "digit-00003\n" + "\n".join(f"x{n}" for n in range(9))
    with pytest.raises(DataError, match=r":1: id 'digit-00003' .*did you mean 'digit-0003'.*on line 5 and 5 more"):
        resolve_request(listed(tmp_path, content), Dataset(records, ("digit-0009",)), allow_missing=False)


def test_a_request_checks_itself() -> None:
    for ids in ((), ("b", "a"), ("a", "a")):
        with pytest.raises(DataError, match="strictly ascending"):
            ResolvedRequest(ids=ids)
    with pytest.raises(DataError, match="-1 missing"):
        ResolvedRequest(ids=("a",), missing=-1)


@given(st.permutations(IDS[:6]))
def test_the_order_of_the_list_means_nothing(order: list[str]) -> None:
    ids = IdList(Path("f.txt"), tuple(ListedId(name, line) for line, name in enumerate(order, start=1)))
    assert resolve_request(ids, DATA, allow_missing=False).ids == tuple(sorted(order))
