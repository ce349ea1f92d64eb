"""docs/data.md: its files are written, each of its project files trains, and init prints what the page shows."""

import re
import runpy
import shlex
from pathlib import Path

import pytest
from test_quickstart import FENCE, pattern_of

from cu_cert.cli.main import run
from cu_cert.data._sources import SOURCES

PAGE = Path(__file__).parent.parent / "docs" / "data.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = [(found[1], found[2], found[3]) for found in FENCE.finditer(TEXT)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file of the page but its project files."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pytest.importorskip("PIL", reason="Pillow is not installed")
    folder = tmp_path_factory.mktemp("data")
    for kind, name, body in BLOCKS:
        if kind == "python":
            (folder / name).write_text(body, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        runpy.run_path("make_files.py")
    return folder


@pytest.mark.parametrize("number", [number for number, block in enumerate(BLOCKS) if block[0] == "toml"])
def test_every_project_file_of_the_page_trains(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    monkeypatch.chdir(files)
    Path("cu-cert.toml").write_text(BLOCKS[number][2])
    assert run(["train", "-o", f"{number}.pt"]) == 0, capsys.readouterr().err
    assert "held-out accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    "number",
    [number for number, block in enumerate(BLOCKS) if block[0] == "sh" and block[2].startswith("cu-cert init")],
)
def test_init_prints_what_the_page_shows(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    monkeypatch.chdir(files)
    assert run([*shlex.split(BLOCKS[number][2])[1:], "--force"]) == 0, capsys.readouterr().err
    assert BLOCKS[number + 1][0] == "text"
    assert re.fullmatch(pattern_of(BLOCKS[number + 1][2]), capsys.readouterr().out)
    assert run(["train", "-o", f"{number}.pt"]) == 0


def test_the_page_names_every_source() -> None:
    """Each source has a row in the table at the top."""
    table = TEXT.partition("| `[data] source` |")[2].partition("\n\n")[0]
    for source in SOURCES:
        names = (source.word or source.prefix or " ", *source.suffixes)
        assert any(name in table for name in names), source.module
