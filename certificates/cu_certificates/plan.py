"""The audit plan: everything that decides a verdict, fixed and hashed before any coin exists.

Its laws of change: fields are never removed or given another meaning, new ones are optional, and an unknown ``kind`` is
refused. The digest of :meth:`Plan.to_bytes` is P, from which every coin and every training seed derives.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Final

from cu_certificates._design_labels import LABELS
from cu_certificates._design_onerun import ONERUN
from cu_certificates._design_pools import POOLS
from cu_certificates._design_sequential import SEQUENTIAL
from cu_certificates._designs import COINS, REFERENCES, Planner, Resolution
from cu_certificates.check.design import DESIGNS, FITTED, LEVELS, MAX_SLOTS, QUESTIONS, SCORES
from cu_certificates.check.strict import canonical
from cu_certificates.check.tails import MAX_EPS
from cu_certificates.errors import UsageError

KIND: Final = "cu-cert-plan/1"

DEFAULT_DESIGNS: Final = {question: next(iter(designs)) for question, designs in DESIGNS.items()}

PLANNERS: Final[dict[str, dict[str, Planner]]] = {
    "procedure": {"coins": COINS, "sequential": SEQUENTIAL, "pools": POOLS, "onerun": ONERUN},
    "artifact": {"references": REFERENCES, "labels": LABELS},
}


def default_guesses(slots: int) -> int:
    """Return r = 2 floor(3N/8): the quarter of the slots that lies in the middle is not guessed."""
    return 2 * (3 * slots // 8)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model that the plan will judge.

    Args:
        name: A short label; names the folder of its certificate in a demo.
        model: SHA-256 (hex) of the model file; empty where the plan's coins decide on what it is trained.
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
            **({"model": {"sha256": self.model}} if self.model else {}),
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
        request_size: Number of ids in the request, or what it was padded to.
        request_least: The smallest number of ids that a padded size can stand for; ``None`` where it is not padded.
        recipe: Digest of the recipe.
        data: Keyed commitment to the training records.
        seed_commitment: C0 (hex).
        attempt: 1 for the first audit of these subjects; a repetition counts up and is visible.
        direction: ``both``, or ``forward`` for a guarantee stated in one direction only.
        designs: How each question is answered, by question.
        extra: Further sizes of a design, by question, as they stand in ``plan.json``.
        reference: ``retrain``, or ``retrain+noop`` when the method with an empty request follows each retrain.
        original: ``redrawn`` for each slot, or ``fixed``, one for all of them.
        score: One of ``check.design.SCORES``.
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
    designs: Mapping[str, str] = field(default_factory=lambda: DEFAULT_DESIGNS)
    extra: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    reference: str = "retrain"
    original: str = "redrawn"
    score: str = "combined"
    request_least: int | None = None

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
        if self.request_least is not None and not 1 <= self.request_least <= self.request_size:
            raise UsageError(f"plan: padded from {self.request_least} to {self.request_size} ids; expected 1 or more")
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
        for what, chosen, known in (
            ("reference", self.reference, ("retrain", "retrain+noop")),
            ("original", self.original, ("redrawn", "fixed")),
            ("score", self.score, SCORES),
            *(("design", self.designs.get(question), tuple(PLANNERS[question])) for question in self.questions),
        ):
            if chosen not in known:
                raise UsageError(f"plan: {what} {chosen!r}; expected {' or '.join(known)}")

    def share(self) -> Fraction:
        """Return the share of alpha that each question spends."""
        return self.alpha_total / len(self.questions)

    def counted(self, guesses: int) -> int:
        """Return how many of ``guesses`` planned guesses are made: half of them when one direction is stated."""
        return guesses if self.direction == "both" else guesses // 2

    @property
    def padded_to(self) -> int | None:
        """The number of leaves of a padded request; ``None`` where it is not padded."""
        return None if self.request_least is None else self.request_size

    def planner(self, question: str) -> Planner:
        """Return the design of a question."""
        return PLANNERS[question][self.designs[question]]

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
            "attacks": [DESIGNS[question][self.designs[question]].attack for question in self.questions],
            "alphaTotal": str(self.alpha_total),
            "alphaSplit": {question: str(self.share()) for question in self.questions},
            "detectEps": str(self.detect_eps),
            "request": self._request(),
            "recipe": {"sha256": self.recipe},
            "data": {"sha256": self.data},
            "reference": self.reference,
            "original": self.original,
            **{
                question: {
                    **(
                        {}
                        if self.designs[question] == DEFAULT_DESIGNS[question]
                        else {"design": self.designs[question]}
                    ),
                    **self.planner(question).node(self),
                    **self.extra.get(question, {}),
                }
                for question in self.questions
            },
            "score": {
                "name": self.score,
                "version": 1,
                **({"pilots": sizes.pilots} if self.score in FITTED else {}),
            },
            "seedCommitment": {"sha256": self.seed_commitment},
        }

    def _request(self) -> dict[str, Any]:
        size, least = self.request_size, self.request_least
        padded = {} if least is None else {"padded": {"from": least, "to": size}}
        return {"root": self.request_root, "size": size, **padded}

    def to_bytes(self) -> bytes:
        """Return the canonical bytes that are hashed."""
        return canonical(self.to_json())

    @property
    def digest(self) -> str:
        """P, SHA-256 (hex) of the plan's bytes."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def resolution(self, subject: Subject, question: str) -> Resolution:
        """Compute what this plan can see about a subject, before anything is trained."""
        return self.planner(question).resolution(self, subject)

    def problems(self) -> list[str]:
        """Say, one line each, why a part of this plan could never refute or could never fail its control."""
        lines = []
        for subject in self.subjects:
            for question in self.questions:
                found = self.resolution(subject, question)
                if not found.possible:
                    lines.append(found.why)
        for question in self.questions:
            lines += self.planner(question).problems(self)
        return lines

    def underpowered(self) -> list[str]:
        """Say, one line each, which planned power these sizes do not reach."""
        return [
            found.why
            if not found.possible
            else f"{subject.name}, {question}: {self.sizes.slots} slots do not exceed eps* = {subject.tested_eps} with "
            f"probability 0.8 when the truth is eps = {self.detect_eps}"
            for subject in self.subjects
            for question in self.questions
            if not (found := self.resolution(subject, question)).reached
        ]
