"""The attacks on single records that shadows of halves allow: both kinds of model for every record.

The panel beside it (``panel.py``) has only models that saw neither the request nor the held-out records. Here each
record has as many models that were trained on it as models that were not, so the online forms of LiRA and RMIA apply.
The shadows learned from half as many records as the audited model: what is shown is an attack's success and no eps.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.special import expit

from cu_attacks._panel import judge
from cu_attacks._roc import roc_band, roc_points
from cu_attacks._types import BoolArray, FloatArray
from cu_attacks.lira import lira_offline, lira_online
from cu_attacks.rmia import rmia_offline, rmia_online
from cu_cert.claims import Claim, Plot, decimal, metric_claim
from cu_cert.model_file import state_digest
from cu_cert.panel import judged_claims, permille, split_held_out
from cu_cert.shadows import Shadows

if TYPE_CHECKING:
    from cu_cert.issue import Findings
    from cu_cert.signals import Signals
    from cu_cert.subjects import Measured

LARGEST: Final = 20.0
"""Margins beyond count as this: such a probability is within 2e-9 of certain. One shadow whose training went astray has
margins in the thousands and would be most of the spread of all records; among 64 models of a network with too high a
learning rate, three were enough to hide every mislabelled record."""

MOST_TRIED: Final = 8
"""Pairs on which the attack is tried out."""

ONLINE: Final = "fitted on {n} models of random halves, for each record {half} trained on it and {half} not"
OFFLINE: Final = "fitted on {n} models of random halves, for each record the {half} not trained on it"
LOST: Final = "of {n} planned ones, without the pairs of which a model failed or is the judged one"
NO_EPS: Final = "these models learned from half of all records, so this is an attack's success and no eps"
"""What the notes say of the models behind an attack."""

LOOKS_IN: Final = "it asks whether the judged model looks like one that was trained on the record"


@dataclass(frozen=True)
class _Attack:
    """One attack: its name in claim ids, its title, one score a record, who is in the request, what fitted it."""

    name: str
    title: str
    values: FloatArray
    member: BoolArray
    fitted: str


def shadow_panel(
    subject: "Signals", shadows: Shadows, forget: int, *, suffix: str = ""
) -> tuple[list[Claim], Plot | None]:
    """Run the attacks that shadows allow on one model: request against never-trained records.

    Args:
        subject: Signals of the audited model, request first; it is none of the shadows.
        shadows: Shadows, on the same records in the same order.
        forget: Number of records in the request.
        suffix: Added to claim ids, for a second model beside the audited one.

    Returns:
        Metric claims, and the plot of the curves with a 95 % band for the whole of the first; nothing when too many
        shadows failed.
    """
    if not shadows.enough:
        return [], None
    before = " of the model before" if suffix else ""
    claims: list[Claim] = []
    series = []
    attacks = _attacks(subject.margin, shadows, forget)
    for one in attacks:
        judged = judged_claims(judge(one.values, one.member, name=f"{one.title}{before}"), one.name, suffix)
        judged[0]["note"] = f"{one.fitted}; {NO_EPS}; {judged[0]['note']}"
        claims += judged
        series.append({"label": one.title, "points": permille(*roc_points(one.values, one.member))})
    if not suffix:
        claims += _tried(shadows, forget)
    band = roc_band(attacks[0].values, attacks[0].member)
    plot: Plot = {
        "kind": "roc",
        "title": "Attacks on single records, with models of random halves",
        "series": series,
        "band": {
            "label": attacks[0].title,
            "level": decimal(band.level),
            "low": permille(band.false, band.low),
            "high": permille(band.false, band.high),
        },
    }
    return claims, plot


def _attacks(own: FloatArray, shadows: Shadows, forget: int) -> list[_Attack]:
    """Score records by every attack."""
    member = np.arange(len(own)) < forget
    sizes = {"n": len(shadows), "half": len(shadows) // 2}
    lost = "" if len(shadows) == shadows.planned else f"; {LOST.format(n=shadows.planned)}"
    online, offline = f"{ONLINE.format(**sizes)}{lost}; {LOOKS_IN}", f"{OFFLINE.format(**sizes)}{lost}"
    phi, margins = centred(own, np.zeros_like(member), shadows, forget)
    inside = shadows.inside
    out = never_in(margins, inside)
    found = [
        _Attack("lira-online", "LiRA (online, pooled variance)", lira_online(phi, margins, inside), member, online),
        _Attack(
            "lira-online-nig",
            "LiRA (online, shrunk variance)",
            lira_online(phi, margins, inside, variance="nig"),
            member,
            online,
        ),
        _Attack("lira-halves", "LiRA (offline, from halves)", lira_offline(phi, out), member, offline),
    ]
    scored, population = split_held_out(len(own), forget)
    if len(population) >= 2 and len(scored) - forget >= 2:
        p, others = expit(own), expit(shadows.margin)
        around = others[:, population]
        values = rmia_online(p[scored], others[:, scored], inside[:, scored], p[population], around)
        found.append(_Attack("rmia-online", "RMIA (online)", values, member[scored], online))
        lone = never_in(others, inside)
        values = rmia_offline(p[scored], lone[:, scored], p[population], lone[:, population])
        found.append(_Attack("rmia-halves", "RMIA (offline, from halves)", values, member[scored], offline))
    return found


def never_in(values: FloatArray, inside: BoolArray) -> FloatArray:
    """Return what that model of each pair says about a record that was not trained on it.

    Args:
        values: Shape (models, records), pair by pair.
        inside: Whether the model was trained on the record, of the same shape.

    Returns:
        Shape (models / 2, records); a row holds values of both models of a pair.
    """
    return np.where(inside[::2], values[1::2], values[::2])


def centred(own: FloatArray, seen: BoolArray, shadows: Shadows, forget: int) -> tuple[FloatArray, FloatArray]:
    """Subtract from each model's margins how far it is above the others on held-out records that it never saw.

    A model that is surer of everything remembers nothing for it, and a model of all records is surer than one of half
    of them. A shadow never saw half of the held-out records, and which half differs; so each of them is compared with
    its own mean over the models without it.

    Args:
        own: The judged model's margins, shape (records,), request first.
        seen: Which held-out records it was trained on, shape (records,): none, unless it is a shadow itself.
        shadows: The shadows.
        forget: Number of records in the request.

    Returns:
        Its margins and those of the shadows, clipped to :data:`LARGEST` and centred.
    """
    held_out = np.arange(len(own)) >= forget
    phi, margins = (np.clip(one, -LARGEST, LARGEST) for one in (own, shadows.margin))
    usual = never_in(margins, shadows.inside).mean(axis=0)
    shift = _above(margins, usual, held_out & ~shadows.inside)
    return phi - _above(phi[None], usual, (held_out & ~seen)[None]), margins - shift[:, None]


def _above(margins: FloatArray, usual: FloatArray, chosen: BoolArray) -> FloatArray:
    """Return how far each model is above the usual margin on chosen records; 0 where none is chosen."""
    found: FloatArray = np.where(chosen, margins - usual, 0.0).sum(axis=1) / np.maximum(chosen.sum(axis=1), 1)
    return found


def _tried(shadows: Shadows, forget: int) -> list[Claim]:
    """Claim what the attack sees where the truth is known: on shadows, each judged by all pairs but its own."""
    values = tried_areas(shadows, forget)
    if not values:
        return []
    low, high = (float(np.quantile(values, q)) for q in (0.025, 0.975))
    note = (
        f"mean and 2.5 % to 97.5 % range of {len(values)} shadows, each judged by the other pairs, records that it was "
        "trained on against records that it was not; it shows what this attack can see at all"
    )
    title = "AUC, LiRA (online, pooled variance), on shadows whose records are known"
    return [metric_claim("auc-lira-online-shadows", title, float(np.mean(values)), (low, high), note, kind="attack")]


def tried_areas(shadows: Shadows, forget: int) -> list[float]:
    """Return the area under the curve of online LiRA on shadows, each judged by all pairs but its own.

    Args:
        shadows: The shadows; with fewer than three pairs nothing is left to fit, and there is no area.
        forget: Number of records in the request.
    """
    pairs = len(shadows) // 2
    found = []
    for pair in range(min(pairs, MOST_TRIED)):
        others = shadows.pairs([number for number in range(pairs) if number != pair])
        for row in (2 * pair, 2 * pair + 1):
            known = shadows.inside[row]
            if not others.enough or min(known.sum(), (~known).sum()) < 2:
                continue
            phi, margins = centred(shadows.margin[row], known, others, forget)
            scores = lira_online(phi, margins, others.inside)
            found.append(_area(scores[known], scores[~known]))
    return found


def _area(members: FloatArray, others: FloatArray) -> float:
    """Return the share of pairs of a member and another in which the member scores higher, ties half."""
    ranked = np.sort(others)
    below = np.searchsorted(ranked, members, side="left") + np.searchsorted(ranked, members, side="right")
    return float(below.mean() / (2 * len(ranked)))


def shadow_findings(own: "Measured", shadows: Shadows | None, forget: int) -> tuple[list[Claim], dict[str, Plot]]:
    """Run the panel on the audited model, and on the one before where it was given.

    A model that fits the attacks is not judged by them: were a judged file one of the shadows, its pair is left out.

    Args:
        own: What was measured on the audited model.
        shadows: The shadows; ``None`` where the project plans none.
        forget: Number of records in the request.

    Returns:
        Metric claims and plots by name; none without enough shadows.
    """
    if shadows is None:
        return [], {}
    judged = [own.tensors]
    if own.before is not None:
        judged.append(state_digest(own.before.state_dict()))
    others = shadows.without(judged)
    assert not set(others.models) & set(judged)
    claims, plot = shadow_panel(own.signals, others, forget)
    if own.original is not None:
        claims += shadow_panel(own.original, others, forget, suffix="-before")[0]
    return claims, {} if plot is None else {"roc-halves": plot}


def with_shadows(findings: "Findings", own: "Measured", shadows: Shadows | None, forget: int) -> "Findings":
    """Add the panel to the findings of an audit without retraining.

    Args:
        findings: What was measured without shadows.
        own: What was measured on the audited model.
        shadows: The shadows; ``None`` where there are none.
        forget: Number of records in the request.
    """
    claims, plots = shadow_findings(own, shadows, forget)
    return replace(findings, claims=[*findings.claims, *claims], plots={**findings.plots, **plots})
