"""What informs beside the questions: the attacks panel, differences between pools, utility, cost, and the plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import mean
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from cu_attacks._combined import SCALE
from cu_attacks._panel import FALSE_RATES, PanelResult, judge, leaking_records
from cu_attacks._roc import roc_band, roc_points
from cu_attacks._types import Estimate
from cu_attacks.calibrated import calibrated
from cu_attacks.lira import lira_offline
from cu_attacks.loss import negative_loss
from cu_attacks.population import population_rate, population_threshold
from cu_attacks.rmia import rmia_offline
from cu_attacks.ulira import ULira, ulira_pools
from cu_cert.claims import Claim, Plot, decimal, estimate_claim, metric_claim
from cu_cert.fleet.signal_matrix import margins_of
from cu_cert.signals import Signals
from cu_certificates.check.strict import canonical
from cu_certificates.check.tables import ArtifactTable, SlotTable

if TYPE_CHECKING:
    from cu_cert.pools import Bench, Run

BINS = 18
ROC_POINTS = 120


@dataclass(frozen=True)
class _Scored:
    """One attack: its name in claim ids, its title, one score a record, who is in the request, curve or not."""

    name: str
    title: str
    values: npt.NDArray[np.float64]
    member: npt.NDArray[np.bool_]
    drawn: bool = True


def attack_panel(
    subject: Signals,
    shadows: Sequence[Signals],
    forget: int,
    *,
    suffix: str = "",
    unlearned: Sequence[Signals] | None = None,
    retrained: Sequence[Signals] | None = None,
) -> tuple[list[Claim], Plot]:
    """Run the per-record attacks on one model: request against never-trained records.

    Args:
        subject: Signals of the audited model, request first.
        shadows: Signals of models that saw neither.
        forget: Number of records in the request.
        suffix: Added to claim ids, for a second model beside the audited one.
        unlearned: Signals of further models that the method made to unlearn the request, in slot order.
        retrained: Signals of further models that never saw it, in slot order; with four or more of either kind U-LiRA
            is shown.

    Returns:
        Metric claims and the plot of the curves, LiRA first, with a 95 % band for the whole of its curve.
    """
    margins = margins_of(shadows)
    before = " of the model before" if suffix else ""
    claims: list[Claim] = []
    series = []
    scored = _scored(subject.margin, margins, forget)
    for one in scored:
        judged = judged_claims(judge(one.values, one.member, name=f"{one.title}{before}"), one.name, suffix)
        claims += judged if one.drawn else judged[:1]
        if one.drawn:
            series.append({"label": one.title, "points": permille(*roc_points(one.values, one.member))})
    claims += _population_claims(subject.margin, forget, before, suffix)
    claims.append(_leak_claim(subject.margin, margins, forget, before, suffix))
    if unlearned is not None and retrained is not None and min(len(unlearned), len(retrained)) >= 4:
        pools = (_centred(margins_of(pool), forget)[:, :forget] for pool in (unlearned, retrained))
        found = ulira_pools(*pools)
        claims += _ulira_claims(found, suffix)
        values = np.concatenate([found.unlearned.ravel(), found.retrained.ravel()])
        curve = roc_points(values, np.arange(len(values)) < found.unlearned.size)
        series.append({"label": "U-LiRA (other models)", "points": permille(*curve)})
    band = roc_band(scored[0].values, scored[0].member)
    plot: Plot = {
        "kind": "roc",
        "title": "Attacks on single records",
        "series": series,
        "band": {
            "label": scored[0].title,
            "level": decimal(band.level),
            "low": permille(band.false, band.low),
            "high": permille(band.false, band.high),
        },
    }
    return claims, plot


def _scored(own: npt.NDArray[np.float64], margins: npt.NDArray[np.float64], forget: int) -> list[_Scored]:
    """Score records by every attack that never-in shadows allow; the calibrated margin ranks as pooled LiRA does."""
    member = np.arange(len(own)) < forget
    phi, out = _centred(own, forget), _centred(margins, forget)
    found = [
        _Scored("lira", "LiRA (offline, pooled variance)", lira_offline(phi, out), member),
        _Scored("lira-nig", "LiRA (offline, shrunk variance)", lira_offline(phi, out, variance="nig"), member),
        _Scored("calibrated", "calibrated margin (ranks as pooled LiRA)", calibrated(phi, out), member, drawn=False),
    ]
    scored, population = split_held_out(len(own), forget)
    if len(population) >= 2 and len(scored) - forget >= 2:
        p, others = expit(own), expit(margins)
        values = rmia_offline(p[scored], others[:, scored], p[population], others[:, population])
        found.append(_Scored("rmia", "RMIA (offline)", values, member[scored]))
    return [*found, _Scored("loss", "loss threshold", negative_loss(own), member)]


def _centred(margins: npt.NDArray[np.float64], forget: int) -> npt.NDArray[np.float64]:
    """Subtract from each model's margins their mean on never-trained records.

    A model that is more confident about everything remembers nothing for it, and the shift would hide what it does. The
    same is done to every model, so a model like its shadows stays like them.
    """
    return np.asarray(margins - margins[..., forget:].mean(axis=-1, keepdims=True), dtype=np.float64)


def split_held_out(size: int, forget: int) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
    """Return the records to score and the population: every other held-out record, which is then not scored."""
    population = np.arange(forget, size, 2)
    return np.setdiff1d(np.arange(size), population), population


def judged_claims(found: PanelResult, name: str, suffix: str) -> list[Claim]:
    """Claim what one attack shows, on the high side and on the low side."""
    auc, best, low_best = found.auc, found.advantage, found.low_advantage
    n = f"{auc.n[0]} records of the request, {auc.n[1]} never trained"
    note = (
        f"{auc.method}; {auc.level:.0%} interval; {n}; {_SEEN[found.direction]}; largest balanced accuracy "
        f"{_balanced(best)}, low side {_balanced(low_best)}; {found.shows_not}"
    )
    claims = [metric_claim(f"auc-{name}{suffix}", auc.name, auc.value, (auc.low, auc.high), note, kind="attack")]
    for (rate, exact), (_, given) in zip(found.rates, found.given, strict=True):
        note = (
            f"{exact.method}; {exact.level:.0%} interval; given the threshold: {given.low:.4f} to {given.high:.4f}; "
            f"{exact.shows_not}"
        )
        key = f"tpr-{name}-{round(rate * 1000)}{suffix}"
        claims.append(metric_claim(key, exact.name, exact.value, (exact.low, exact.high), note, kind="attack"))
    rate, low = found.low_rates[0]
    claims.append(estimate_claim(f"low-{name}-{round(rate * 1000)}{suffix}", low))
    return claims


_SEEN = {
    "remembered": "seen: remembered (signal above that of never-trained records)",
    "over-forgotten": "seen: over-forgotten (signal below that of never-trained records), which is a leak too",
    "both": "seen: some records remembered, others over-forgotten",
    "none seen": "neither remembering nor over-forgetting seen",
}


def _balanced(advantage: Estimate) -> str:
    """Write the largest balanced accuracy with its interval."""
    value, low, high = ((1 + number) / 2 for number in (advantage.value, advantage.low, advantage.high))
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def _population_claims(own: npt.NDArray[np.float64], forget: int, before: str, suffix: str) -> list[Claim]:
    """Claim how many records of the request lie above the population's threshold, where a threshold exists."""
    _, population = split_held_out(len(own), forget)
    claims = []
    for rate in FALSE_RATES:
        if len(population) and np.isfinite(population_threshold(own[population], false_rate=rate).value):
            wording = f"TPR at {rate:.1%} FPR by construction, population threshold{before}"
            at = population_rate(own[:forget], own[population], false_rate=rate, name=wording)
            claims.append(estimate_claim(f"tpr-population-{round(rate * 1000)}{suffix}", at))
    return claims


def _leak_claim(
    own: npt.NDArray[np.float64], margins: npt.NDArray[np.float64], forget: int, before: str, suffix: str
) -> Claim:
    """Claim how many records of the request stand out from their own never-in models, beside the same on controls."""
    phi, out = _centred(own, forget), _centred(margins, forget)
    found = leaking_records(phi[:forget], out[:, :forget])
    control = leaking_records(phi[forget:], out[:, forget:])
    note = (
        f"{found.method} at {found.level:.0%}; {found.remembered} on the high and {found.over_forgotten} on the low "
        f"side of {found.n[0]}; {found.n[1]} models can report no fewer than {found.least}; never-trained records as "
        f"control: {control.count} of {control.n[0]}; {found.shows_not}"
    )
    title = f"records of the request that leak{before}"
    return metric_claim(f"leaks{suffix}", title, float(found.count), None, note, kind="attack")


def _ulira_claims(found: ULira, suffix: str) -> list[Claim]:
    """Claim what U-LiRA shows on models of the method beside retrained ones."""
    models = f"{found.n[0]} and {found.n[1]} shadow models, {found.n[2]} and {found.n[3]} target models"
    auc, signal = found.auc, found.signal
    note = (
        f"{auc.method}; {auc.level:.0%} interval; {models}; {_SEEN[found.direction]}; area of the signal itself "
        f"{signal.value:.4f} [{signal.low:.4f}, {signal.high:.4f}]; {found.shows_not}"
    )
    claims = [metric_claim(f"auc-ulira{suffix}", auc.name, auc.value, (auc.low, auc.high), note, kind="attack")]
    claims += [estimate_claim(f"tpr-ulira-{round(rate * 1000)}{suffix}", at) for rate, at in found.rates]
    note = (
        f"exact rank-sum p-values over models, Benjamini-Hochberg at {found.level:.0%}; of {len(found.p)} records; "
        f"pools of this size can report no fewer than {found.least}; {found.shows_not}"
    )
    title = "records that the method's models give away, U-LiRA"
    return [*claims, metric_claim(f"leaks-ulira{suffix}", title, float(found.count), None, note, kind="attack")]


def permille(false: npt.NDArray[np.float64], true: npt.NDArray[np.float64]) -> list[list[int]]:
    """Thin a curve to whole thousandths, at most :data:`ROC_POINTS` points, ends kept."""
    points = sorted({(round(1000 * x), round(1000 * y)) for x, y in zip(false, true, strict=True)})
    if len(points) > ROC_POINTS:
        keep = np.unique(np.linspace(0, len(points) - 1, ROC_POINTS).round().astype(int))
        points = [points[index] for index in keep]
    return [list(point) for point in points]


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
        if claim.get("planned") and str(claim["type"]).startswith("eps-")
    ]
    return {"kind": "eps", "title": "Lower bounds on eps", "tested": tested, "bars": bars}
