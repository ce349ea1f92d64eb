"""How often is each statement of the audit floor wrong? Thousands of synthetic audits with a known truth, and power.

python -m benchmarks.calibration [--json] [--small] [--only PATTERN ...] [--seed WORD] [--markdown PAGE] [--from FILE]

Exit code 1 when a row is not ok: it errs more often than its level allows, or less often than theory says.
"""

import argparse
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Final

from benchmarks.calibration import _artifacts, _differences, _intervals, _labels, _pools, _report, _slots
from benchmarks.calibration._study import Case, Curve, remembered, run_case, run_curve

SEED: Final = "calibration"


@cache
def study() -> tuple[tuple[Case, ...], tuple[Curve, ...]]:
    """Return all cases and curves, in the order of the tables."""
    cases = (
        *_slots.coinflips(),
        *_slots.controls(),
        *_slots.sequences(),
        *_artifacts.conformals(),
        *_artifacts.conformal_controls(),
        *_artifacts.oneruns(),
        *_artifacts.drill_controls(),
        *_labels.cases(),
        *_pools.pools(),
        *_pools.controls(),
        *_pools.bounds(),
        *_differences.differences(),
        *_differences.further(),
        *_intervals.upper(),
        *_intervals.curves_of_records(),
        *_intervals.records_of_models(),
    )
    modules = (_slots, _artifacts, _labels, _pools, _differences)
    return cases, tuple(curve for module in modules for curve in module.curves())


def chosen(patterns: Sequence[str]) -> tuple[Sequence[Case], Sequence[Curve]]:
    """Return the cases and curves whose name is one of the patterns, or matches it; all of them for no pattern.

    Raises:
        ValueError: A pattern fits no row.
    """
    cases, curves = study()
    names = [*(case.name for case in cases), *(curve.name for curve in curves)]
    for pattern in patterns:
        if not any(_fits(name, [pattern]) for name in names):
            raise ValueError(f"--only {pattern}: no row is called so; some rows: {', '.join(names[::60])}")
    if not patterns:
        return cases, curves
    return [one for one in cases if _fits(one.name, patterns)], [one for one in curves if _fits(one.name, patterns)]


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def run(patterns: Sequence[str] = (), *, seed: str = SEED, small: bool = False) -> dict[str, Any]:
    """Run the study and return it as JSON values.

    Args:
        patterns: Names of rows, or shell patterns of them; none for all.
        seed: A word that seeds every row together with its name.
        small: Whether to run the small form, for a first look and for tests.

    Raises:
        ValueError: A pattern fits no row.
    """
    cases, curves = chosen(patterns)
    with remembered():
        rows = [run_case(case, seed=seed, small=small) for case in cases]
        power = [run_curve(curve, seed=seed, small=small) for curve in curves]
    return _report.document(rows, power, seed=seed, small=small)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run or read the study, print it, and return 1 when a row is not ok, 2 when an argument cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calibration", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--small", action="store_true", help="the small form, seconds instead of minutes")
    parser.add_argument("--only", nargs="+", default=(), metavar="PATTERN", help="names of rows, or shell patterns")
    parser.add_argument("--seed", default=SEED, metavar="WORD", help=f"seeds all rows; default: {SEED}")
    parser.add_argument("--markdown", type=Path, metavar="PAGE", help="put the tables into this page")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="read a study instead of running it")
    options = parser.parse_args(arguments)
    try:
        page = options.markdown.read_text(encoding="utf-8") if options.markdown else None
        if options.source:
            found = _report.read(options.source)
        else:
            found = run(options.only, seed=options.seed, small=options.small)
        if page is not None:
            options.markdown.write_text(_report.put_into(page, found), encoding="utf-8")
    except (OSError, ValueError) as error:
        print(f"calibration: {error}", file=sys.stderr)
        return 2
    print(_report.to_json(found) if options.json else _report.to_text(found))
    return 1 if found["notOk"] else 0


if __name__ == "__main__":
    sys.exit(main())
