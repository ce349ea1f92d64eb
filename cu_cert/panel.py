"""What informs beside the questions: the attacks panel, differences between pools, utility, cost, and the plots."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cu_attacks._combined import SCALE
from cu_attacks._roc import area, rate_at, roc_points
from cu_attacks.energy import energy_test
from cu_attacks.lira import lira_offline
from cu_attacks.loss import negative_loss
from cu_cert.claims import Claim, Plot, estimate_claim, metric_claim
from cu_cert.signals import Signals
from cu_certificates.check.strict import canonical
from cu_certificates.check.tables import ArtifactTable, SlotTable

if TYPE_CHECKING:
    from cu_cert.pools import Bench, Run

BINS = 18
ROC_POINTS = 120
FALSE_RATES = (0.01, 0.001)


def attack_panel(
    subject: Signals, shadows: Sequence[Signals], forget: int, *, suffix: str = ""
) -> tuple[list[Claim], Plot]:
    """Run the per-record attacks on one model: request against never-trained records.

    Args:
        subject: Signals of the audited model, request first.
        shadows: Signals of models that saw neither.
        forget: Number of records in the request.
        suffix: Added to claim ids, for a second model beside the audited one.

    Returns:
        Metric claims and the plot of the curves.
    """
    member = np.arange(len(subject.margin)) < forget
    margins = np.stack([shadow.margin for shadow in shadows])
    scores = {
        "lira": ("LiRA (offline, pooled variance)", lira_offline(subject.margin, margins)),
        "loss": ("loss threshold", negative_loss(subject.margin)),
    }
    claims: list[Claim] = []
    series = []
    before = " of the model before" if suffix else ""
    for name, (title, values) in scores.items():
        claims.append(estimate_claim(f"auc-{name}{suffix}", area(values, member, name=f"AUC, {title}{before}")))
        for rate in FALSE_RATES:
            wording = f"TPR at {rate:.1%} FPR, {title}{before}"
            at = rate_at(values, member, false_rate=rate, name=wording)
            claims.append(estimate_claim(f"tpr-{name}-{round(rate * 1000)}{suffix}", at))
        series.append({"label": title, "points": _permille(*roc_points(values, member))})
    return claims, {"kind": "roc", "title": "Attacks on single records", "series": series}


def _permille(false: npt.NDArray[np.float64], true: npt.NDArray[np.float64]) -> list[list[int]]:
    """Thin a curve to whole thousandths, at most :data:`ROC_POINTS` points, ends kept."""
    points = sorted({(round(1000 * x), round(1000 * y)) for x, y in zip(false, true, strict=True)})
    if len(points) > ROC_POINTS:
        keep = np.unique(np.linspace(0, len(points) - 1, ROC_POINTS).round().astype(int))
        points = [points[index] for index in keep]
    return [list(point) for point in points]


def difference_claims(bench: "Bench", runs: "Sequence[Run]", rng: np.random.Generator) -> list[Claim]:
    """Compare the unlearned with the retrained models of the slots by energy distance; descriptive."""
    pools = [
        bench.pool(run.member for run in runs if (run.group, run.role) == ("main", role))
        for role in ("unlearned", "retrained")
    ]
    if min(map(len, pools)) < 2:
        return []
    found = energy_test(bench.memory(pools[0]), bench.memory(pools[1]), rng=rng)
    note = (
        f"{found.n[0]} unlearned against {found.n[1]} retrained models; under permutation the median is "
        f"{found.null_median:.4f}; {found.shows_not}"
    )
    return [
        metric_claim("energy", "energy distance between unlearned and retrained models", found.statistic, None, note),
        metric_claim(
            "energy-p", "its permutation p-value (999 permutations of models)", found.p, None, found.shows_not
        ),
    ]


def reference_utility(held_out: Signals, references: Sequence[Signals], forget: int) -> list[Claim]:
    """Set the audited model's held-out accuracy beside that of the retrained models."""
    own = float(held_out.correct[forget:].mean())
    pool = [float(one.correct[forget:].mean()) for one in references]
    low, high = (float(np.quantile(pool, q)) for q in (0.025, 0.975))
    note = f"mean and 2.5 % to 97.5 % range of {len(pool)} retrained models; the audited model has {own:.4f}"
    return [metric_claim("utility-retrained", "held-out accuracy of retrained models", mean(pool), (low, high), note)]


def cost_claims(bench: "Bench", runs: "Sequence[Run]", method: str) -> list[Claim]:
    """Set the method's cost beside a retrain's."""
    edits, retrains = (
        bench.seconds(run.member for run in runs if (run.group, run.role) == ("main", role))
        for role in ("unlearned", "retrained")
    )
    if not edits or not retrains or sum(retrains) <= 0:
        return []
    note = f"mean CPU time of {len(edits)} runs of {method} over that of {len(retrains)} retrains, on one thread each"
    return [metric_claim("cost", "cost against retraining", mean(edits) / mean(retrains), None, note)]


def utility_rows(sets: Mapping[str, npt.NDArray[np.bool_]]) -> bytes:
    """Write right answers as evidence, sorted by answer so that no row can be linked to a record."""
    return b"".join(
        canonical({"kind": "record", "group": name, "score": int(score)}) + b"\n"
        for name, correct in sets.items()
        for score in sorted(correct)
    )


def _edges(values: Sequence[int]) -> list[Fraction]:
    """Return bin edges in hundredths of the score's unit, at most :data:`BINS` bins."""
    low, high = min(values) * 100 // SCALE, -(-max(values) * 100 // SCALE)
    width = max(-(-(high - low) // BINS), 1)
    count = max(-(-(high - low) // width), 1)
    return [Fraction(low + index * width, 100) for index in range(count + 1)]


def _two_places(value: Fraction) -> str:
    hundredths = round(value * 100)
    return f"{'-' if hundredths < 0 else ''}{abs(hundredths) // 100}.{abs(hundredths) % 100:02d}"


def pools_plot(
    title: str, groups: Sequence[tuple[str, str, Sequence[int]]], mark: tuple[str, int] | None = None
) -> Plot | None:
    """Count scores into bins.

    Args:
        title: Title of the plot.
        groups: (label, role, integer scores) of each group.
        mark: A label and score to draw as a line.
    """
    there = [(label, role, scores) for label, role, scores in groups if scores]
    values = [score for _, _, scores in there for score in scores] + ([mark[1]] if mark else [])
    if not there:
        return None
    edges = _edges(values)
    series = []
    for label, role, scores in there:
        # One score may lie on the last edge: it belongs to the last bin.
        where = np.searchsorted([float(edge) for edge in edges], [score / SCALE for score in scores], side="right") - 1
        counts = np.bincount(np.clip(where, 0, len(edges) - 2), minlength=len(edges) - 1)
        series.append({"label": label, "role": role, "counts": [int(count) for count in counts]})
    plot: Plot = {
        "kind": "pools",
        "title": title,
        "unit": "audit score: distance from retrained models, in standard deviations",
        "binEdges": [_two_places(edge) for edge in edges],
        "series": series,
    }
    if mark:
        plot["marks"] = [{"label": mark[0], "role": "subject", "at": _two_places(Fraction(mark[1], SCALE))}]
    return plot


def procedure_plot(table: SlotTable, method: str) -> Plot | None:
    """Plot the pools of the procedure question."""
    groups = [
        (
            "retrained without the request",
            "retrained",
            [m.score for m, c in zip(table.main, table.coins, strict=True) if not c],
        ),
        (f"unlearned by {method}", "unlearned", [m.score for m, c in zip(table.main, table.coins, strict=True) if c]),
        (
            "original (positive control)",
            "original",
            [m.score for m, c in zip(table.positive, table.coins, strict=True) if c],
        ),
    ]
    return pools_plot(
        "Scores of the slots", [(label, role, [s for s in scores if s is not None]) for label, role, scores in groups]
    )


def artifact_plot(table: ArtifactTable, name: str) -> Plot | None:
    """Plot the references with the audited model among them."""
    scores = [model.score for model in table.references if model.score is not None]
    assert table.subject.score is not None
    return pools_plot(
        "The audited file among retrained models",
        [("retrained without the request", "reference", scores)],
        (name, table.subject.score),
    )


def eps_plot(claims: Sequence[Claim], tested: str) -> Plot:
    """Plot the lower bounds beside the guarantee under test."""
    most = {claim["question"]: claim["maxEps"] for claim in claims if claim["type"] == "power"}
    bars = [
        {"label": claim["question"], "lower": claim["bound"], "max": most[claim["question"]], "claim": claim["id"]}
        for claim in claims
        if claim.get("planned")
    ]
    return {"kind": "eps", "title": "Lower bounds on eps", "tested": tested, "bars": bars}
