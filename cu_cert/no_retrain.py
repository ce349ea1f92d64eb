"""``audit --no-retrain``: what can be said about one given model by whoever cannot train another.

The request's records are compared with never-trained ones of the same class on the audited model alone, by an exact
permutation test. It may refute and never clears: no retrained model says what such a model would be like.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from cu_attacks._panel import judge
from cu_attacks._roc import roc_points
from cu_attacks._same_kind import MOST_KEPT, SCALE, Kind, calibrate, describe
from cu_attacks._types import AttackError
from cu_attacks.loss import negative_loss
from cu_cert._shadow_panel import with_shadows
from cu_cert._shadows_at_hand import AtHand
from cu_cert.claims import Claim, Plot, estimate_claim, metric_claim, utility_claims
from cu_cert.data import load_records
from cu_cert.errors import ConfigError, DataError
from cu_cert.fleet.environment import single_threaded
from cu_cert.forecast import Forecast
from cu_cert.forget import listed_index, read_ids, resolve_request
from cu_cert.issue import Findings, signing_key, write_certificate
from cu_cert.label_claims import Judged, label_claims, records_plot, shift_claim, tested_shift
from cu_cert.naming_nobody import require_plan
from cu_cert.panel import eps_plot, permille, utility_rows
from cu_cert.project import Project, find_project, load_project
from cu_cert.protocol import DEFAULT_OUT, Audited, Say, scope_of, workshop_of
from cu_cert.rng import Stream
from cu_cert.secrets_store import FOLDER, Secrets, write_private
from cu_cert.subjects import Measured, SubjectInput, draft_plan, measure_subject, name_method
from cu_certificates._files import make_folder
from cu_certificates.check.fields import Node, printed, shown
from cu_certificates.check.label_table import MAX_DRAWS, MAX_PERMUTATIONS, arrangements, read_labels
from cu_certificates.check.power import smallest_references
from cu_certificates.check.strict import Rejected, canonical
from cu_certificates.check.tables import rows
from cu_certificates.plan import Plan, Subject
from cu_certificates.seal import write_changed

if TYPE_CHECKING:
    from cu_cert.fleet.worker import Workshop
    from cu_cert.records import Records

PERMUTATIONS: Final = 9999
FEWEST_PERMUTATIONS: Final = 999
EASY_DRAWS: Final = 2_000_000
"""Draws that take the checker about a second; a larger request gets fewer permutations, down to the fewest."""

NEVER_CLEARS: Final = (
    "without retrained models the verdict is REFUTED or INCONCLUSIVE, never NOT_REFUTED; it assumes that the request's "
    "records are of one kind with never-trained ones (A12)"
)


@dataclass(frozen=True, eq=False)
class Comparable:
    """Which records can be judged: those of classes that the request, the held-out and the kept records all have.

    Args:
        classes: The classes, ascending.
        request: Rows of the request's records.
        never: Rows of the held-out records.
        left_out: Records of the request that have no counterpart.
    """

    classes: npt.NDArray[np.int64]
    request: npt.NDArray[np.int64]
    never: npt.NDArray[np.int64]
    left_out: int

    @property
    def sizes(self) -> tuple[int, int]:
        """Records of the request and never-trained ones."""
        return len(self.request), len(self.never)


def comparable(request: "Records", held_out: "Records", kept: "Records") -> Comparable:
    """Find the records that can be judged.

    Raises:
        DataError: None can: the request is made of whole classes, or no never-trained record is of its classes.
    """
    asked, never, stays = (set(records.y.tolist()) for records in (request, held_out, kept))
    names = request.classes
    both = sorted(asked & never & stays)
    if not both:
        whole = sorted(asked - stays)
        if whole:
            raise DataError(
                f"--no-retrain: the request holds every training record of class {names[whole[0]]!r}, so nothing of "
                "that kind stays. A model that still knows the class knows it on never-trained records too, which this "
                "comparison cannot see; audit it against retrained models (leave out --no-retrain)"
            )
        raise DataError(
            f"--no-retrain: no held-out record is of class {names[sorted(asked)[0]]!r}, so there is no never-trained "
            "record of the same kind to compare with; hold out records of the request's classes ([data] holdout), or "
            "audit against retrained models (leave out --no-retrain)"
        )
    classes = np.array(both, dtype=np.int64)
    rows_of = [np.flatnonzero(np.isin(records.y, classes)) for records in (request, held_out)]
    return Comparable(classes, rows_of[0], rows_of[1], len(request) - len(rows_of[0]))


def audit_without_retraining(
    model: Path,
    forget: Path,
    *,
    project: Project | None = None,
    method: str | None = None,
    options: Mapping[str, object] | None = None,
    procedure: bool = True,
    original: Path | None = None,
    out: Path = DEFAULT_OUT,
    key: Path | None = None,
    passphrase: bytes | None = None,
    sign: bool = True,
    dry_run: bool = False,
    allow_missing: bool = False,
    say: Say = print,
) -> Audited:
    """Audit one model file against a request without training any model, and write certificate, report and evidence.

    Args:
        model: The model under audit.
        forget: The list of ids.
        project: Data, recipe and levels; default the ``cu-cert.toml`` of the working directory or above.
        method: The method said to have made the model; it decides which guarantee is tested.
        options: The method's options.
        procedure: Whether sidecar and project may name the method.
        original: The model before unlearning: the positive control.
        out: Folder of the certificate.
        key: Private key that signs.
        passphrase: The passphrase of a protected key.
        sign: Whether to sign; without, an unsigned draft is written.
        dry_run: Stop after the plan.
        allow_missing: Count ids that are not in the data instead of refusing them.
        say: Receives the lines of the plan.

    Returns:
        The certificate and how it came about.

    Raises:
        CuCertError: Something the user gave is wrong, or no record of the request can be compared.
        CertificateError: A key or the plan is wrong.
    """
    single_threaded()
    project = project or load_project(find_project(Path.cwd()))
    signer = signing_key(project.key_path(), key, passphrase) if sign and not dry_run else None
    if project.audit.pad_request:
        raise ConfigError(
            f"{project.where('audit', 'pad_request')}: [audit] pad_request = {project.audit.pad_request} hides how "
            "many ids the request has, but --no-retrain compares record by record, so plan and evidence state that "
            "number; set pad_request = 0, or audit against retrained models (leave out --no-retrain)"
        )
    dataset = load_records(project.data, project.root)
    listed = read_ids(forget)
    request = resolve_request(listed, dataset, allow_missing=allow_missing)
    workshop = workshop_of(project, dataset, request)
    secrets = Secrets(project.root / FOLDER, keep=not dry_run)
    given = SubjectInput(model=model, out=out, method=method, options=options, procedure=procedure, original=original)
    named = name_method(project, given)
    there = comparable(workshop.forget_records, workshop.held_out, workshop.retain)
    draft, request_key = draft_plan(_artifact_only(project), [given], [named], workshop, request, secrets)
    plan = plan_records(draft, there, workshop)
    _check_plan(plan)
    for line in require_plan(listed_index(listed), plan, project.signing, [out]):
        say(line)
    plan, seed = secrets.commit(plan)
    own = measure_subject(workshop, given)
    halves = AtHand.of(project, workshop, secrets)
    for line in (*plan_lines(plan, there), *halves.lines()):
        say(line)
    none = Forecast(models=0, finished=0, seconds=0.0, megabytes=0.0, workers=1)
    if dry_run:
        return Audited(plan=plan, forecast=none, issued=(), key=None, trained=0)

    make_folder(out)
    secrets.register(plan.digest)
    write_changed(out / "plan.json", plan.to_bytes(), what="plan")
    write_private(out / "private", request.ids, request_key, seed, kept=secrets.request_key_name(request.ids))
    try:
        findings = _findings(plan, seed, workshop, there, own, named.source)
        findings = with_shadows(findings, own, halves.read(), len(workshop.forget))
        scope = scope_of(project, dataset, workshop, request, plan)
        issued = write_certificate(
            out,
            findings,
            plan,
            scope,
            signing=project.signing,
            key=signer.key if signer else None,
            secrets=secrets,
            forget=listed_index(listed),
            share=halves.lend(plan, secrets).enter,
        )
    except (AttackError, Rejected) as problem:
        raise DataError(f"{model}: nothing was signed: {problem}") from None
    return Audited(plan=plan, forecast=none, issued=(issued,), key=signer, trained=0)


def _artifact_only(project: Project) -> Project:
    """Return the project without what concerns models that are trained."""
    audit = replace(project.audit, questions=("artifact",), reference="retrain", original="redrawn", direction="both")
    return replace(project, audit=audit)


def plan_records(plan: Plan, there: Comparable, workshop: "Workshop") -> Plan:
    """Return a plan that asks the artifact question by labels, with as many permutations as are of use.

    Args:
        plan: A plan with subjects, levels and request.
        there: Which records are judged.
        workshop: The records themselves.
    """
    request, never = there.sizes
    labels = _labels(workshop, there)
    needed = [smallest_references(plan.share(), one.tested_eps, one.tested_delta) or 0 for one in plan.subjects]
    wanted = max(min(PERMUTATIONS, max(EASY_DRAWS // request, FEWEST_PERMUTATIONS)), *needed)
    ways = arrangements(labels, [True] * request + [False] * never)
    permutations = max(min(wanted, MAX_PERMUTATIONS, MAX_DRAWS // request, ways - 1), 1)
    return replace(
        plan,
        questions=("artifact",),
        designs={**plan.designs, "artifact": "labels"},
        extra={"artifact": {"permutations": permutations, "request": request, "never": never}},
        direction="both",
        reference="retrain",
        original="redrawn",
        score="margin",
    )


def _labels(workshop: "Workshop", there: Comparable) -> list[int]:
    """Return the stratum of each judged record, request first."""
    y = np.concatenate([workshop.forget_records.y[there.request], workshop.held_out.y[there.never]])
    return [int(stratum) for stratum in np.searchsorted(there.classes, y)]


def _check_plan(plan: Plan) -> None:
    problems = plan.problems()
    if problems:
        raise ConfigError(
            f"--no-retrain: too few records to show anything: {'; '.join(problems)}; hold out more records of the "
            "request's classes, or audit against retrained models (leave out --no-retrain)"
        )


def plan_lines(plan: Plan, there: Comparable) -> list[str]:
    """Say what will be compared and what it can show, one line each."""
    sizes, seen = plan.extra["artifact"], plan.resolution(plan.subjects[0], "artifact")
    lines = [
        f"plan {plan.digest[:16]}, attempt {plan.attempt}: no model is trained; {sizes['request']} records of the "
        f"request against {sizes['never']} never-trained ones of the same {len(there.classes)} classes, "
        f"{sizes['permutations']} random assignments",
        f"{plan.subjects[0].name}, artifact: tests eps* = {shown(plan.subjects[0].tested_eps)}, can show eps up to "
        f"{printed(seen.max_eps)}",
        NEVER_CLEARS,
    ]
    if there.left_out:
        lines.insert(
            1,
            f"{there.left_out} records of the request are not judged: nothing else of their class stays, or none is "
            "held out",
        )
    return lines


def _findings(plan: Plan, seed: bytes, workshop: "Workshop", there: Comparable, own: Measured, source: str) -> Findings:
    """Turn one model's signals into evidence, claims and plots."""
    subject: Subject = plan.subjects[0]
    judged = _judge_records(workshop, there, own)
    opening = {"kind": "opening", "seed": seed.hex(), "nonce": ""}
    head = {"kind": "subject", "file": subject.model, "model": own.tensors, "signals": own.signals.digest}
    data = b"".join(canonical(line) + b"\n" for line in (opening, head)) + judged.rows()
    table = read_labels(
        rows(data, "labels.jsonl"), "labels.jsonl", plan=Node(plan.to_json(), "plan"), plan_digest=plan.digest
    )
    size = len(workshop.forget)
    sets = {
        "held-out": own.signals.correct[size:],
        "retained": own.retained.correct,
        "request": own.signals.correct[:size],
    }
    panel, curves = _panel(own, judged, size)
    claims: list[Claim] = [
        {"id": "c-model", "type": "model-digest", "digest": {"sha256": subject.model}},
        *label_claims(table, plan, subject),
        *utility_claims({name: (int(correct.sum()), len(correct)) for name, correct in sets.items()}),
        shift_claim(table),
        metric_claim(
            "shift-seen",
            "shift that is refuted with probability 0.8",
            tested_shift(table, float(plan.share()) * exp(-float(subject.tested_eps))),
            None,
            "in standard deviations of the calibrated score; by a normal approximation, if all records shift alike",
        ),
        *panel,
    ]
    plots = {
        "artifact": records_plot(table),
        "roc": curves,
        "eps": eps_plot(claims, f"{float(subject.tested_eps):.4f}"),
    }
    return Findings(
        subject=subject,
        source=source,
        claims=claims,
        plots={name: plot for name, plot in plots.items() if plot is not None},
        evidence={
            ("plan", "plan", "plan.json", "public"): plan.to_bytes(),
            ("labels", "labels", "evidence/labels.jsonl", "controlled"): data,
            ("utility", "correct", "evidence/utility.jsonl", "controlled"): utility_rows(sets),
        },
    )


def _judge_records(workshop: "Workshop", there: Comparable, own: Measured) -> Judged:
    """Score the comparable records of the audited model, and of the original where it was given."""
    forget, held_out = workshop.forget_records, workshop.held_out
    kept = workshop.retain.select(_proxy_ids(workshop.retain, there.classes))
    x = np.concatenate([_flat(forget)[there.request], _flat(held_out)[there.never]])
    y = np.concatenate([forget.y[there.request], held_out.y[there.never]])
    kind: Kind = describe(x, y, _flat(kept), kept.y)
    strata = _labels(workshop, there)
    places = np.concatenate([there.request, len(forget) + there.never])
    return Judged(
        request=[True] * len(there.request) + [False] * len(there.never),
        strata=strata,
        scores=calibrate(own.signals.margin[places], kind.difficulty, strata),
        originals=[] if own.original is None else calibrate(own.original.margin[places], kind.difficulty, strata),
        kind=kind,
    )


def _flat(records: "Records") -> npt.NDArray[np.float64]:
    return records.x.reshape(len(records), -1).astype(np.float64)


def _proxy_ids(kept: "Records", classes: npt.NDArray[np.int64]) -> list[str]:
    """Choose the kept records that say how hard a record is: at most so many, the classes in equal parts, by id."""
    if len(kept) <= MOST_KEPT:
        return list(kept.ids)
    seen: dict[int, int] = {}
    ranked: list[tuple[int, bool, int, str]] = []
    for position in Stream.from_seed("no-retrain proxy").order(kept.ids):
        label = int(kept.y[position])
        seen[label] = seen.get(label, 0) + 1
        # Where there are more classes than places, the judged ones come first.
        ranked.append((seen[label], label not in classes, len(ranked), kept.ids[position]))
    return [one[3] for one in sorted(ranked)[:MOST_KEPT]]


def _panel(own: Measured, judged: Judged, size: int) -> tuple[list[Claim], Plot | None]:
    """Show what an attacker would see on single records, without shadow models."""
    claims: list[Claim] = []
    series = []
    if sum(judged.request) < 2:
        return [], None  # a curve over one record would be that record
    inside = np.arange(len(own.signals.margin)) < size
    before = [("-before", " of the model before", own.original, judged.originals)] if own.original else []
    for suffix, words, signals, scores in [("", "", own.signals, judged.scores), *before]:
        for name, title, values, member in (
            ("proxy", "margin beyond a proxy's", np.array(scores) / SCALE, np.array(judged.request)),
            ("loss", "loss threshold", negative_loss(signals.margin), inside),
        ):
            found = judge(values, member, name=f"{title}{words}")
            claims.append(estimate_claim(f"auc-{name}{suffix}", found.auc))
            claims += [estimate_claim(f"tpr-{name}-{round(rate * 1000)}{suffix}", at) for rate, at in found.rates]
            if not suffix:
                series.append({"label": title, "points": permille(*roc_points(values, member))})
    return claims, {"kind": "roc", "title": "Attacks on single records", "series": series}
