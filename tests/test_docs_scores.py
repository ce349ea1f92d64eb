"""docs/scores.md, run from top to bottom as it is written, in an empty folder and with the same coins each time."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_quickstart import FENCE, pattern_of, surroundings

from cu_attacks._scores import COLUMNS, POOLS
from cu_cert.declared import OutsideConfig
from cu_cert.secrets_store import FOLDER, Secrets
from cu_certificates.check.main import check_file

PAGE = Path(__file__).parent.parent / "docs" / "scores.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = [(found[1], found[2], found[3]) for found in FENCE.finditer(TEXT)]
REQUEST = [f"customer-{number}" for number in range(10, 22)]


@dataclass(frozen=True)
class Walk:
    """What became of the page's commands.

    Args:
        folder: Where they ran.
        printed: What each command block printed, by its place among the blocks.
    """

    folder: Path
    printed: dict[int, str]


def pin_coins(folder: Path) -> None:
    """Fix what is drawn, so that a test never meets an unlucky throw."""
    private = folder / FOLDER
    (private / "requests").mkdir(parents=True)
    (private / "audit.key").write_text("11" * 32)
    Secrets(private).request_key(REQUEST)
    for key in (private / "requests").iterdir():
        key.write_text("22" * 32)


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    folder, home = tmp_path_factory.mktemp("scores"), tmp_path_factory.mktemp("home")
    pin_coins(folder)
    printed: dict[int, str] = {}
    for number, (kind, name, body) in enumerate(BLOCKS):
        if kind in ("python", "toml"):
            (folder / name).write_text(body, encoding="utf-8")
        elif kind == "sh":
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", body],
                cwd=folder,
                env=surroundings(home),
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"
            assert done.stderr == ""
            printed[number] = done.stdout
    return Walk(folder, printed)


def test_every_block_is_of_a_kind_that_this_test_knows() -> None:
    assert {kind for kind, *_ in BLOCKS} == {"sh", "python", "toml", "text"}
    assert all(bool(name) == (kind in ("python", "toml")) for kind, name, _ in BLOCKS)
    assert all(BLOCKS[number - 1][0] == "sh" for number, block in enumerate(BLOCKS) if block[0] == "text")


def test_output_is_as_shown(walk: Walk) -> None:
    for number, (kind, _, shown) in enumerate(BLOCKS):
        if kind == "text":
            printed = walk.printed[number - 1]
            assert re.fullmatch(pattern_of(shown), printed), f"the page shows\n{shown}\nbut it is\n{printed}"


def test_the_certificates_say_how_they_came_about(walk: Walk) -> None:
    first = {}
    for name in ("audit-out", "audit-out-fewer", "audit-out-later"):
        result = check_file(walk.folder / name / "certificate.sigstore.json")
        assert (result.rejected, result.missing) == ((), ())
        assert result.stated == result.derived == "REFUTED"
        first[name] = result.predicate["limitations"][0]
    assert first == {"audit-out": "L16", "audit-out-fewer": "L16", "audit-out-later": "L15"}


def test_the_bound_is_no_larger_for_a_lost_model(walk: Walk) -> None:
    bounds = []
    for name in ("audit-out", "audit-out-fewer"):
        result = check_file(walk.folder / name / "certificate.sigstore.json")
        (claim,) = (entry for entry in result.predicate["claims"] if entry["id"] == "c-eps-procedure")
        bounds.append(float(claim["bound"]))
    assert bounds[1] < bounds[0]


def test_the_page_names_every_column_pool_and_key() -> None:
    words = set(re.findall(r"`([\w-]+)`", TEXT))
    assert set(POOLS) <= words
    assert {*COLUMNS, "signal", "digest"} <= words
    declared = next(body for kind, name, body in BLOCKS if name == "plan.toml")
    keys = set(re.findall(r"^(\w+) =", declared.partition("[outside]")[2], re.MULTILINE))
    assert keys | {"parameters", "signal"} == set(OutsideConfig.__dataclass_fields__)
    assert {"parameters", "signal"} <= words
