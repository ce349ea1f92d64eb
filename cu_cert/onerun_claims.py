"""One run on drawn records as evidence, claims and plots."""

from collections.abc import Sequence

import numpy as np

from cu_attacks._panel import judge
from cu_attacks._roc import roc_points
from cu_cert._drill_lab import Measured, Seen
from cu_cert.claims import Claim, Plot, estimate_claim, metric_claim
from cu_cert.drilling import SCALE, DrillResult, whole_scores
from cu_cert.label_claims import groups_plot
from cu_cert.panel import permille
from cu_certificates.check.candidate_table import ROLES, CandidateTable
from cu_certificates.check.candidates import SIDES, control_fails
from cu_certificates.check.coins import right_guesses
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.fields import printed
from cu_certificates.check.onerun import onerun_bound, request_bound
from cu_certificates.check.strict import canonical
from cu_certificates.plan import Plan, Subject

Scores = Sequence[int | None]


def reference_rows(references: Sequence[Seen]) -> bytes:
    """Write one line a reference model; the plan holds the digest of these bytes, so they stand before the coins."""
    return b"".join(
        canonical({"kind": "reference", "slot": slot, "model": one.tensors, "signals": one.signals.digest}) + b"\n"
        for slot, one in enumerate(references)
    )


def candidate_rows(measured: Measured, seed: bytes, file: str) -> bytes:
    """Write the evidence: the seed, the models, and one line a candidate, by number and without its id.

    Certified drills draw the numbers in secret (:meth:`Secrets.numbers_key`): in the order of ids, whoever has the list
    of ids would know whose score each line holds.

    Args:
        measured: The models.
        seed: The audit seed, opened here.
        file: SHA-256 (hex) of the audited file.
    """

    def named(kind: str, seen: Seen, **more: object) -> dict[str, object]:
        return {"kind": kind, "model": seen.tensors, "signals": seen.signals.digest, **more}

    subjects, drawn = measured.subjects, measured.drawn
    lines: list[dict[str, object]] = [
        {"kind": "opening", "seed": seed.hex(), "nonce": ""},
        named("subject", subjects["method"], file=file),
        named("original", subjects["original"]),
        *(named("rerun", seen, slot=slot) for slot, seen in enumerate(measured.controls)),
    ]
    own, before = (whole_scores(subjects[name], drawn).tolist() for name in ("method", "original"))
    again = np.stack([whole_scores(seen, drawn) for seen in measured.controls], axis=1).tolist()
    rows = zip(measured.coins, own, before, again, strict=True)
    lines += [
        {"kind": "candidate", "index": index, "role": ROLES[bit], "score": score, "original": old, "reruns": reruns}
        for index, (bit, score, old, reruns) in enumerate(rows)
    ]
    return b"".join(canonical(line) + b"\n" for line in lines)


def _sides(table: CandidateTable, scores: Scores, guesses: int) -> tuple[int, int]:
    """Return the right guesses of either side."""
    turned = [None if score is None else -score for score in scores]
    return right_guesses(table.coins, scores, guesses), right_guesses(table.coins, turned, guesses)


def onerun_claims(table: CandidateTable, plan: Plan, subject: Subject) -> list[Claim]:
    """Claims of the procedure question by one run: the bounds, both controls and the power."""
    alpha, delta, sizes = plan.share(), subject.tested_delta, plan.sizes
    side, guesses, candidates = alpha / SIDES, sizes.guesses, sizes.slots
    common = {"question": "procedure", "evidence": "onerun"}
    sized = {"candidates": candidates, "guesses": guesses}
    right, turned = _sides(table, table.scores, guesses)
    seen, _ = _sides(table, table.originals, guesses)
    sham, opposite = _sides(table, table.reruns, guesses)
    worst = min(max(sham, opposite) + table.reruns.count(None), guesses)
    positive = request_bound(guesses, seen, side, delta)

    def record(of: int) -> str:
        return printed(onerun_bound(candidates, guesses, of, side, delta))

    return [
        {
            "id": "c-eps-procedure",
            "type": "eps-onerun",
            **common,
            "alpha": str(alpha),
            "delta": str(delta),
            **sized,
            "right": right,
            "reversed": turned,
            "bound": printed(request_bound(guesses, max(right, turned), side, delta)),
            "recordBound": record(max(right, turned)),
            "planned": True,
        },
        {
            "id": "c-pos-procedure",
            "type": "control",
            **common,
            "sign": "positive",
            "alpha": str(alpha),
            "guesses": guesses,
            "right": seen,
            "bound": printed(positive),
            "outcome": "detected" if positive > subject.tested_eps else "missed",
        },
        {
            "id": "c-neg-procedure",
            "type": "control",
            **common,
            "sign": "negative",
            "guesses": guesses,
            "right": sham,
            "reversed": opposite,
            "tail": str(CONTROL_TAIL),
            "outcome": "failed" if control_fails(guesses, worst) else "sound",
        },
        {**_power(plan, subject), **sized, "maxRecordEps": record(guesses)},
    ]


def _power(plan: Plan, subject: Subject) -> Claim:
    seen = plan.resolution(subject, "procedure")
    return {
        "id": "c-power-procedure",
        "type": "power",
        "question": "procedure",
        "alpha": str(plan.share()),
        "testedEps": str(subject.tested_eps),
        "detectEps": str(plan.detect_eps),
        "critical": seen.critical,
        "accuracy": None if seen.accuracy is None else printed(seen.accuracy),
        "maxEps": printed(seen.max_eps),
        "reached": seen.reached,
    }


def beside_claims(done: DrillResult, table: CandidateTable) -> tuple[list[Claim], Plot | None]:
    """Show what decides nothing: the curve over single records, the other models, each kind of candidate, the cost."""
    claims, curve = _panel(table)
    method, original, retrain = done.subjects
    for one, what in ((original, "the model before"), (retrain, "a retrained model")):
        note = f"the audited model has {method.accuracy:.4f}"
        claims.append(metric_claim(f"utility-{one.name}", f"held-out accuracy of {what}", one.accuracy, None, note))
    guesses = retrain.remembering.guesses
    note = f"of {guesses} guesses on one retrained model; {guesses // 2} are right by chance alone"
    claims.append(metric_claim("right-retrain", "right guesses", float(retrain.remembering.right), None, note))
    if len(method.strata) > 1:
        claims += [
            metric_claim(f"right-{kind}", f"right guesses, {kind}", float(right), None, _kind_note(kind, of))
            for kind, (right, of) in method.strata.items()
        ]
    if retrain.cpu_seconds > 0:
        note = f"CPU time of one run of {done.design.method} over that of one retrain, on one thread each"
        claims.append(
            metric_claim("cost", "cost against retraining", method.cpu_seconds / retrain.cpu_seconds, None, note)
        )
    return claims, curve


def _panel(table: CandidateTable) -> tuple[list[Claim], Plot | None]:
    """Show what an attacker would see on single records."""
    known = [(score, bit) for score, bit in zip(table.scores, table.coins, strict=True) if score is not None]
    values, member = np.array([score for score, _ in known]) / SCALE, np.array([bit == 1 for _, bit in known])
    if not 2 <= member.sum() <= len(member) - 2:
        return [], None  # a curve over one record would be that record
    title = "offline LiRA, drawn records that were trained on against those that stayed out"
    found = judge(values, member, name=title)
    claims = [estimate_claim("auc-onerun", found.auc)]
    claims += [estimate_claim(f"tpr-onerun-{round(rate * 1000)}", at) for rate, at in found.rates]
    curve = permille(*roc_points(values, member))
    return claims, {"kind": "roc", "title": "Attacks on single records", "series": [{"label": title, "points": curve}]}


def _kind_note(kind: str, guesses: int) -> str:
    check = "; such records hardly need remembering, so about half should be right" if kind == "typical" else ""
    return f"of {guesses} guesses about candidates of this kind, ranked for itself{check}"


def candidates_plot(table: CandidateTable) -> Plot | None:
    """Plot the scores of candidates that were trained on and unlearned beside those that stayed out."""
    groups = {
        role: [
            score for score, bit in zip(table.scores, table.coins, strict=True) if bit == wanted and score is not None
        ]
        for role, wanted in (("never", 0), ("request", 1))
    }
    return groups_plot(
        "Drawn records in the audited model",
        "score of one record, in standard deviations of models that never saw it",
        groups,
        {"never": "stayed out of training", "request": "entered training, then unlearned"},
    )
