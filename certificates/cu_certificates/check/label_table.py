"""Records of one model, and the permutation test over them: who is in the request, shuffled within each class.

Under the null nothing but chance tells the request's records from never-trained ones of the same class, so the true
assignment of the word "request" is one more draw among B random ones, and

    p = (1 + #{b : assignment b looks at least as unusual as the true one}) / (B + 1)

is exact (Phipson and Smyth 2010, arXiv 1603.05766). How unusual an assignment looks is one number, made of several
statistics by Tippett's rule over the same B + 1 assignments (Westfall and Young 1993; Pesarin and Salmaso 2010): its
smallest rank over the statistics, ties broken by the next smallest one, and so on. So one p-value serves all of them
and no alpha is split. All arithmetic is on integers.
"""

import struct
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import shake_256
from math import lcm
from typing import Final

from .coins import derive
from .fields import Node
from .strict import MAX_INT, Rejected
from .tables import opened

MAX_PERMUTATIONS: Final = 999_999
MAX_DRAWS: Final = 10_000_000
"""More draws than this (records of the request times permutations) are refused: they would only cost time."""
MOST_COLUMNS: Final = 8
MOST_NEIGHBOURS: Final = 8

_UNIT: Final = 10**9
_WORD: Final = 2**32

Statistic = Callable[[Sequence[int]], int]
"""A statistic of one assignment: positions of the records that it calls the request -> an integer, large is unusual."""


def permutation_key(seed: bytes, plan_digest: str, nonce: str) -> bytes:
    """Return the key of all random assignments, from the committed audit seed and the plan's digest."""
    return derive(seed, "permute", plan_digest, nonce, "labels")


def arrangements(strata: Sequence[int], request: Sequence[bool], most: int = 10**9) -> int:
    """Return in how many ways the request can be assigned within the strata; counting stops at ``most``."""
    total = 1
    for members, take in _groups(strata, request):
        ways = 1
        for step in range(min(take, len(members) - take)):
            ways = ways * (len(members) - step) // (step + 1)
            if total * ways >= most:
                return most
        total *= ways
    return total


def _groups(strata: Sequence[int], request: Sequence[bool]) -> list[tuple[list[int], int]]:
    """Return the positions of each stratum, in the order of the strata, and how many of them are in the request."""
    members: dict[int, list[int]] = {}
    for position, stratum in enumerate(strata):
        members.setdefault(stratum, []).append(position)
    return [(found, sum(request[position] for position in found)) for _, found in sorted(members.items())]


def assignments(
    strata: Sequence[int], request: Sequence[bool], key: bytes, permutations: int
) -> Iterator[Sequence[int]]:
    """Yield the true assignment, then ``permutations`` random ones, each as the positions that it calls the request.

    Assignment b is the first part of a Fisher-Yates shuffle of each stratum, driven by the 32-bit big-endian words of
    SHAKE-256(key, b as 8 bytes). A word that would favour a position is skipped, so all assignments within the strata
    are equally likely.

    Args:
        strata: The stratum of each record.
        request: Whether each record is in the request.
        key: What :func:`permutation_key` returns.
        permutations: B.
    """
    yield [position for position, inside in enumerate(request) if inside]
    plans = []
    for members, take in _groups(strata, request):
        bounds = [(first, len(members) - first) for first in range(take)]
        plans.append((members, take, [(first, size, _WORD - _WORD % size) for first, size in bounds]))
    count = sum(take for _, take, _ in plans)
    for number in range(permutations):
        words = _words(key + number.to_bytes(8, "big"), count + 8)
        chosen: list[int] = []
        for members, take, draws in plans:
            pool = members.copy()
            for first, size, limit in draws:
                word = next(words)
                while word >= limit:
                    word = next(words)
                other = first + word % size
                pool[first], pool[other] = pool[other], pool[first]
            chosen += pool[:take]
        yield chosen


def _words(key: bytes, count: int) -> Iterator[int]:
    """Yield 32-bit words without end; ``count`` says how many are expected to be enough."""
    given = 0
    while True:
        # A longer output of SHAKE-256 starts with the shorter one.
        data = shake_256(key).digest(4 * count)
        yield from struct.unpack(f">{count - given}I", data[4 * given :])
        given, count = count, 2 * count


def mean_statistic(values: Sequence[int], strata: Sequence[int], request: Sequence[bool]) -> Statistic:
    """Return |sum over the request - its mean over all assignments|, times a constant that makes it an integer."""
    groups = _groups(strata, request)
    unit = lcm(*(len(members) for members, _ in groups))
    expected = sum(take * sum(values[m] for m in members) * (unit // len(members)) for members, take in groups)
    get = values.__getitem__
    return lambda chosen: abs(unit * sum(map(get, chosen)) - expected)


def tail_statistic(values: Sequence[int]) -> Statistic:
    """Return the sum of Savage (1956) scores, which weigh the highest records most.

    A record with g others strictly above it among n weighs sum_{j = g + 1}^{n} 1/j, about ln(n / (g + 1)).
    """
    above, size = _above(values), len(values)
    reciprocal = [_UNIT // place for place in range(1, size + 1)]
    total, weights = 0, [0] * size
    for place in range(size - 1, -1, -1):
        total += reciprocal[place]
        weights[place] = total
    get = [weights[place] for place in above].__getitem__
    return lambda chosen: sum(map(get, chosen))


def extreme_statistic(values: Sequence[int]) -> Statistic:
    """Return the rank of the highest record: it decides only when the request is a small share of all records."""
    get = [len(values) - place for place in _above(values)].__getitem__
    return lambda chosen: max(map(get, chosen))


def edge_statistic(near: Sequence[Sequence[int]]) -> Statistic:
    """Return how many nearest neighbours of the request's records are in the request (Schilling 1986, JASA 81)."""

    def edges(chosen: Sequence[int]) -> int:
        inside = set(chosen)
        return sum(neighbour in inside for position in chosen for neighbour in near[position])

    return edges


def _above(values: Sequence[int]) -> list[int]:
    """Return how many values lie strictly above each one."""
    ordered = sorted(-value for value in values)
    return [bisect_left(ordered, -value) for value in values]


def score_statistics(values: Sequence[int], strata: Sequence[int], request: Sequence[bool]) -> list[Statistic]:
    """Return what decides: the mean on both sides, both tails, and the single worst record on both sides."""
    low = [-value for value in values]
    return [
        mean_statistic(values, strata, request),
        tail_statistic(values),
        tail_statistic(low),
        extreme_statistic(values),
        extreme_statistic(low),
    ]


def blind_statistics(
    columns: Sequence[Sequence[int]],
    near: Sequence[Sequence[int]],
    strata: Sequence[int],
    request: Sequence[bool],
) -> list[Statistic]:
    """Return what the negative control looks at: mean and both tails of each column, and the neighbours.

    Args:
        columns: Numbers that no audited model made, one list of all records each.
        near: Positions of each record's nearest neighbours.
        strata: The stratum of each record.
        request: Whether each record is in the request.
    """
    found = [edge_statistic(near)]
    for values in columns:
        low = [-value for value in values]
        found += [mean_statistic(values, strata, request), tail_statistic(values), tail_statistic(low)]
    return found


def p_values(
    tests: Mapping[str, Sequence[Statistic]], assigned: Iterable[Sequence[int]]
) -> tuple[dict[str, Fraction], dict[str, bool]]:
    """Judge the first assignment among all of them, by several tests over the same assignments.

    Args:
        tests: The statistics of each test.
        assigned: The true assignment, then the random ones.

    Returns:
        The p-value of each test, and whether any of its statistics takes more than one value.
    """
    values: dict[str, list[list[int]]] = {name: [[] for _ in statistics] for name, statistics in tests.items()}
    pairs = [
        (statistic, column)
        for name, statistics in tests.items()
        for statistic, column in zip(statistics, values[name], strict=True)
    ]
    for chosen in assigned:
        for statistic, column in pairs:
            column.append(statistic(chosen))
    able = {name: any(len(set(column)) > 1 for column in columns) for name, columns in values.items()}
    return {name: combined_p(columns) for name, columns in values.items()}, able


def combined_p(columns: Sequence[Sequence[int]]) -> Fraction:
    """Return the exact p-value of the first assignment.

    Args:
        columns: One list a statistic, with one value an assignment, the true one first; large is unusual.
    """
    ranks: list[list[int]] = []
    for values in columns:
        ordered = sorted(values)
        place = {value: len(ordered) - bisect_left(ordered, value) for value in set(values)}
        ranks.append([place[value] for value in values])
    looks = [sorted(each) for each in zip(*ranks, strict=True)]
    return Fraction(sum(look <= looks[0] for look in looks), len(looks))


@dataclass(frozen=True)
class LabelTable:
    """The records of the artifact question on one model.

    Args:
        file: SHA-256 of the audited file.
        strata: The stratum of each record.
        request: Whether each record is in the request.
        scores: The audited model's score of each record.
        originals: The original model's, empty when it was not given.
        blind: Numbers of each record that no audited model made, by column.
        near: Positions of each record's nearest neighbours.
        key: Of the random assignments.
        permutations: B.
    """

    file: str
    strata: tuple[int, ...]
    request: tuple[bool, ...]
    scores: tuple[int, ...]
    originals: tuple[int, ...]
    blind: tuple[tuple[int, ...], ...]
    near: tuple[tuple[int, ...], ...]
    key: bytes
    permutations: int

    @property
    def sizes(self) -> tuple[int, int]:
        """Records of the request, and never-trained ones."""
        inside = sum(self.request)
        return inside, len(self.request) - inside

    @property
    def judged(self) -> tuple[dict[str, Fraction], dict[str, bool]]:
        """What :func:`p_values` returns for ``score``, ``blind`` and, when the original was given, ``original``."""
        return _judged(self)


@lru_cache(maxsize=4)
def _judged(table: LabelTable) -> tuple[dict[str, Fraction], dict[str, bool]]:
    strata, request = table.strata, table.request
    tests = {
        "score": score_statistics(table.scores, strata, request),
        "blind": blind_statistics(table.blind, table.near, strata, request),
    }
    if table.originals:
        tests["original"] = score_statistics(table.originals, strata, request)
    return p_values(tests, assignments(strata, request, table.key, table.permutations))


def read_labels(lines: Sequence[Node], name: str, *, plan: Node, plan_digest: str) -> LabelTable:
    """Read ``labels.jsonl``: an opening line, a subject line, then one line a record, in the one sorted order.

    The order is by stratum, then by the record's numbers, and never by group, so neither a record's identity nor a
    prover's choice is in it, and the same numbers always meet the same random assignments.

    Args:
        lines: The parsed lines.
        name: The file's name, for messages.
        plan: The parsed plan.
        plan_digest: P.

    Raises:
        Rejected: A line is malformed or out of order, the seed is not the committed one, the groups have not the
            planned sizes, or a stratum lacks one of the two groups.
    """
    artifact = plan.node("artifact")
    permutations = artifact.whole("permutations", 1, MAX_PERMUTATIONS)
    sizes = artifact.whole("request", 1), artifact.whole("never", 1)
    if sizes[0] * permutations > MAX_DRAWS:
        raise Rejected(
            f"{artifact.path}: {sizes[0]} records and {permutations} permutations; expected at most {MAX_DRAWS} draws"
        )
    if sizes[0] > plan.node("request").whole("size", 1):
        raise Rejected(f"{artifact.path}.request: {sizes[0]} records; the request has fewer")
    if len(lines) != 2 + sum(sizes):
        raise Rejected(f"{name}: {len(lines)} lines; expected an opening, a subject and {sum(sizes)} records")
    opening, subject, *records = lines
    opening.text("kind", "opening")
    seed, nonce = opened(opening, plan)
    subject.text("kind", "subject")
    subject.hex("model")
    subject.hex("signals")
    found = [_record(row, len(records)) for row in records]
    if len({(len(one.blind), len(one.original)) for one in found}) != 1:
        raise Rejected(f"{name}: the records differ in how many numbers they have; expected the same fields in each")
    order = [(one.stratum, one.score, one.blind, one.original) for one in found]
    if order != sorted(order):
        raise Rejected(f"{name}: the records are not sorted by stratum and numbers")
    table = LabelTable(
        file=subject.hex("file"),
        strata=tuple(one.stratum for one in found),
        request=tuple(one.request for one in found),
        scores=tuple(one.score for one in found),
        originals=tuple(value for one in found for value in one.original),
        blind=tuple(zip(*(one.blind for one in found), strict=True)),
        near=tuple(one.near for one in found),
        key=permutation_key(seed, plan_digest, nonce),
        permutations=permutations,
    )
    if table.sizes != sizes:
        raise Rejected(f"{name}: {table.sizes[0]} records of the request and {table.sizes[1]} others; planned: {sizes}")
    for members, take in _groups(table.strata, table.request):
        if not 0 < take < len(members):
            what = "never-trained record" if take else "record of the request"
            raise Rejected(f"{name}: stratum {table.strata[members[0]]} holds no {what}: nothing to compare with")
    return table


@dataclass(frozen=True)
class _Record:
    """One line: whether the record is in the request, its stratum and its numbers."""

    request: bool
    stratum: int
    score: int
    original: tuple[int, ...]
    blind: tuple[int, ...]
    near: tuple[int, ...]


def _record(row: Node, size: int) -> _Record:
    row.text("kind", "record")
    blind, near = (_wholes(row, key, limit) for key, limit in (("blind", None), ("near", size)))
    if not 1 <= len(blind) <= MOST_COLUMNS:
        raise Rejected(f"{row.path}.blind: {len(blind)} numbers; expected 1 to {MOST_COLUMNS}")
    if len(set(near)) != len(near) or len(near) > MOST_NEIGHBOURS:
        raise Rejected(f"{row.path}.near: expected at most {MOST_NEIGHBOURS} different positions")
    return _Record(
        request=row.text("group", "request", "never") == "request",
        stratum=row.whole("stratum"),
        score=row.whole("score", -MAX_INT, MAX_INT),
        original=(row.whole("original", -MAX_INT, MAX_INT),) if row.has("original") else (),
        blind=blind,
        near=near,
    )


def _wholes(row: Node, key: str, size: int | None) -> tuple[int, ...]:
    """Return a list of whole numbers: positions below ``size``, or any where that is ``None``."""
    found = row.items(key)
    low, high = (0, size - 1) if size is not None else (-MAX_INT, MAX_INT)
    if not all(isinstance(value, int) and not isinstance(value, bool) and low <= value <= high for value in found):
        raise Rejected(f"{row.path}.{key}: expected whole numbers from {low} to {high}")
    return tuple(found)
