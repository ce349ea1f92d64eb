"""The design of a drill: sizes and levels, fixed and checked before anything random happens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from cu_cert.canaries import shares
from cu_cert.errors import ConfigError
from cu_certificates.check.candidates import SIDES, control_fails
from cu_certificates.check.onerun import critical_right, onerun_bound, request_bound
from cu_certificates.check.power import power_at, smallest_accuracy
from cu_certificates.plan import default_guesses

_SEARCHED: Final = 5000
"""Up to this many candidates are tried when a smallest size is looked for."""


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What a drill of this size can see.

    Args:
        guesses: r.
        max_request: Largest bound that it can show for the whole request.
        max_record: Largest bound that it can show for one record.
        critical: Fewest right guesses that refute.
        accuracy: Smallest share of right guesses, in truth, that is refuted in four of five drills.
        control: Fewest right guesses about retrained models with which the negative control fails.
        detect_eps: The eps that should be seen.
        reached: Whether guesses that are right with chance sigma(detect_eps) are refuted in four of five drills.
    """

    guesses: int
    max_request: Fraction
    max_record: Fraction
    critical: int
    accuracy: Fraction
    control: int
    detect_eps: Fraction
    reached: bool


@dataclass(frozen=True, kw_only=True)
class Design:
    """Everything that decides a drill, fixed before any coin.

    Args:
        method: Name of the method.
        parameters: Its effective parameters, printable.
        canaries: Kind of the candidates.
        candidates: m.
        references: Reference models that fix the score.
        alpha: Level of the drill; each of the two sides has half of it.
        tested_eps: eps* of the guarantee under test.
        tested_delta: delta* of the guarantee under test.
        detect_eps: The eps that should be seen.
        seed: Root of all randomness.

    Raises:
        ConfigError: A number is out of range, or the drill is too small to refute anything.
    """

    method: str
    parameters: Mapping[str, object]
    canaries: str
    candidates: int
    references: int
    alpha: Fraction
    tested_eps: Fraction
    tested_delta: Fraction
    detect_eps: Fraction
    seed: str

    def __post_init__(self) -> None:
        shares(self.canaries, self.candidates)
        if self.references < 2:
            raise ConfigError(f"--references {self.references}: expected at least 2, to know how much a margin varies")
        if not 0 < self.alpha < 1:
            raise ConfigError(f"--alpha {self.alpha}: expected a number above 0 and below 1")
        if self.tested_delta >= self.side_alpha:
            raise ConfigError(
                f"[audit] tested_delta = {self.tested_delta}: with --alpha {self.alpha} a drill can refute nothing "
                f"from delta = {self.side_alpha} upwards; lower it, or raise --alpha"
            )
        if not self._usable(self.candidates):
            raise ConfigError(
                f"--candidates {self.candidates}: too few; even if every guess were right, no bound would exceed eps = "
                f"{self.tested_eps} at alpha = {self.alpha}, or no control could fail; expected at least "
                f"{_smallest(self._usable)}, and {_smallest(self._reaches)} to see an eps of {self.detect_eps}"
            )

    @property
    def side_alpha(self) -> Fraction:
        """Level of the bounds of one side."""
        return self.alpha / SIDES

    def resolution(self) -> Resolution:
        """Return what a drill of this size can see."""
        guesses, critical = default_guesses(self.candidates), self._critical(self.candidates)
        assert critical is not None  # checked on construction
        return Resolution(
            guesses=guesses,
            max_request=request_bound(guesses, guesses, self.side_alpha, self.tested_delta),
            max_record=onerun_bound(self.candidates, guesses, guesses, self.side_alpha, self.tested_delta),
            critical=critical,
            accuracy=smallest_accuracy(guesses, critical),
            control=next(right for right in range(guesses + 1) if control_fails(guesses, right)),
            detect_eps=self.detect_eps,
            reached=self._reaches(self.candidates),
        )

    def _critical(self, candidates: int) -> int | None:
        guesses = default_guesses(candidates)
        if guesses < 2 or not control_fails(guesses, guesses):
            return None
        return critical_right(guesses, self.side_alpha, self.tested_eps, self.tested_delta)

    def _usable(self, candidates: int) -> bool:
        return self._critical(candidates) is not None

    def _reaches(self, candidates: int) -> bool:
        critical = self._critical(candidates)
        return critical is not None and power_at(default_guesses(candidates), critical, eps=self.detect_eps)


def _smallest(enough: Callable[[int], bool]) -> int | str:
    return next((size for size in range(4, _SEARCHED + 1) if enough(size)), f"more than {_SEARCHED}")
