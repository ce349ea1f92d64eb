"""docs/choosing.md: every table is computed again from the routines by which plans are judged."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import count
from pathlib import Path

import pytest

from cu_attacks._conversions import largest_accuracy
from cu_attacks._resolution import onerun_resolution, pools_resolution
from cu_cert.forecast import smallest_sizes
from cu_cert.workorder import work_order
from cu_certificates.check.betting import betting_bound, wanted_wealth, wealth
from cu_certificates.check.power import critical_guesses, smallest_accuracy
from cu_certificates.check.tails import coinflip_bound, group_bound
from cu_certificates.plan import Plan, Sizes, Subject, default_guesses

PAGE = Path(__file__).parent.parent / "docs" / "choosing.md"
NONE, HALF = Fraction(0), Fraction(1, 2)
LEVELS = (Fraction(1, 20), Fraction(1, 40))
TESTED = (NONE, HALF, Fraction(1), Fraction(2))
DASH = "-"


def plan(
    *, slots: int = 64, references: int = 132, pilots: int = 16, eps: Fraction = HALF, detect: int = 2, **more: object
) -> Plan:
    guesses = default_guesses(slots)
    subject = Subject(
        name="model.pt",
        model="11" * 32,
        method="npo",
        parameters={},
        guarantee="none",
        level="EMPIRICAL",
        tested_eps=eps,
        tested_delta=NONE,
    )
    fields: dict[str, object] = {"questions": ("procedure", "artifact"), "alpha_total": LEVELS[0], **more}
    return Plan(
        subjects=(subject,),
        detect_eps=Fraction(detect),
        sizes=Sizes(
            slots=slots,
            guesses=guesses,
            control_slots=slots,
            control_guesses=guesses,
            references=references,
            negatives=8,
            pilots=pilots,
        ),
        request_root="22" * 32,
        request_size=1,
        recipe="33" * 32,
        data="44" * 32,
        **fields,  # type: ignore[arg-type]
    )


def shown(value: Fraction | float | None, digits: int = 2) -> str:
    """Lower bounds round down, accuracies that are needed round up; the caller has put them on the printed grid."""
    return DASH if value is None else f"{float(value):.{digits}f}"


def down(value: Fraction) -> str:
    return shown(Fraction(int(value * 100), 100)) if value else "nothing"


def up(value: Fraction | None) -> str:
    return DASH if value is None else shown(Fraction(-int(-value * 1000 // 1), 1000), 3)


def rows(head: str, cells: Sequence[Sequence[object]]) -> str:
    columns = head.count("|") - 1
    lines = [head, "|" + "---|" * columns, *("| " + " | ".join(map(str, row)) + " |" for row in cells)]
    assert all(line.count("|") == columns + 1 for line in lines)
    return "\n".join(lines) + "\n"


def accuracies() -> str:
    eps = [Fraction(text) for text in ("0", "1/2", "1", "2", "3", "4")]
    return rows(
        "| eps | most right guesses, in 100 |",
        [(value, shown(100 * largest_accuracy(value))) for value in eps],
    )


def procedure() -> str:
    cells = []
    for slots in (16, 32, 64, 128, 256):
        guesses = default_guesses(slots)
        for alpha in LEVELS:
            needed = [critical_guesses(slots, guesses, alpha, eps, NONE) for eps in (NONE, HALF, Fraction(2))]
            seen = [up(None if right is None else smallest_accuracy(guesses, right)) for right in needed]
            best = down(coinflip_bound(slots, guesses, guesses, alpha, NONE))
            cells.append((f"{slots} ({guesses})", 48 + 3 * slots // 2, slots // 2, alpha, best, *seen))
    sizes, shows = "| slots (guesses) | trainings | unlearnings | level ", "| largest eps | seen against 0 "
    return rows(f"{sizes}{shows}| against 1/2 | against 2 |", cells)


def artifact() -> str:
    cells = []
    for references in (64, 99, 132, 199, 399, 999):
        best = [down(group_bound(Fraction(1, references + 1), alpha, NONE)) for alpha in LEVELS]
        cells.append((references, references + 57, *best))
    return rows("| references | trainings | largest eps at 1/20 | at 1/40 |", cells)


def smallest() -> str:
    cells = []
    for eps in TESTED:
        for questions in (("procedure",), ("artifact",), ("procedure", "artifact")):
            least = smallest_sizes(plan(eps=eps, detect=3, questions=questions))
            cells.append((eps, " and ".join(questions), least.get("slots", DASH), least.get("references", DASH)))
    return rows("| `tested_eps` | questions | slots | references |", cells)


def early() -> str:
    cells = []
    for alpha in LEVELS:
        wanted = wanted_wealth(alpha, NONE, 64)
        assert wanted is not None
        fewest = [
            next(n for n in count(1) if wealth("R" * n, eps + Fraction(1, 10**4))[-1] >= wanted) for eps in TESTED
        ]
        best = [down(betting_bound("R" * slots, wanted)) for slots in (16, 32, 64)]
        cells.append((alpha, *fewest, *best))
    return rows(
        "| level | refutes 0 after | 1/2 after | 1 after | 2 after | largest eps after 16 | after 32 | after 64 |",
        cells,
    )


def pooled() -> str:
    cells = []
    for size in (40, 80, 160):
        found = pools_resolution(size // 2, size // 2, alpha=LEVELS[0], tested_eps=HALF)
        none, half = (need.effect for need in found.against)
        cells.append((f"{size} + {size}", down(found.largest_eps), up(none), up(half)))
    return rows("| models handed in | largest eps | seen against 0, from | against 1/2, from |", cells)


def canaries() -> str:
    cells = []
    for size in (100, 300, 1000):
        whole, one = onerun_resolution(size, default_guesses(size), alpha=LEVELS[1], tested_eps=HALF)
        seen = [up(need.effect) for need in whole.against]
        cells.append((size, down(whole.largest_eps), down(one.largest_eps), *seen))
    return rows(
        "| candidates | largest eps, request | largest eps, one record | seen against 0, from | against 1/2, from |",
        cells,
    )


TABLES = (accuracies, procedure, artifact, smallest, early, pooled, canaries)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_a_table_of_the_page_is_what_the_code_computes(table: object) -> None:
    assert callable(table)
    wanted = table()
    assert wanted in PAGE.read_text(encoding="utf-8"), f"docs/choosing.md should hold\n\n{wanted}"


def test_the_trainings_are_those_of_the_work_order() -> None:
    # A slot that is unlearned has one training behind it, that of its original, which is a model of its own.
    for slots in (32, 64):
        for question, wanted in (("procedure", 48 + 3 * slots // 2), ("artifact", 132 + 57)):
            made = plan(slots=slots, questions=(question,))
            trained = [
                sum(task.pool not in ("unlearned", "subject") for task in work_order(made, bytes([seed]) * 32))
                for seed in range(60)
            ]
            # The control takes retrained models of its own where the coins leave it too few of the main run.
            assert wanted <= sum(trained) / len(trained) <= wanted + 3


def test_the_page_names_the_defaults() -> None:
    from cu_cert._tables import AuditConfig

    own, text = AuditConfig(), PAGE.read_text(encoding="utf-8")
    assert (own.slots, own.references, own.pilots, own.controls) == (64, 132, 16, 8)
    assert (own.tested_eps, own.detect_eps, own.alpha) == (HALF, 2, LEVELS[0])
    assert down(group_bound(Fraction(1, 10_000), LEVELS[0], NONE)) in text
    # With the default sizes one reference may rank as high as the file.
    assert group_bound(Fraction(2, own.references + 1), LEVELS[1], NONE) > HALF
    for key in ("reference", "original", "direction", "attempt", "sequential", "tested_delta"):
        assert f"`{key}" in text
        assert hasattr(own, key)
