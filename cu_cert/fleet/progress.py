"""How far a fleet is, in one line: rewritten on a terminal, printed once a minute elsewhere."""

import sys
import time


class Progress:
    """One line that says how far a fleet is; on a terminal it is rewritten, elsewhere printed once a minute.

    Args:
        total: Number of models to make.
        what: What they are for.
        quiet: Print nothing.
    """

    def __init__(self, total: int, what: str, *, quiet: bool = False) -> None:
        self.total, self.what, self.quiet = total, what, quiet
        self.live = sys.stderr.isatty()
        self.started = self.shown = time.monotonic()

    def show(self, done: int, left: float | None = None) -> None:
        """Show that ``done`` models are finished.

        Args:
            done: Their number.
            left: Seconds that the others will take; ``None`` where each takes as long as those before.
        """
        now = time.monotonic()
        if self.quiet or not done or (now - self.shown < (0.2 if self.live else 60) and done < self.total):
            return
        self.shown = now
        if left is None:
            left = (now - self.started) / done * (self.total - done)
        line = f"{self.what}: {done} of {self.total} models, {clock(left)} left"
        if done == self.total:
            line = f"{self.what}: {done} models in {clock(now - self.started)}"
        print(
            f"\r\x1b[2K{line}" if self.live else line,
            end="\n" if done == self.total or not self.live else "",
            file=sys.stderr,
            flush=True,
        )


def clock(seconds: float) -> str:
    """Write a duration for a person."""
    whole = round(seconds)
    if whole < 90:
        return f"{whole} s"
    return f"{round(whole / 60)} min" if whole < 5400 else f"{whole / 3600:.1f} h"
