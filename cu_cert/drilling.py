"""``drill``: the one-run audit of unlearning. One training, one unlearning, one guess for each of many fair coins.

A drill is a rehearsal on records that it draws itself. It answers in seconds whether a method unlearns at all, before
anybody trains a fleet; it keeps its models in memory, changes no file of the project and writes no certificate. The
statistics are those of ``cu_attacks.onerun``: each candidate enters training by a fair coin, the method unlearns those
that entered, and the coins are guessed from the one model that results.

Two sides are looked at, each with half of alpha: records that are still remembered (highest scores), and records that
were pushed away too far (lowest scores). The same guesses are made about the original, which must be refuted or the
drill was blind, and about retrained models, which no coin can have reached.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from time import process_time
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from cu_attacks.onerun import OneRun, candidate_scores, one_run
from cu_cert._drill_design import Design, Resolution, control_fails
from cu_cert.canaries import Candidates, choose, default_candidates, joined, set_aside
from cu_cert.data import load_records
from cu_cert.errors import DataError, Interrupted, MethodError
from cu_cert.fleet.environment import single_threaded
from cu_cert.fleet.local import Progress
from cu_cert.methods import UnlearningMethod, get
from cu_cert.methods._params import printable
from cu_cert.project import Project
from cu_cert.records import Records
from cu_cert.rng import Stream
from cu_cert.signals import measure
from cu_certificates.check.coins import right_guesses
from cu_certificates.plan import default_guesses

if TYPE_CHECKING:
    import torch
    from _typeshed import DataclassInstance

    from cu_cert.recipes import Recipe

FloatArray = npt.NDArray[np.float64]

REFERENCES: Final = 12
"""On digits more than eight reference models changed nothing that could be measured."""

CONTROLS: Final = 3
"""Retrained models of the negative control; their scores are averaged, so a leak common to them stands out."""

SHOWS_NOT: Final = (
    "A drill speaks of records drawn and treated as these were, not of any request of yours, and its NOT_REFUTED of "
    "remembering alone. It writes no certificate and keeps its models in memory only."
)


@dataclass(frozen=True, kw_only=True)
class DrillSubject:
    """One model about which the coins were guessed.

    Args:
        name: ``method``, ``original`` or ``retrain``.
        remembering: Guesses that call the highest scores "was trained on".
        over_forgetting: Guesses that call the lowest scores so.
        strata: Right guesses and guesses on the remembering side, by kind of candidate, each kind ranked for itself.
        accuracy: Share of right answers on the held-out records.
        verdict: ``REFUTED``, ``NOT_REFUTED`` or ``INCONCLUSIVE``.
        reason: Why, in one line.
        cpu_seconds: What making the model took: training for original and retrain, the edit alone for a method.
    """

    name: str
    remembering: OneRun
    over_forgetting: OneRun
    strata: Mapping[str, tuple[int, int]]
    accuracy: float
    verdict: str
    reason: str
    cpu_seconds: float

    @property
    def side(self) -> str:
        """The side with the larger bound: ``remembering`` or ``over-forgetting``."""
        ahead = self.over_forgetting.right > self.remembering.right
        return "over-forgetting" if ahead else "remembering"

    @property
    def decisive(self) -> OneRun:
        """The guesses of that side."""
        return self.over_forgetting if self.side == "over-forgetting" else self.remembering


@dataclass(frozen=True, kw_only=True)
class DrillResult:
    """The outcome of a drill.

    Args:
        design: What was fixed before.
        resolution: What a drill of this size can see.
        included: How many candidates their coins put into training.
        control: Right guesses about the mean score of the retrained models of the negative control, remembering side.
        control_failed: Whether they are too many, or too few, for chance; then the drill makes no claim.
        subjects: The method's model, the original, and a retrained model, in this order.
        total_cpu_seconds: The whole drill, data and reference models included.
        shows_not: What a reader must not conclude.
    """

    design: Design
    resolution: Resolution
    included: int
    control: int
    control_failed: bool
    subjects: tuple[DrillSubject, ...]
    total_cpu_seconds: float
    shows_not: str = SHOWS_NOT

    @property
    def method(self) -> DrillSubject:
        """What became of the method; its verdict is the drill's."""
        return self.subjects[0]

    @property
    def verdict(self) -> str:
        """``REFUTED``, ``NOT_REFUTED`` or ``INCONCLUSIVE``."""
        return self.method.verdict

    @property
    def original_refuted(self) -> bool:
        """Whether the positive control came out as it must: the original, on the side of remembering."""
        return self.subjects[1].remembering.request_bound > self.design.tested_eps


def drill(
    project: Project,
    *,
    method: str | None = None,
    options: Mapping[str, object] | None = None,
    canaries: str = "mislabelled",
    candidates: int | None = None,
    references: int = REFERENCES,
    alpha: Fraction | None = None,
    seed: str = "drill",
    quiet: bool = False,
) -> DrillResult:
    """Rehearse an unlearning method on records drawn at random; nothing is written.

    Args:
        project: Data, recipe, and the guarantee under test: ``[audit] tested_eps``, or 0 for a method that states
            exactness.
        method: Name of the method; default the project's.
        options: Its options; default the project's, when the method is the project's.
        canaries: What the candidates are: ``mislabelled``, ``random``, ``vulnerable`` or ``mixed``.
        candidates: m; default 300, or a quarter of the training records when these are few; half for ``vulnerable``.
        references: Models that never see a candidate and fix the score, at least 2.
        alpha: Level of the drill; default ``[audit] alpha``.
        seed: Root of all randomness; equal arguments give equal results on one machine.
        quiet: Show no progress.

    Raises:
        CuCertError: An input is wrong, the drill would be too small, a training or the method failed.
        Interrupted: The user stopped the drill; nothing is kept.
    """
    started = process_time()
    single_threaded()
    found, params = _method(project, method, options)
    dataset, recipe = load_records(project.data, project.root), project.make_recipe()
    exact = found.guarantee == "exact"
    design = Design(
        method=found.name,
        parameters=printable(params),
        canaries=canaries,
        candidates=default_candidates(dataset.train, canaries) if candidates is None else candidates,
        references=references,
        alpha=project.audit.alpha if alpha is None else alpha,
        tested_eps=Fraction(0) if exact else project.audit.tested_eps,
        tested_delta=Fraction(0) if exact else project.audit.tested_delta,
        detect_eps=project.audit.detect_eps,
        seed=seed,
    )
    try:
        lab = _Lab(recipe, dataset.held_out, Stream.from_seed(seed).child("drill"), references + CONTROLS + 3, quiet)
        return _judged(design, _run(design, lab, dataset.train, found, params), started)
    except KeyboardInterrupt:
        raise Interrupted("stopped: a drill keeps its models in memory, so nothing was kept; run it again") from None


def _method(
    project: Project, name: str | None, options: Mapping[str, object] | None
) -> "tuple[UnlearningMethod, DataclassInstance]":
    configured = project.unlearning
    name = configured.method if name is None else name
    if name is None:
        raise MethodError(
            f"no method: name one with --method, or set method in [unlearning] of {project.path}; "
            "`cu-cert methods` lists them"
        )
    found = get(name, root=str(project.root))
    if options is None:
        options = configured.parameters if name == configured.method else {}
    return found, found.params(options)


@dataclass(frozen=True, kw_only=True)
class _Seen:
    """What one model says: margins on the candidates (or the pool), accuracy on held-out records, what it cost."""

    margins: FloatArray
    accuracy: float
    seconds: float


class _Lab:
    """Makes models, one after the other, and says how far it is."""

    def __init__(self, recipe: "Recipe", held_out: Records, rng: Stream, total: int, quiet: bool) -> None:
        self.recipe, self.held_out, self.rng = recipe, held_out, rng
        self.progress, self.done = Progress(total, "drill", quiet=quiet), 0

    def seen(self, model: "torch.nn.Module", asked: Records, seconds: float, what: str) -> _Seen:
        self.done += 1
        self.progress.show(self.done)
        found = measure(self.recipe, model, asked)
        if not found.usable:
            raise DataError(f"drill: {what} gives NaN or infinite scores; it diverged, so nothing can be measured")
        correct = measure(self.recipe, model, self.held_out).correct
        return _Seen(margins=found.margin, accuracy=float(correct.mean()), seconds=seconds)

    def trained(self, records: Records, *names: str | int) -> "tuple[torch.nn.Module, float]":
        started = process_time()
        model = self.recipe.train(records, rng=self.rng.child(*names))
        return model, process_time() - started


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """Everything that is needed to guess: kinds and coins of the candidates, references, models by name."""

    candidates: Candidates
    coins: tuple[int, ...]
    references: FloatArray
    subjects: Mapping[str, _Seen]
    controls: Sequence[_Seen]


def _run(design: Design, lab: _Lab, train: Records, method: UnlearningMethod, params: "DataclassInstance") -> _Measured:
    pool = set_aside(train, design.canaries, design.candidates, rng=lab.rng)

    def reference(number: int) -> FloatArray:
        model, cost = lab.trained(pool.rest, "reference", number)
        return lab.seen(model, pool.records, cost, "a reference model").margins

    margins = np.stack([reference(number) for number in range(design.references)])
    candidates = choose(train, pool, design.canaries, design.candidates, margins)
    asked = candidates.records
    coins = tuple(lab.rng.child("coin", name).integer(1) for name in asked.ids)
    if not 0 < sum(coins) < len(coins):
        raise DataError(f"drill: all {len(coins)} coins are alike; give another --seed, or more --candidates")
    everything = joined(candidates.base, asked, coins)
    request = tuple(name for name, coin in zip(asked.ids, coins, strict=True) if coin)
    original, seconds = lab.trained(everything, "original")
    retrain = get("retrain")

    def unlearned(way: UnlearningMethod, given: "DataclassInstance", *names: str | int) -> _Seen:
        begun = process_time()
        rng = lab.rng.child(*names)
        model = way.unlearn(original, request, everything, recipe=lab.recipe, params=given, rng=rng).model
        return lab.seen(model, asked, process_time() - begun, f"the model of {way.name}")

    return _Measured(
        candidates=candidates,
        coins=coins,
        references=margins[:, candidates.columns],
        subjects={
            "method": unlearned(method, params, "method", method.name),
            "original": lab.seen(original, asked, seconds, "the original"),
            "retrain": unlearned(retrain, retrain.params({}), "retrain"),
        },
        controls=[unlearned(retrain, retrain.params({}), "control", number) for number in range(CONTROLS)],
    )


def _scores(margins: FloatArray, measured: _Measured) -> FloatArray:
    """Score the candidates of each kind among themselves; several kinds are put on one scale by their ranks."""
    strata = measured.candidates.strata()
    found = np.empty(len(margins))
    for own in strata.values():
        scores = candidate_scores(margins[own], measured.references[:, own])
        if len(strata) > 1:
            scores = (np.argsort(np.argsort(scores, kind="stable"), kind="stable") + 0.5) / len(scores)
        found[own] = scores
    return found


def _judged(design: Design, measured: _Measured, started: float) -> DrillResult:
    resolution, alpha, delta = design.resolution(), design.side_alpha, design.tested_delta

    def guessed(scores: FloatArray) -> tuple[OneRun, OneRun]:
        coins, guesses = measured.coins, resolution.guesses
        high, low = (one_run(side, coins, guesses=guesses, alpha=alpha, delta=delta) for side in (scores, -scores))
        return high, low

    scores = {name: _scores(seen.margins, measured) for name, seen in measured.subjects.items()}
    sides = {name: guessed(own) for name, own in scores.items()}
    control = guessed(np.mean([_scores(seen.margins, measured) for seen in measured.controls], axis=0))
    failed = any(control_fails(side.guesses, side.right) for side in control)
    blind = sides["original"][0].request_bound <= design.tested_eps
    subjects = []
    for name, seen in measured.subjects.items():
        bound = max(side.request_bound for side in sides[name])
        verdict, reason = _verdict(design, resolution, bound, failed=failed, blind=blind)
        subjects.append(
            DrillSubject(
                name=name,
                remembering=sides[name][0],
                over_forgetting=sides[name][1],
                strata=_by_kind(scores[name], measured),
                accuracy=seen.accuracy,
                verdict=verdict,
                reason=reason,
                cpu_seconds=seen.seconds,
            )
        )
    return DrillResult(
        design=design,
        resolution=resolution,
        included=sum(measured.coins),
        control=control[0].right,
        control_failed=failed,
        subjects=tuple(subjects),
        total_cpu_seconds=process_time() - started,
    )


def _verdict(design: Design, resolution: Resolution, bound: Fraction, *, failed: bool, blind: bool) -> tuple[str, str]:
    """Return verdict and reason. A failed negative control voids every claim; the other lacks only withhold one."""
    tested = f"eps* = {float(design.tested_eps):.4f}"
    said = f"eps >= {float(bound):.4f} for the whole request"
    if failed:
        return "INCONCLUSIVE", "the negative control failed: retrained models told the coins, so no guess counts"
    if bound > design.tested_eps:
        return "REFUTED", f"{said} exceeds {tested}"
    if blind:
        return "INCONCLUSIVE", "the positive control failed: not even the original was refuted, so the drill was blind"
    if not resolution.reached:
        return (
            "INCONCLUSIVE",
            f"too few candidates to see an eps of {float(design.detect_eps):g} in four of five drills",
        )
    return "NOT_REFUTED", f"{said} does not exceed {tested}; both controls behaved"


def _by_kind(scores: FloatArray, measured: _Measured) -> dict[str, tuple[int, int]]:
    found = {}
    for kind, own in measured.candidates.strata().items():
        coins = [coin for coin, inside in zip(measured.coins, own, strict=True) if inside]
        ranks = np.unique(scores[own], return_inverse=True)[1]
        guesses = default_guesses(len(coins))
        found[kind] = (right_guesses(coins, [int(rank) for rank in ranks], guesses), guesses)
    return found
