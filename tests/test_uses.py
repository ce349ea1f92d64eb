"""The ledger of uses: who is lent which originals, and that no coin of one request is thrown twice over one of them."""

import json
import multiprocessing
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cu_cert import uses
from cu_cert.errors import DataError
from cu_cert.secrets_store import Secrets
from cu_cert.uses import Ledger, Use, next_originals
from cu_certificates.check.strict import canonical
from cu_certificates.errors import UsageError

RELEASE, OTHER = "aa" * 32, "bb" * 32


def ledger(folder: Path, *, keep: bool = True) -> Ledger:
    return Ledger(Secrets(folder / "private", keep=keep))


def use(plan: int, *tokens: str, release: str = RELEASE, closed: bool = False, own: bool = False) -> Use:
    return Use(
        plan=f"{plan:064x}",
        release=release,
        fitted=f"{len(tokens):064x}",
        pilots=4,
        own=own,
        tokens=None if closed else tokens,
    )


def entered(books: Ledger, wanted: Use, needed: int) -> tuple[int, ...]:
    return books.enter(wanted, needed, lambda _: False).judged


# Who is lent what


def test_requests_without_a_common_record_share_and_others_do_not(tmp_path: Path) -> None:
    books = ledger(tmp_path)
    assert entered(books, use(1, "a", "b"), 3) == (0, 1, 2)
    assert entered(books, use(2, "c"), 5) == (0, 1, 2, 3, 4)
    # An overlap with the first only: what the second alone was lent is free.
    assert entered(books, use(3, "b", "x"), 3) == (3, 4, 5)
    # A second attempt, or another method, on the same request.
    assert entered(books, use(4, "a", "b"), 4) == (6, 7, 8, 9)
    assert entered(books, use(5, "y"), 2) == (0, 1)
    # An overlap with everything.
    assert entered(books, use(6, "a", "c", "x"), 2) == (10, 11)


def test_the_same_plan_gets_the_same_whatever_came_between(tmp_path: Path) -> None:
    books = ledger(tmp_path)
    first = books.enter(use(1, "a"), 3, lambda _: False)
    entered(books, use(2, "a"), 3)
    assert books.enter(use(1, "a"), 3, lambda _: True) == first
    assert books.preview(use(1, "a"), 3) == first
    assert len(books.read()) == 2


def test_releases_do_not_disturb_each_other(tmp_path: Path) -> None:
    books = ledger(tmp_path)
    assert entered(books, use(1, "a"), 3) == (0, 1, 2)
    assert entered(books, use(2, "a", release=OTHER), 3) == (0, 1, 2)
    # One plan over two releases of the same training records, whose held-out ones differ.
    assert entered(books, use(1, "a", release=OTHER), 2) == (3, 4)


def test_a_padded_request_tells_nobody_whom_it_overlaps(tmp_path: Path) -> None:
    books = ledger(tmp_path)
    assert entered(books, use(1, "a"), 3) == (0, 1, 2)
    # What it is lent does not depend on its ids, and later requests do not depend on its ids either.
    assert entered(books, use(2, closed=True), 2) == (3, 4)
    assert entered(books, use(3, "b"), 4) == (0, 1, 2, 5)
    assert entered(books, use(4, closed=True), 1) == (6,)


def test_a_plan_that_makes_its_own_originals_is_lent_none(tmp_path: Path) -> None:
    books = ledger(tmp_path)
    assert entered(books, use(1, "a", own=True), 5) == ()
    assert entered(books, use(2, "a"), 2) == (0, 1)
    # Switching the key afterwards throws no second coin over other models: the plan keeps what it has.
    again = books.enter(use(1, "a"), 5, lambda _: False)
    assert again.own
    assert again.judged == ()
    assert books.enter(use(2, "a", own=True), 2, lambda _: False).judged == (0, 1)


def test_more_shadows_for_a_plan_are_entered_and_fewer_are_not(tmp_path: Path) -> None:
    books = ledger(tmp_path)
    for shadows, kept in ((8, 8), (4, 8), (16, 16)):
        assert books.enter(replace(use(1, "a"), shadows=shadows), 2, lambda _: False).shadows == kept
    assert [one.shadows for one in books.read()] == [16]


IDS = st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=4)


@given(st.lists(st.tuples(IDS, st.integers(0, 6), st.booleans()), max_size=12))
def test_law_no_original_meets_one_record_in_two_plans(requests: list[tuple[set[str], int, bool]]) -> None:
    lent: list[tuple[Use, set[str]]] = []
    for number, (ids, needed, closed) in enumerate(requests):
        wanted = use(number, *sorted(ids), closed=closed)
        judged = next_originals([one for one, _ in lent], RELEASE, wanted.tokens, needed)
        assert len(judged) == needed
        assert list(judged) == sorted(set(judged))
        for other, met in lent:
            if met & ids or closed or other.closed:
                assert not set(judged) & set(other.judged)
        # None is passed over that would have been allowed.
        for free in set(range(max(judged, default=0))) - set(judged):
            assert any(free in other.judged and (met & ids or closed or other.closed) for other, met in lent)
        lent.append((replace(wanted, judged=judged), ids))


# The file


def test_the_file_is_its_owners_and_holds_no_id(tmp_path: Path) -> None:
    books = ledger(tmp_path)
    ids = ["jane.doe@example.org", "4711"]
    tokens = books.secrets.use_tokens(ids)
    assert tokens == books.secrets.use_tokens(ids[::-1])
    entered(books, use(1, *tokens), 3)
    assert stat.S_IMODE(books.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(books.path.parent.stat().st_mode) == 0o700
    text = books.path.read_text()
    assert "jane" not in text
    assert '"4711"' not in text
    # Another project's key gives other hashes.
    assert not set(tokens) & set(ledger(tmp_path / "other").secrets.use_tokens(ids))


def test_a_dry_run_enters_nothing(tmp_path: Path) -> None:
    dry = ledger(tmp_path, keep=False)
    assert entered(dry, use(1, *dry.secrets.use_tokens(["a"])), 2) == (0, 1)
    assert dry.preview(use(1, "a"), 2).judged == (0, 1)
    assert list(tmp_path.rglob("*")) == []


def test_forgetting_a_request_takes_its_hashes_and_closes_what_it_was_lent(tmp_path: Path) -> None:
    books = ledger(tmp_path)
    entered(books, use(1, "a", "b"), 2)
    entered(books, use(2, "c"), 2)
    entered(books, use(3, "a", "z"), 2)
    assert books.forget(["b"]) == 1
    assert books.forget(["b"]) == 0
    assert [one.tokens for one in books.read()] == [None, ("c",), ("a", "z")]
    # Whom 0 and 1 may serve can no longer be told, so they serve nobody new; their plan still has them.
    assert entered(books, use(4, "q"), 2) == (2, 3)
    assert entered(books, use(1, "a", "b"), 2) == (0, 1)
    assert ledger(tmp_path / "none").forget(["a"]) == 0


def test_a_ledger_that_is_too_long_forgets_the_oldest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    books = ledger(tmp_path)
    long = [f"{number:016x}" for number in range(40)]
    for number in range(4):
        entered(books, use(number, *long[10 * number : 10 * number + 10]), 2)
    one_more = len(use(4, "e").to_line())
    monkeypatch.setattr(uses, "MAX_LEDGER", books.path.stat().st_size + one_more - 50)
    entered(books, use(4, "e"), 2)
    assert [one.closed for one in books.read()] == [True, False, False, False, False]
    assert books.path.stat().st_size <= uses.MAX_LEDGER
    # The first plan's two originals were also those of all others, which had no record in common with it.
    assert entered(books, use(5, "f"), 2) == (2, 3)


GOOD = json.loads(use(1, "a").to_line())


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"{}\n", "fields"),
        (use(1, "a").to_line(), "the file was cut"),
        (use(1, "a").to_line() + b"\n" + use(1, "b").to_line() + b"\n", "a plan stands twice"),
        (json.dumps(GOOD).encode() + b"\n", "not canonical JSON"),
        *(
            (canonical(GOOD | change) + b"\n", found)
            for change, found in (
                ({"kind": "plan"}, "kind"),
                ({"plan": "A" * 64}, "plan"),
                ({"judged": [[3, 3]]}, "ascending ranges"),
                ({"judged": [[0, 2], [1, 3]]}, "ascending ranges"),
                ({"judged": [[0, 10**8]]}, "ascending ranges"),
                ({"judged": [[0, True]]}, "pairs of whole numbers"),
                ({"judged": [0]}, "pairs of whole numbers"),
                ({"judged": [[0, 1], [1, 2]]}, "not canonical JSON"),
                ({"tokens": "a"}, "tokens"),
                ({"older": 1}, "older"),
                ({"pilots": -1}, "pilots"),
                ({"extra": 1}, "fields"),
            )
        ),
    ],
)
def test_a_damaged_ledger_stops_the_audit(tmp_path: Path, data: bytes, found: str) -> None:
    books = ledger(tmp_path)
    books.path.parent.mkdir()
    books.path.write_bytes(data)
    with pytest.raises(DataError, match=found) as raised:
        entered(books, use(9, "z"), 1)
    assert str(books.path) in str(raised.value)
    assert "restore it from a copy" in str(raised.value)
    assert raised.value.exit_code == 2
    assert books.path.read_bytes() == data


def test_a_disk_that_is_full_enters_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    books = ledger(tmp_path)
    entered(books, use(1, "a"), 1)
    before = books.path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UsageError, match="the disk is full"):
        entered(books, use(2, "a"), 1)
    assert books.path.read_bytes() == before
    assert sorted(path.name for path in books.path.parent.iterdir()) == ["uses.jsonl", "uses.jsonl.lock"]


def _enter(folder: Path, plans: Sequence[int]) -> None:
    books = ledger(folder)
    for plan in plans:
        entered(books, use(plan, "same"), 3)


def test_audits_at_once_are_not_lent_the_same(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    crews = [context.Process(target=_enter, args=(tmp_path, range(10 * crew, 10 * crew + 10))) for crew in range(4)]
    for crew in crews:
        crew.start()
    for crew in crews:
        crew.join()
        assert crew.exitcode == 0
    lent = [one.judged for one in ledger(tmp_path).read()]
    assert len(lent) == 40
    assert sorted(number for judged in lent for number in judged) == list(range(120))
