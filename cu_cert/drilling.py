"""``drill``: the one-run audit of unlearning. One training, one unlearning, one guess for each of many fair coins.

A drill is a rehearsal on records that it draws itself. It answers in seconds whether a method unlearns at all, before
anybody trains a fleet; it keeps its models in memory, changes no file of the project and writes no certificate
(``drill_certificate.py`` does). The statistics are those of ``cu_attacks.onerun``: each candidate enters training by a
fair coin, the method unlearns those that entered, and the coins are guessed from the one model that results.

Two sides are looked at, each with half of alpha: records that are still remembered (highest scores), and records that
were pushed away too far (lowest scores). The same guesses are made about the original, which must be refuted or the
drill was blind, and about retrained models, which no coin can have reached.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from time import process_time
from typing import TYPE_CHECKING, Final

import numpy as np

from cu_attacks.onerun import OneRun, candidate_scores, one_run
from cu_cert._drill_design import Design, Resolution
from cu_cert._drill_lab import CONTROLS, Drawn, FloatArray, Lab, Measured, Seen, draw, rehearse
from cu_cert.canaries import default_candidates
from cu_cert.data import Dataset, load_records
from cu_cert.errors import DataError, Interrupted, MethodError
from cu_cert.fleet.environment import single_threaded
from cu_cert.fleet.progress import Progress
from cu_cert.methods import UnlearningMethod, get
from cu_cert.methods._params import printable
from cu_cert.project import Project
from cu_cert.records import IntArray
from cu_cert.rng import Stream
from cu_certificates.check.candidates import control_fails
from cu_certificates.check.coins import right_guesses
from cu_certificates.plan import default_guesses

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from cu_cert.recipes import Recipe

REFERENCES: Final = 12
"""On digits more than eight reference models changed nothing that could be measured."""

SCALE: Final = 1_000_000
"""Scores are judged, and stand in evidence, as whole millionths."""

_LARGEST: Final = 2**51
"""No score stands further out; what would is as extreme as can be, and three of them still add up exactly."""

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
    setting = settle(
        project,
        method=method,
        options=options,
        canaries=canaries,
        candidates=candidates,
        references=references,
        alpha=alpha,
        seed=seed,
    )
    rng = Stream.from_seed(seed).child("drill")
    try:
        lab = Lab(setting.recipe, setting.dataset.held_out, setting.progress(quiet))
        drawn = draw(setting.design, lab, setting.dataset.train, rng=rng)
        coins = tuple(rng.child("coin", name).integer(1) for name in drawn.candidates.records.ids)
        require_coins(coins, "give another --seed, or more --candidates")
        measured = rehearse(lab, drawn, coins, setting.method, setting.params, get("retrain"), rng=rng)
        return judged(setting.design, measured, started)
    except KeyboardInterrupt:
        raise Interrupted("stopped: a drill keeps its models in memory, so nothing was kept; run it again") from None


@dataclass(frozen=True, eq=False, kw_only=True)
class Setting:
    """What a drill is about, checked before anything is trained.

    Args:
        design: Sizes and levels.
        method: The method under rehearsal.
        params: Its parameters.
        dataset: The records.
        recipe: How models are trained.
    """

    design: Design
    method: UnlearningMethod
    params: "DataclassInstance"
    dataset: Dataset
    recipe: "Recipe"

    def progress(self, quiet: bool) -> Progress:
        """Return the line that says how many of its models are made."""
        return Progress(self.design.references + CONTROLS + 3, "drill", quiet=quiet)


def settle(
    project: Project,
    *,
    method: str | None,
    options: Mapping[str, object] | None,
    canaries: str,
    candidates: int | None,
    references: int,
    alpha: Fraction | None,
    seed: str,
) -> Setting:
    """Resolve and check what a drill is about; the arguments are those of :func:`drill`.

    Raises:
        CuCertError: An input is wrong, or the drill would be too small.
    """
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
    return Setting(design=design, method=found, params=params, dataset=dataset, recipe=recipe)


def require_coins(coins: tuple[int, ...], advice: str) -> None:
    """Refuse coins that are all alike: then there is nothing to unlearn, or nothing to compare with.

    Raises:
        DataError: They are.
    """
    if not 0 < sum(coins) < len(coins):
        raise DataError(f"drill: all {len(coins)} coins are alike; {advice}")


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


def whole_scores(seen: Seen, drawn: Drawn) -> IntArray:
    """Score the candidates in one model, in whole millionths; a high score looks like a record that was trained on.

    The candidates of each kind are scored among themselves; several kinds are put on one scale by their ranks.

    Args:
        seen: What the model says.
        drawn: The candidates, and what the references say of them.

    Returns:
        Shape (m,), by number: so equal scores are ranked by number, too, and not by id.
    """
    strata, margins, references = drawn.strata(), drawn.numbered(seen.margins), drawn.numbered(drawn.margins)
    found: FloatArray = np.empty(len(margins))
    for own in strata.values():
        scores = candidate_scores(margins[own], references[:, own])
        if len(strata) > 1:
            scores = (np.argsort(np.argsort(scores, kind="stable"), kind="stable") + 0.5) / len(scores)
        found[own] = scores
    return np.rint(np.clip(found * SCALE, -_LARGEST, _LARGEST)).astype(np.int64)


def judged(design: Design, measured: Measured, started: float) -> DrillResult:
    """Guess the coins from each model, and say what follows.

    Args:
        design: Sizes and levels.
        measured: The models.
        started: The CPU clock when the drill began.
    """
    resolution, alpha, delta = design.resolution(), design.side_alpha, design.tested_delta

    def guessed(scores: IntArray) -> tuple[OneRun, OneRun]:
        coins, guesses = measured.coins, resolution.guesses
        high, low = (one_run(side, coins, guesses=guesses, alpha=alpha, delta=delta) for side in (scores, -scores))
        return high, low

    scores = {name: whole_scores(seen, measured.drawn) for name, seen in measured.subjects.items()}
    sides = {name: guessed(own) for name, own in scores.items()}
    control = guessed(np.sum([whole_scores(seen, measured.drawn) for seen in measured.controls], axis=0))
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


def _by_kind(scores: IntArray, measured: Measured) -> dict[str, tuple[int, int]]:
    found = {}
    for kind, own in measured.drawn.strata().items():
        coins = [coin for coin, inside in zip(measured.coins, own, strict=True) if inside]
        ranks = np.unique(scores[own], return_inverse=True)[1]
        guesses = default_guesses(len(coins))
        found[kind] = (right_guesses(coins, [int(rank) for rank in ranks], guesses), guesses)
    return found
