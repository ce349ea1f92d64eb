"""The outcome as one JSON object, as text, and as the tables of ``docs/calibration.md``."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks._measure import machine
from benchmarks.calibration._study import CONFIDENCE, Row

SCHEMA: Final = "cu-cert-calibration/1"
BEGIN: Final = "<!-- tables: begin -->"
END: Final = "<!-- tables: end -->"

Document = Mapping[str, Any]


def document(rows: Iterable[Row], curves: Iterable[Mapping[str, Any]], *, seed: str, small: bool) -> dict[str, Any]:
    """Return the study as JSON values.

    Args:
        rows: Outcomes of the cases.
        curves: Power curves.
        seed: The word that all rows were seeded with.
        small: Whether it was the small form.
    """
    found, power = [row.document() for row in rows], list(curves)
    return {
        "schema": SCHEMA,
        "benchmark": "calibration",
        "what": "synthetic audits with a known truth: how often each statement is wrong, and how often a leak is seen",
        "form": "small" if small else "full",
        "seed": seed,
        "confidence": CONFIDENCE,
        "rows": found,
        "power": power,
        "audits": sum(row["runs"] for row in found) + sum(one["runs"] * len(one["points"]) for one in power),
        "notOk": [row["name"] for row in found if not row["ok"]],
        "seconds": round(sum(one["seconds"] for one in (*found, *power)), 1),
        "machine": machine(),
    }


def read(file: Path) -> dict[str, Any]:
    """Read a study that was written before.

    Args:
        file: JSON, as ``--json`` prints it.

    Raises:
        ValueError: It is none.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{file}: {error}; expected what --json prints") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ValueError(f"{file}: not of schema {SCHEMA}; expected what --json prints")
    return found


def to_json(study: Document) -> str:
    """Return one JSON object."""
    return json.dumps(study, indent=2)


def to_text(study: Document) -> str:
    """Return one line a row, one a curve, and a last one."""
    lines = []
    for row in study["rows"]:
        exact = "" if row["exact"] is None else f", in theory {row['exact']:.4f}"
        counted = f"{row['rejections']} of {row['runs']} = {row['rate']:.4f}, limit {row['limit']:.4f}{exact}"
        lines.append(f"{'ok    ' if row['ok'] else 'NOT OK'} {row['name']}: {counted}")
    lines += [f"{curve['name']}: {_points(curve)}" for curve in study["power"]]
    bad = len(study["notOk"])
    lines.append(
        f"{study['audits']} audits in {study['seconds']:.0f} CPU-seconds ({study['form']} form); "
        + (f"{bad} of {len(study['rows'])} rows NOT OK" if bad else f"all {len(study['rows'])} rows ok")
    )
    return "\n".join(lines)


def _points(curve: Document) -> str:
    return ", ".join(f"{point['effect']:g}: {point['rate']:.3f}" for point in curve["points"])


# --- Markdown --------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Return the lines of a table; columns in ``right`` are numbers."""
    numbers = set(right)
    rule = ["---:" if column in numbers else "---" for column in range(len(heads))]
    return [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]


def _by_test(rows: Sequence[Document]) -> dict[tuple[str, float], list[Document]]:
    found: dict[tuple[str, float], list[Document]] = {}
    for row in rows:
        found.setdefault((row["test"], row["level"]), []).append(row)
    return found


def _summary(rows: Sequence[Document]) -> list[str]:
    cells = []
    for (test, level), own in _by_test(rows).items():
        # Rows differ in how often they ran, so the one nearest to its own limit is shown.
        worst = max(own, key=lambda row: row["rate"] / row["limit"])
        bad = sum(not row["ok"] for row in own)
        cells.append(
            (
                f"`{test}`",
                str(len(own)),
                str(sum(row["runs"] for row in own)),
                f"{level:g}",
                f"{worst['rate']:.4f}",
                f"{worst['limit']:.4f}",
                worst["setting"],
                f"**{bad} not ok**" if bad else "ok",
            )
        )
    heads = ("test", "rows", "audits", "level", "worst rate", "its limit", "where", "")
    return _table(heads, cells, right=range(1, 6))


def _details(rows: Sequence[Document]) -> list[str]:
    cells = [
        (
            f"`{row['name']}`",
            row["setting"],
            row["statement"],
            str(row["runs"]),
            str(row["rejections"]),
            f"{row['rate']:.4f}",
            "" if row["exact"] is None else f"{row['exact']:.4f}",
            f"{row['limit']:.4f}",
            "ok" if row["ok"] else "**not ok**",
        )
        for row in rows
    ]
    heads = ("row", "setting", "counted", "audits", "count", "rate", "in theory", "limit", "")
    return _table(heads, cells, right=range(3, 8))


def _power(curves: Sequence[Document]) -> list[str]:
    lines = []
    groups: dict[tuple[str, tuple[float, ...]], list[Document]] = {}
    for curve in curves:
        points = tuple(point["effect"] for point in curve["points"])
        groups.setdefault((curve["effect"], points), []).append(curve)
    for (effect, points), own in groups.items():
        cells = [
            (f"`{curve['test']}`", curve["setting"], *(f"{point['rate']:.2f}" for point in curve["points"]))
            for curve in own
        ]
        lines += [f"By {effect}:", ""]
        lines += [*_table(("", "setting", *(f"{point:g}" for point in points)), cells, right=range(2, 2 + len(points)))]
        lines.append("")
    return lines


def to_markdown(study: Document) -> str:
    """Return the tables."""
    rows, bad = study["rows"], study["notOk"]
    verdict = f"{len(bad)} rows are not ok: {', '.join(f'`{name}`' for name in bad)}." if bad else "All rows are ok."
    lines = [
        f"{study['audits']} synthetic audits in {len(rows)} rows and {len(study['power'])} power curves, seed word "
        f"`{study['seed']}`, {study['form']} form. {verdict}",
        "",
        "### Errors, by statement",
        "",
        *_summary(rows),
        "",
        "### Power",
        "",
        *_power(study["power"]),
        "### All rows",
        "",
        *_details(rows),
    ]
    return "\n".join(lines)


def put_into(page: str, study: Document) -> str:
    """Return a page with its tables replaced.

    Args:
        page: Markdown with the two marks.
        study: The study.

    Raises:
        ValueError: The marks are missing.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page lacks {BEGIN} or {END}, between which the tables go")
    return f"{head}{BEGIN}\n\n{to_markdown(study)}\n\n{END}{tail}"
