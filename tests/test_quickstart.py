"""docs/quickstart.md, run from top to bottom exactly as it is written, in an empty folder with a home of its own."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cu_cert.secrets_store import FOLDER, Secrets
from cu_certificates._forbidden import forbidden_in

PAGE = Path(__file__).parent.parent / "docs" / "quickstart.md"
FENCE = re.compile(r"^```(\w*) ?(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ANY = "…"

# Numbers that another machine, clock or throw of the coins may change; all others must be as shown.
VOLATILE = re.compile(
    r"\d{4}-\d\d-\d\dT[\d:]+Z|(?<=about )\d+(?:\.\d+)? (?:s|min|h)|\d+(?= models)|\d+(?= processes)|\d+(?= MB)"
    r"|\d+(?= bytes)|\d+\.\d+"
)


@dataclass(frozen=True)
class Block:
    """A fenced block of the page.

    Args:
        kind: ``sh`` is run, ``python`` is a file to save, ``toml`` are lines to change, ``text`` is output.
        name: The file that ``python`` and ``toml`` are about.
        body: What stands in it.
        line: Where it starts.
    """

    kind: str
    name: str
    body: str
    line: int


def blocks() -> list[Block]:
    text = PAGE.read_text(encoding="utf-8")
    return [Block(m[1], m[2], m[3], text.count("\n", 0, m.start()) + 1) for m in FENCE.finditer(text)]


SHOWN = [(command, shown) for command, shown in zip(blocks(), blocks()[1:], strict=False) if shown.kind == "text"]


@dataclass(frozen=True)
class Walk:
    """What became of the page's commands.

    Args:
        folder: Where they ran.
        done: Finished commands by the line on which their block starts.
    """

    folder: Path
    done: dict[int, subprocess.CompletedProcess[str]]


def surroundings(home: Path) -> dict[str, str]:
    """A stranger's environment: nothing of ours but the interpreter."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CU_CERT_", "XDG_", "PYTHON"))}
    return kept | {"HOME": str(home), "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def pin_coins(folder: Path) -> None:
    """Give the project secrets that are the same in every run, so that a test never meets an unlucky throw."""
    private = folder / FOLDER
    (private / "requests").mkdir(parents=True)
    (private / "audit.key").write_text("11" * 32)
    Secrets(private).request_key([f"patient-{number:04d}" for number in range(80)])
    for key in (private / "requests").iterdir():
        key.write_text("22" * 32)


def change(path: Path, lines: str) -> None:
    """Change ``key = value`` lines of a project file, as the page asks its reader to."""
    text = path.read_text(encoding="utf-8")
    for line in lines.splitlines():
        pattern = re.compile(rf"^{re.escape(line.partition('=')[0])}=.*$", re.MULTILINE)
        assert len(pattern.findall(text)) == 1, f"{path.name} has no single line like {line!r}"
        text = pattern.sub(lambda _, new=line: new, text)
    path.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory) -> Walk:
    folder, home = tmp_path_factory.mktemp("quickstart"), tmp_path_factory.mktemp("home")
    pin_coins(folder)
    done: dict[int, subprocess.CompletedProcess[str]] = {}
    for block in blocks():
        if block.kind == "python":
            (folder / block.name).write_text(block.body, encoding="utf-8")
        elif block.kind == "toml":
            change(folder / block.name, block.body)
        elif block.kind == "sh":
            done[block.line] = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.body],
                cwd=folder,
                env=surroundings(home),
                capture_output=True,
                text=True,
                timeout=300,
            )
            if done[block.line].returncode:
                break
    return Walk(folder, done)


def test_every_block_is_of_a_kind_that_this_test_knows() -> None:
    found = blocks()
    assert {block.kind for block in found} == {"sh", "python", "toml", "text"}
    assert all(bool(block.name) == (block.kind in ("python", "toml")) for block in found)
    assert PAGE.read_text(encoding="utf-8").count("```") == 2 * len(found)
    assert all(command.kind == "sh" for command, _ in SHOWN)


@pytest.mark.parametrize(
    "block", [block for block in blocks() if block.kind == "sh"], ids=lambda one: f"line{one.line}"
)
def test_every_command_of_the_page_works(walk: Walk, block: Block) -> None:
    assert block.line in walk.done, "an earlier command failed"
    done = walk.done[block.line]
    assert done.returncode == 0, f"{PAGE}:{block.line}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert "Warning" not in done.stderr


def pattern_of(shown: str) -> str:
    """Return the regular expression of an output block: an ellipsis stands for text, on a line of its own for lines."""
    lines = []
    for line in shown.splitlines():
        if line.strip() == ANY:
            lines.append(r"(?:.*\n)*?")
            continue
        parts = []
        for part in line.split(ANY):
            literal = [re.escape(text) for text in VOLATILE.split(part)]
            wild = [VOLATILE.pattern] * (len(literal) - 1)
            parts.append("".join(a + (f"(?:{b})" if b else "") for a, b in zip(literal, [*wild, ""], strict=True)))
        lines.append(".*".join(parts) + r"\n")
    return "".join(lines)


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[f"line{shown.line}" for _, shown in SHOWN])
def test_output_is_as_shown(walk: Walk, command: Block, shown: Block) -> None:
    printed = walk.done[command.line].stdout
    # Empty lines are left out on the page now and then; they carry nothing.
    printed = "".join(f"{line}\n" for line in printed.splitlines() if line.strip())
    assert re.fullmatch(pattern_of(shown.body), printed), (
        f"{PAGE}:{shown.line} shows\n{shown.body}\nbut it is\n{printed}"
    )


def test_the_comparison_of_outputs_can_fail() -> None:
    shown = "plan …: 167 models\n…\nverdict      REFUTED\n"
    assert re.fullmatch(pattern_of(shown), "plan abc: 166 models\nmore\nverdict      REFUTED\n")
    for other in ("plan abc: x models\nverdict      REFUTED\n", "plan abc: 166 models\nverdict      NOT_REFUTED\n"):
        assert not re.fullmatch(pattern_of(shown), other)
    assert not re.fullmatch(pattern_of("569 rows\n"), "568 rows\n")


def test_what_is_handed_on_holds_no_id_and_nothing_private(walk: Walk) -> None:
    files = [path for path in (walk.folder / "handover").rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"report.html", "certificate.sigstore.json", "plan.json", "slots.jsonl"}
    for path in files:
        assert b"patient-0" not in path.read_bytes(), path
        assert b"PRIVATE KEY" not in path.read_bytes(), path
    assert b"patient-0001" in (walk.folder / "audit-out" / "private" / "request.json").read_bytes()


def test_links_lead_somewhere_and_no_word_claims_too_much() -> None:
    text = PAGE.read_text(encoding="utf-8")
    headings = {re.sub(r"[^\w\- ]", "", line.lstrip("# ")).lower().replace(" ", "-") for line in text.splitlines()}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        else:
            assert (PAGE.parent / target).exists(), target
    assert forbidden_in(text, ["en"]) == []
