"""The tables ``[training]``, ``[unlearning]``, ``[audit]`` and ``[signing]`` of the project file.

The declaration of a field holds its default, its reader and its documentation; the text of a new project file is made
from these declarations. ``[data]`` is declared beside the data sources.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from cu_cert import recipes
from cu_cert._signing import SigningConfig, day, require_lines
from cu_cert._toml import exact, flag, option, require, table, text, texts, whole
from cu_certificates._toml import nearest

__all__ = ["QUESTIONS", "AuditConfig", "SigningConfig", "TrainingConfig", "UnlearningConfig", "default_guesses"]

QUESTIONS: Final = ("procedure", "artifact")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The table ``[training]``.

    Args:
        recipe: A built-in recipe or ``python:module:NAME``.
        seed: Root of all randomness of training, 0 to 2^53 - 1.
        options: All further keys; the recipe checks them.

    Raises:
        ConfigError: A value lies out of range.
    """

    recipe: str = field(
        default="mlp",
        metadata=option(
            text,
            'How models are trained: "mlp", "logistic", "cnn" (images), "adapter" (a frozen backbone with low-rank '
            'adapters), or "python:module:NAME" for an object in a module beside this '
            "file with build(seed) and train(model, records, rng), and logits(model, records) if it needs one.",
        ),
    )
    seed: int = field(
        default=0,
        metadata=option(
            whole, "Root of all randomness of `cu-cert train`: the same seed, data and recipe give the same bits."
        ),
    )
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.seed >= 0, "[training] seed", self.seed, "at least 0")
        if self.recipe not in recipes.names() and not self.recipe.startswith("python:"):
            known = [*recipes.names(), "python:module:NAME"]
            require(False, "[training] recipe", self.recipe, nearest(self.recipe, known))


@dataclass(frozen=True, kw_only=True)
class UnlearningConfig:
    """The table ``[unlearning]``.

    Args:
        method: Name of the method that ``unlearn`` and ``audit`` use when the command line names none.
        parameters: Values for the method's parameters; the method checks them.
        regimes: The law or contract that the request rests on; describes, like the next three.
        received: When the request came in, ``YYYY-MM-DD``.
        executed: When it was carried out.
        due: When it had to be carried out.

    Raises:
        ConfigError: Parameters stand without a method, or the dates run backwards.
    """

    method: str | None = field(
        default=None,
        metadata=option(
            text, "The method, when the command line names none. `cu-cert methods` lists them.", example="npo"
        ),
    )
    parameters: Mapping[str, object] = field(
        default_factory=dict,
        metadata=option(table, "Its parameters; unset ones keep their defaults.", example={"epochs": 5}),
    )
    regimes: tuple[str, ...] = field(
        default=(),
        metadata=option(
            texts,
            "The law or contract that the request rests on. This key and the dates below describe: the certificate "
            "repeats them, and no result depends on them.",
            example=["GDPR-17"],
        ),
    )
    received: str | None = field(
        default=None,
        metadata=option(
            day,
            "When the request came in. A date can point to a person: leave it out where few requests come in.",
            example="2026-10-01",
        ),
    )
    executed: str | None = field(default=None, metadata=option(day, "When it was carried out.", example="2026-10-20"))
    due: str | None = field(default=None, metadata=option(day, "When it had to be carried out.", example="2026-11-01"))

    def __post_init__(self) -> None:
        require(
            not self.parameters or self.method is not None,
            "[unlearning] parameters",
            self.parameters,
            "no parameters without a method",
        )
        require_lines("unlearning", {"regimes": self.regimes})
        for key in ("executed", "due"):
            value = getattr(self, key)
            require(
                value is None or self.received is None or value >= self.received,
                f"[unlearning] {key}",
                value,
                f"a date that is not before received = {self.received}",
            )

    def dates(self) -> dict[str, object]:
        """Return what the certificate says of the request's ground and dates; nothing for what is not given."""
        found = {"receivedAt": self.received, "executedAt": self.executed, "dueAt": self.due}
        return {
            **({"regimes": list(self.regimes)} if self.regimes else {}),
            **{name: value for name, value in found.items() if value is not None},
        }


def default_guesses(slots: int) -> int:
    """Return how many of ``slots`` are guessed unless the project says otherwise: 2 floor(3 slots / 8)."""
    return 2 * (3 * slots // 8)


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """The table ``[audit]``.

    Args:
        questions: Which of ``procedure`` and ``artifact`` are asked.
        slots: Model slots of the procedure question, at least 4; with ``sequential`` the most that are opened.
        sequential: Whether the slots are judged one after another, and training ends when they have decided.
        guesses: How many of them are guessed, even; ``None`` = :func:`default_guesses`.
        references: Retrained models that the artifact is ranked among, at least 1.
        pilots: Models on which the score is fitted, at least 2.
        controls: Retrains of the artifact question's negative control, at least 1.
        score: What is measured on a model: ``combined``, ``likelihood``, ``mean``, ``discriminant`` or ``worst``.
        alpha: Error level of the whole certificate, in (0, 1).
        tested_eps: The eps under test, at least 0.
        tested_delta: The delta under test, in [0, 1).
        detect_eps: The eps that the audit should be able to see, above ``tested_eps``.
        reference: ``retrain`` or ``retrain+noop``.
        original: ``redrawn`` or ``fixed``.
        direction: ``both`` or ``forward``.
        attempt: Number of this audit of this request, from 1.
        pad_request: The number of ids is stated as the next multiple of this; 0 states it as it is.
        shadows: Models of random halves of all records, for the attacks on single records; even.
        share_originals: Whether models trained on all records serve the audits of other requests, too.
        workers: Processes; 0 = one for each core.
        engine: ``auto``, ``single`` or ``vectorised``.
        device: ``auto``, ``cpu`` or ``cuda``.
        store: Folder of trained models.

    Raises:
        ConfigError: A value lies out of range, or the options do not belong together.
    """

    questions: tuple[str, ...] = field(
        default=QUESTIONS,
        metadata=option(
            texts,
            '"procedure": does this method, on this recipe and request, unlearn? (trains slots + pilots models) '
            '"artifact": is this very file typical of models that never saw the request? (trains references + controls '
            "models; needs no knowledge of the method).",
        ),
    )
    slots: int = field(
        default=64,
        metadata=option(
            whole,
            "Procedure: models whose origin, unlearned or retrained, a fair coin decides. 32 is quick, 64 standard, "
            "256 strong.",
        ),
    )
    sequential: bool = field(
        default=False,
        metadata=option(
            flag,
            "Procedure: judge the slots one after another and train no more of them once they have decided; `slots` is "
            "then the most. A clear failure ends after about 12 slots, a clear success after 20 to 40. false trains "
            "all slots and shows a larger eps.",
        ),
    )
    guesses: int | None = field(
        default=None,
        metadata=option(
            whole,
            "Procedure: how many slots are guessed, even, at most `slots`. Unset: 2 floor(3 slots / 8).",
            example=48,
        ),
    )
    references: int = field(
        default=132,
        metadata=option(
            whole,
            "Artifact: retrained models among which the file is ranked. More show a smaller leak. With 132 and both "
            "questions, eps = 0.5 is refuted even if one retrained model ranks higher.",
        ),
    )
    pilots: int = field(
        default=16, metadata=option(whole, "Models on which the score is fitted; they are neither judged nor ranked.")
    )
    controls: int = field(
        default=8, metadata=option(whole, "Artifact: retrains that are judged like the file, as negative control.")
    )
    score: str = field(
        default="combined",
        metadata=option(
            text,
            'What is measured on a model, fitted on the pilots: "combined" (the largest of the next and the worst '
            'record), "likelihood" (sum of log-likelihood ratios), "mean", "discriminant" (regularised) or "worst" '
            "(record). Each looks at remembering and at over-forgetting.",
        ),
    )
    alpha: Fraction = field(
        default=Fraction(1, 20),
        metadata=option(
            exact,
            "Probability with which any lower bound of the certificate may be wrong, split evenly over the questions. "
            "Exact numbers stand in quotes, as decimals or fractions.",
        ),
    )
    tested_eps: Fraction = field(
        default=Fraction(1, 2),
        metadata=option(exact, "The eps under test: a larger lower bound refutes the unlearning."),
    )
    tested_delta: Fraction = field(default=Fraction(0), metadata=option(exact, "The delta under test."))
    detect_eps: Fraction = field(
        default=Fraction(2),
        metadata=option(
            exact, "A leak of this eps should be seen; the certificate states how often the audit would see it."
        ),
    )
    reference: str = field(
        default="retrain",
        metadata=option(
            text,
            'Procedure: what the method is compared with. "retrain", or "retrain+noop": each retrain is followed by '
            "the method with an empty request (for methods that always post-process, such as adding noise).",
        ),
    )
    original: str = field(
        default="redrawn",
        metadata=option(
            text,
            'Procedure: "redrawn" trains an original for each slot. "fixed" unlearns from one original; that is '
            "another question than the guarantee asks, so such an audit decides nothing.",
        ),
    )
    direction: str = field(
        default="both",
        metadata=option(
            text, 'Procedure: "both", or "forward" for a certified guarantee that is stated in one direction only.'
        ),
    )
    attempt: int = field(
        default=1,
        metadata=option(
            whole, "Number of this audit of this request. Raise it when you audit again: every attempt counts."
        ),
    )
    pad_request: int = field(
        default=0,
        metadata=option(
            whole,
            "Hide how many ids a request has: 128 states the next multiple of 128, and leaves out every number that "
            "would give the true one away, which are those over single records. 0 states it as it is.",
        ),
    )
    shadows: int = field(
        default=0,
        metadata=option(
            whole,
            "Models that are trained on random halves of all records, for the attacks on single records, even; 64 is "
            "strong. They know no request, so one set serves every later audit of the same data and recipe.",
        ),
    )
    share_originals: bool = field(
        default=True,
        metadata=option(
            flag,
            "Models that are trained on all records know no request: one set serves the audits of all requests that "
            "have no record in common, and each certificate names the others. false trains them anew for each plan.",
        ),
    )
    workers: int = field(
        default=0, metadata=option(whole, "Processes that train models; 0 = one for each core. Changes no result.")
    )
    engine: str = field(
        default="auto",
        metadata=option(
            text,
            'How models are trained. "vectorised": many in one program, several times faster; "single": one after '
            'another; "auto": vectorised where the recipe can. The models differ in their last bits only.',
        ),
    )
    device: str = field(
        default="auto",
        metadata=option(
            text,
            'Where the vectorised program computes: "cpu", "cuda", or "auto" for the accelerator if there is one. '
            "Methods, measurements and replays stay on the processor.",
        ),
    )
    store: str = field(
        default=".cu-cert/store",
        metadata=option(
            text,
            "Folder of trained models, relative to this file; they are used again by later audits. The environment "
            "variable CU_CERT_STORE overrides it.",
        ),
    )

    def __post_init__(self) -> None:
        asked = set(self.questions)
        require(
            bool(asked) and asked <= set(QUESTIONS) and len(asked) == len(self.questions),
            "[audit] questions",
            self.questions,
            '"procedure", "artifact" or both, each once',
        )
        for key, choices in (
            ("reference", ("retrain", "retrain+noop")),
            ("original", ("redrawn", "fixed")),
            ("direction", ("both", "forward")),
            ("score", ("combined", "likelihood", "mean", "discriminant", "worst")),
            ("engine", ("auto", "single", "vectorised")),
            ("device", ("auto", "cpu", "cuda")),
        ):
            chosen = getattr(self, key)
            require(chosen in choices, f"[audit] {key}", chosen, " or ".join(f'"{choice}"' for choice in choices))
        require(
            self.score == "combined" or not self.sequential,
            "[audit] score",
            self.score,
            '"combined" where sequential = true: that score is learned further while slots are opened',
        )
        for key, least in (("slots", 4), ("references", 1), ("pilots", 2), ("controls", 1), ("attempt", 1)):
            value = getattr(self, key)
            require(least <= value <= 10**6, f"[audit] {key}", value, f"{least} to {10**6}")
        require(
            self.pad_request == 0 or 2 <= self.pad_request <= 10**6,
            "[audit] pad_request",
            self.pad_request,
            f"0 (off) or 2 to {10**6}",
        )
        require(
            0 <= self.shadows <= 10**5 and self.shadows % 2 == 0,
            "[audit] shadows",
            self.shadows,
            f"0 (none) or an even number up to {10**5}: each half has its counterpart",
        )
        require(0 <= self.workers <= 1024, "[audit] workers", self.workers, "0 to 1024")
        require(
            self.guesses is None or (2 <= self.guesses <= self.slots and self.guesses % 2 == 0),
            "[audit] guesses",
            self.guesses,
            f"an even number from 2 to slots = {self.slots} (half of the guesses go to each side)",
        )
        require(0 < self.alpha < 1, "[audit] alpha", self.alpha, "a number above 0 and below 1")
        require(0 <= self.tested_eps <= 50, "[audit] tested_eps", self.tested_eps, "a number from 0 to 50")
        require(0 <= self.tested_delta < 1, "[audit] tested_delta", self.tested_delta, "a number from 0, below 1")
        require(
            self.tested_eps < self.detect_eps <= 50,
            "[audit] detect_eps",
            self.detect_eps,
            f"a number above tested_eps = {self.tested_eps}, at most 50",
        )

    @property
    def guess_count(self) -> int:
        """How many slots are guessed."""
        return default_guesses(self.slots) if self.guesses is None else self.guesses
