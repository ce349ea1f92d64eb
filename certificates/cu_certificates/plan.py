"""The audit plan: everything that decides a verdict, fixed and hashed before any coin exists.

Its laws of change: fields are never removed or given another meaning, new ones are optional, and an unknown ``kind`` is
refused. The digest of :meth:`Plan.to_bytes` is P, from which every coin and every training seed derives.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final

from cu_certificates.check.design import ATTACK_OF, LEVELS, MAX_SLOTS, QUESTIONS
from cu_certificates.check.power import critical_guesses, power_at, smallest_accuracy, smallest_references
from cu_certificates.check.rules import CONTROL_TAIL
from cu_certificates.check.strict import canonical
from cu_certificates.check.tails import MAX_EPS, beta_binomial_tail, coinflip_bound, group_bound
from cu_certificates.errors import UsageError

KIND: Final = "cu-cert-plan/1"


def default_guesses(slots: int) -> int:
    """Return r = 2 floor(3N/8): the quarter of the slots that lies in the middle is not guessed."""
    return 2 * (3 * slots // 8)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model that the plan will judge.

    Args:
        name: A short label; names the folder of its certificate in a demo.
        model: SHA-256 (hex) of the model file.
        method: The method said to have made it, ``None`` when unknown.
        parameters: The method's effective parameters, printable.
        guarantee: What the method states: ``exact``, ``certified`` or ``none``.
        level: The finer level that it states, for example ``EMPIRICAL``.
        tested_eps: eps* of the guarantee under test; 0 for an exact method.
        tested_delta: delta* of the guarantee under test.
    """

    name: str
    model: str
    method: str | None
    parameters: Mapping[str, object]
    guarantee: str
    level: str
    tested_eps: Fraction
    tested_delta: Fraction

    def __post_init__(self) -> None:
        if self.guarantee not in LEVELS or self.level not in LEVELS[self.guarantee]:
            raise UsageError(
                f"plan: subject {self.name} states guarantee {self.guarantee!r} at level {self.level!r}; expected "
                + "; ".join(f"{name} with {', '.join(levels)}" for name, levels in LEVELS.items())
            )
        if not 0 <= self.tested_eps <= MAX_EPS or not 0 <= self.tested_delta < 1:
            raise UsageError(
                f"plan: subject {self.name} is tested at eps {self.tested_eps}, delta {self.tested_delta}; expected "
                f"eps from 0 to {MAX_EPS} and delta from 0 to below 1"
            )
        if self.guarantee == "exact" and (self.tested_eps or self.tested_delta):
            raise UsageError(
                f"plan: subject {self.name} states an exact guarantee but is tested at eps {self.tested_eps}, delta "
                f"{self.tested_delta}; expected 0 and 0"
            )

    def to_json(self) -> dict[str, object]:
        """Return the subject as it stands in ``plan.json``."""
        return {
            "name": self.name,
            "model": {"sha256": self.model},
            "method": self.method,
            "parameters": dict(self.parameters),
            "guarantee": self.guarantee,
            "level": self.level,
            "testedEps": str(self.tested_eps),
            "testedDelta": str(self.tested_delta),
        }


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How many models each part of the audit takes.

    Args:
        slots: N coin-flip slots.
        guesses: r, even, at most ``slots``.
        control_slots: N0 slots of the negative control.
        control_guesses: r0.
        references: n retrained references of the artifact question.
        negatives: k retrained models that pass through the artifact question as its negative control.
        pilots: Originals, and twice as many retrained models, that fit and centre the score.
    """

    slots: int
    guesses: int
    control_slots: int
    control_guesses: int
    references: int
    negatives: int
    pilots: int

    def __post_init__(self) -> None:
        for slots, guesses in ((self.slots, self.guesses), (self.control_slots, self.control_guesses)):
            if guesses % 2 or not 2 <= guesses <= slots:
                raise UsageError(
                    f"plan: {guesses} guesses over {slots} slots; expected an even number from 2 to {slots}"
                )
            if slots > MAX_SLOTS:
                raise UsageError(f"plan: {slots} slots; expected at most {MAX_SLOTS}")
        if self.references < 1 or self.negatives < 1 or self.pilots < 2:
            raise UsageError(
                f"plan: {self.references} references, {self.negatives} negative controls, {self.pilots} pilots; "
                "expected at least 1, 1 and 2"
            )


@dataclass(frozen=True, kw_only=True)
class Resolution:
    """What an audit of this size can see about one subject and question.

    Args:
        question: ``procedure`` or ``artifact``.
        max_eps: Largest eps that a perfect outcome shows.
        critical: Fewest right guesses that refute (procedure), ``None`` when no outcome refutes.
        accuracy: Smallest guessing accuracy that is refuted with probability 0.8 (procedure).
        smallest: Fewest references with which anything can be refuted (artifact), ``None`` when none suffices.
        reached: Whether the planned power is reached.
        possible: Whether a refutation is possible at all.
    """

    question: str
    max_eps: Fraction
    critical: int | None = None
    accuracy: Fraction | None = None
    smallest: int | None = None
    reached: bool
    possible: bool


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be tested, at what sizes and levels.

    Args:
        subjects: The models to be judged, each with the guarantee under test.
        questions: Some of ``procedure`` and ``artifact``.
        alpha_total: Error budget of one certificate; split evenly over the questions.
        detect_eps: Power wanted: were each guess right with probability e^d / (1 + e^d), the audit should refute with
            probability 0.8.
        sizes: How many models each part takes.
        request_root: Merkle root of the request.
        request_size: Number of ids in the request.
        recipe: Digest of the recipe.
        data: Keyed commitment to the training records.
        seed_commitment: C0 (hex).
        attempt: 1 for the first audit of these subjects; a repetition counts up and is visible.
        direction: ``both``, or ``forward`` for a guarantee stated in one direction only.
    """

    subjects: tuple[Subject, ...]
    questions: tuple[str, ...]
    alpha_total: Fraction
    detect_eps: Fraction
    sizes: Sizes
    request_root: str
    request_size: int
    recipe: str
    data: str
    seed_commitment: str = ""
    attempt: int = 1
    direction: str = "both"

    def __post_init__(self) -> None:
        if not self.questions or sorted(set(self.questions) & set(QUESTIONS)) != sorted(self.questions):
            raise UsageError(
                f"plan: questions {list(self.questions)}; expected some of {', '.join(QUESTIONS)}, each once"
            )
        if not 0 < self.alpha_total < 1:
            raise UsageError(f"plan: alpha {self.alpha_total}; expected strictly between 0 and 1")
        if self.attempt < 1 or self.request_size < 1 or not 0 <= self.detect_eps <= MAX_EPS:
            raise UsageError(
                f"plan: attempt {self.attempt}, {self.request_size} ids, detect_eps {self.detect_eps}; expected at "
                f"least 1 and 1, and 0 to {MAX_EPS}"
            )
        for what, found in (("name", [s.name for s in self.subjects]), ("file", [s.model for s in self.subjects])):
            if not found or len(set(found)) != len(found):
                raise UsageError(
                    f"plan: {len(found)} subjects with {len(set(found))} different {what}s; expected at least one "
                    "subject, and one entry for each file: audit a file twice under two plans"
                )
        stated = {subject.guarantee for subject in self.subjects}
        if self.direction not in ("both", "forward") or (self.direction == "forward" and stated != {"certified"}):
            raise UsageError(
                f"plan: direction {self.direction!r}; expected 'both', or 'forward' when each subject states a "
                "certified guarantee, in one direction"
            )
        if "procedure" in self.questions and any(subject.method is None for subject in self.subjects):
            raise UsageError("plan: the procedure question needs to know the method of every subject; name it")

    def share(self) -> Fraction:
        """Return the share of alpha that each question spends."""
        return self.alpha_total / len(self.questions)

    def with_seed(self, commitment: str) -> "Plan":
        """Return the plan with its seed commitment filled in."""
        return replace(self, seed_commitment=commitment)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as it stands in ``plan.json``."""
        sizes = self.sizes
        return {
            "kind": KIND,
            "attempt": self.attempt,
            "subjects": [subject.to_json() for subject in self.subjects],
            "questions": list(self.questions),
            "attacks": [ATTACK_OF[question] for question in self.questions],
            "alphaTotal": str(self.alpha_total),
            "alphaSplit": {question: str(self.share()) for question in self.questions},
            "detectEps": str(self.detect_eps),
            "request": {"root": self.request_root, "size": self.request_size},
            "recipe": {"sha256": self.recipe},
            "data": {"sha256": self.data},
            "reference": "retrain",
            "original": "redrawn",
            "procedure": {
                "slots": sizes.slots,
                "guesses": sizes.guesses,
                "controlSlots": sizes.control_slots,
                "controlGuesses": sizes.control_guesses,
                "direction": self.direction,
            },
            "artifact": {"references": sizes.references, "positives": 1, "negatives": sizes.negatives},
            "score": {"name": "combined", "version": 1, "pilots": sizes.pilots},
            "seedCommitment": {"sha256": self.seed_commitment},
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are hashed."""
        return canonical(self.to_json())

    @property
    def digest(self) -> str:
        """P, SHA-256 (hex) of the plan's bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def resolution(self, subject: Subject, question: str) -> Resolution:
        """Compute what this plan can see about a subject, before anything is trained."""
        alpha, eps, delta, sizes = self.share(), subject.tested_eps, subject.tested_delta, self.sizes
        if question == "artifact":
            smallest = smallest_references(alpha, eps, delta)
            possible = smallest is not None and sizes.references >= smallest
            best = group_bound(Fraction(1, sizes.references + 1), alpha, delta)
            return Resolution(question=question, max_eps=best, smallest=smallest, reached=possible, possible=possible)
        counted = sizes.guesses if self.direction == "both" else sizes.guesses // 2
        critical = critical_guesses(sizes.slots, counted, alpha, eps, delta)
        return Resolution(
            question=question,
            max_eps=coinflip_bound(sizes.slots, counted, counted, alpha, delta),
            critical=critical,
            accuracy=None if critical is None else smallest_accuracy(counted, critical),
            reached=critical is not None and power_at(counted, critical, eps=self.detect_eps),
            possible=critical is not None,
        )

    def problems(self) -> list[str]:
        """Say, one line each, why a part of this plan could never refute or could never fail its control."""
        lines = []
        sizes, alpha = self.sizes, self.share()
        for subject in self.subjects:
            for question in self.questions:
                found = self.resolution(subject, question)
                if not found.possible:
                    lines.append(_impossible(self, subject, question, found))
        if "procedure" in self.questions:
            counted = sizes.control_guesses if self.direction == "both" else sizes.control_guesses // 2
            if Fraction(1, 2**counted) > CONTROL_TAIL:
                lines.append(f"procedure: {counted} guesses in the negative control; one this small can never fail")
        if "artifact" in self.questions:
            rank = (alpha * (sizes.references + 1)).__floor__()
            if beta_binomial_tail(sizes.negatives, rank, sizes.references, sizes.negatives) > CONTROL_TAIL:
                lines.append(f"artifact: {sizes.negatives} negative controls; so few can never fail")
        return lines

    def underpowered(self) -> list[str]:
        """Say, one line each, which planned power these sizes do not reach."""
        return [
            _impossible(self, subject, question, found)
            if not found.possible
            else f"{subject.name}, {question}: {self.sizes.slots} slots do not exceed eps* = {subject.tested_eps} with "
            f"probability 0.8 when the truth is eps = {self.detect_eps}"
            for subject in self.subjects
            for question in self.questions
            if not (found := self.resolution(subject, question)).reached
        ]


def _impossible(plan: Plan, subject: Subject, question: str, found: Resolution) -> str:
    if question == "artifact":
        need = "more alpha" if found.smallest is None else f"at least {found.smallest} references"
        return (
            f"artifact: {plan.sizes.references} references cannot refute eps* = {subject.tested_eps} at "
            f"alpha {plan.share()}, whatever they show; expected {need}"
        )
    return (
        f"procedure: {plan.sizes.guesses} guesses over {plan.sizes.slots} slots cannot refute "
        f"eps* = {subject.tested_eps} at alpha {plan.share()}, even if all are right; plan more slots"
    )
