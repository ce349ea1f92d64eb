"""docs/checker.md: its index names every claim type and every rule, and the assumptions that the checker demands."""

import re
from pathlib import Path

from cu_certificates.check.checker import DECIDING
from cu_certificates.check.design import DESIGNS
from cu_certificates.check.rules import DESIGN_RULES, RULES

PAGE = (Path(__file__).parents[1] / "docs" / "checker.md").read_text(encoding="utf-8")
INDEX = PAGE.partition("## Index\n")[2].partition("\n## ")[0]
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in INDEX.splitlines() if line.startswith("| `")]


def assumptions(text: str) -> set[str]:
    """Return what "A1 to A10, A13" names."""
    found = {f"A{number}" for number in re.findall(r"A(\d+)", text)}
    for first, last in re.findall(r"A(\d+) to A(\d+)", text):
        found |= {f"A{number}" for number in range(int(first), int(last) + 1)}
    return found


def test_every_claim_type_stands_in_the_index() -> None:
    assert len(ROWS) > 20
    assert {name for row in ROWS for name in re.findall(r"`([\w-]+)`", row[0])} == set(RULES)


def test_every_rule_is_there_and_every_number_means_one() -> None:
    rules = [int(number) for number in re.findall(r"^\*\*R(\d+)\b", PAGE, re.MULTILINE)]
    assert rules == sorted(set(rules)) == list(range(1, max(rules) + 1))
    assert {int(number) for number in re.findall(r"\bR(\d+)", INDEX)} == set(rules)


def test_what_decides_is_what_the_verdict_looks_at() -> None:
    said = {name for row in ROWS if row[3] == "yes" for name in re.findall(r"`([\w-]+)`", row[0])}
    stated = {name for row in ROWS if row[3] in ("exact methods", "certified methods") for name in [row[0].strip("`")]}
    assert said | stated == set(DECIDING)


def test_the_assumptions_of_each_design_are_those_that_the_checker_demands() -> None:
    said = {re.findall(r"`([\w-]+)`", row[0])[0]: row[4] for row in ROWS if row[3] == "yes"}
    for name, rules in DESIGN_RULES["procedure"].items():
        attack = DESIGNS["procedure"][name].attack
        assert assumptions(said[attack].partition(";")[0]) == set(rules.assumed), attack
    references, labels = said["eps-group"].split(";")
    assert assumptions(references) == set(DESIGN_RULES["artifact"]["references"].assumed)
    assert assumptions(labels.partition("with R16")[2]) == set(DESIGN_RULES["artifact"]["labels"].assumed)


def test_every_assumption_is_explained() -> None:
    table = PAGE.partition("## Trusted base\n")[2]
    explained = set(re.findall(r"^\| (A\d+) \|", table, re.MULTILINE))
    assert assumptions(INDEX) <= explained
    assert explained >= {f"A{number}" for number in range(1, 14)} | {"A20"}
