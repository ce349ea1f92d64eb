"""Progress lines: rewritten on a terminal, one a minute elsewhere, none when nobody wants them."""

import io
import sys

import pytest

from cu_cert.fleet import progress as module
from cu_cert.fleet.progress import Progress, clock


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(module, "time", found)
    return found


def lines(total: int, seconds: float, time: Clock, **options: bool) -> None:
    """Finish ``total`` models, one every so many seconds."""
    progress = Progress(total, "training", **options)
    progress.show(0)
    for done in range(1, total + 1):
        time.now += seconds
        progress.show(done)


def test_into_a_file_goes_at_most_a_line_a_minute(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines(601, 1.0, time)
    said = capsys.readouterr().err
    assert said.splitlines()[0] == "training: 60 of 601 models, 9 min left"
    assert said.splitlines()[-2] == "training: 600 of 601 models, 1 s left"
    assert said.splitlines()[-1] == "training: 601 models in 10 min"
    assert len(said.splitlines()) == 11
    assert said.isascii()
    assert "\r" not in said
    assert "\x1b" not in said


def test_a_short_run_says_one_line_at_its_end(time: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    lines(40, 0.05, time)
    assert capsys.readouterr().err == "training: 40 models in 2 s\n"


def test_a_terminal_has_one_line_that_is_rewritten(time: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stderr", screen)
    lines(100, 0.1, time)
    said = screen.getvalue()
    assert said.count("\n") == 1
    assert said.endswith("\r\x1b[2Ktraining: 100 models in 10 s\n")
    assert 30 <= said.count("\r\x1b[2K") <= 51  # at most five times a second


@pytest.mark.parametrize("screen", [io.StringIO, Screen])
def test_quiet_says_nothing(time: Clock, monkeypatch: pytest.MonkeyPatch, screen: type[io.StringIO]) -> None:
    stream = screen()
    monkeypatch.setattr(sys, "stderr", stream)
    lines(200, 1.0, time, quiet=True)
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (89.4, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h")]
)
def test_durations_are_written_for_a_person(seconds: float, said: str) -> None:
    assert clock(seconds) == said
