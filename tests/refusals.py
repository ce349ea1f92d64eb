"""What every refusal has in common; shared by the tests of bad inputs."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from cu_cert.cli.main import run

AUDIT = ("audit", "unlearned.pt", "--forget", "ids.txt")
UNLEARN = ("unlearn", "model.pt", "--forget", "ids.txt", "--method", "npo", "-o", "new.pt")
TRAIN = ("train", "-o", "new.pt")


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Return every file's bytes, but for the project's private memory, which keeps what it has once drawn."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if ".cu-cert/private" not in path.as_posix()
    }


def refused(arguments: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str], *, lines: int = 1) -> str:
    """Run a command that must be refused, with and without ``--json``; returns its message.

    Args:
        arguments: The command.
        folder: The project, in which nothing may change.
        capsys: What is printed.
        lines: Length of the message.
    """
    before = snapshot(folder)
    capsys.readouterr()
    messages = []
    for extra in ((), ("--json",)):
        assert run([*arguments, *extra]) == 2
        printed = capsys.readouterr()
        assert printed.err.count("\n") == lines, printed.err
        assert "Traceback" not in printed.err
        assert "bug of ours" not in printed.err
        assert not extra or printed.out == ""
        messages.append(printed.err)
    assert messages[0] == messages[1]
    assert snapshot(folder) == before
    private = folder / ".cu-cert" / "private"
    assert all(path.suffix == ".key" and len(path.read_text()) == 65 for path in private.rglob("*") if path.is_file())
    return messages[0]


def change(path: Path, old: str, new: str) -> None:
    """Change the one place of a file where ``old`` stands."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new), encoding="utf-8")
