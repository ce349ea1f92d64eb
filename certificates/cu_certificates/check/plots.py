"""Plots must show what claims and evidence say; a curve over single records cannot be re-derived and only informs.

A picture is read before any number, so one that contradicts the evidence is refused like a false claim.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from typing import Final

from .betting import wanted_wealth
from .context import Context, MissingEvidence
from .design import QUESTIONS, same
from .fields import Node, shown
from .strict import Rejected
from .tails import STEP

SCALE: Final = 1_000_000
"""Scores in evidence are whole millionths of the unit that a plot shows."""

_DECIMAL: Final = re.compile(r"(-?)(0|[1-9][0-9]{0,15})\.([0-9]{2})")


def check_plots(context: Context) -> None:
    """Compare every plot that evidence or claims can settle; plots of other kinds are descriptive.

    Raises:
        Rejected: A plot shows something else.
    """
    if not context.predicate.has("plots"):
        return
    plots = context.predicate.node("plots")
    for name in plots.value:
        plot = plots.node(name)
        with suppress(MissingEvidence):
            if name == "procedure" and context.design_name(name) == "sequential":
                plot.text("kind", "bets")
                _bets(plot, context)
            elif name in QUESTIONS:
                plot.text("kind", "pools")
                _pools(plot, name, context)
            elif name == "eps":
                plot.text("kind", "eps")
                _bars(plot, context)
            elif plot.text("kind") in ("pools", "eps", "bets"):
                raise Rejected(f"{plot.path}.kind: {plot.text('kind')!r}; such a plot stands under another name")


def _bars(plot: Node, context: Context) -> None:
    """The bars are the deciding bounds, each beside the largest eps that its question can show."""
    if abs(plot.number("tested") - context.tested_eps) >= STEP:
        raise Rejected(f"{plot.path}.tested: {plot.text('tested')}; the plan says {shown(context.tested_eps)}")
    claims = context.predicate.nodes("claims")
    most = {claim.value.get("question"): claim.value.get("maxEps") for claim in claims if claim.text("type") == "power"}
    expected = [
        {
            "label": claim.value.get("question"),
            "lower": claim.value.get("bound"),
            "max": most.get(claim.value.get("question")),
            "claim": claim.text("id"),
        }
        for claim in claims
        # Claims about provenance and theorems carry a verdict as well, but are no bounds with a bar of their own.
        if claim.value.get("planned") is True and claim.text("type").startswith("eps-")
    ]
    if [dict(bar.value) for bar in plot.nodes("bars")] != expected:
        raise Rejected(f"{plot.path}.bars: not the bounds and largest values that the claims state")


def _bets(plot: Node, context: Context) -> None:
    """The marks are what became of each opened slot, drawn at eps* against the wealth that refutes."""
    if plot.number("tested") != context.tested_eps:
        raise Rejected(f"{plot.path}.tested: {plot.text('tested')}; the plan says {shown(context.tested_eps)}")
    wanted = wanted_wealth(context.share("procedure"), context.tested_delta, context.betting.slots)
    if not same(plot.value.get("wanted", "absent"), None if wanted is None else str(wanted)):
        raise Rejected(f"{plot.path}.wanted: {plot.value.get('wanted')!r}; the plan gives {wanted}")
    table, forward = context.bets, context.betting.forward
    expected = [
        (role, table.marks(bets, forward=forward))
        for role, bets in (("unlearned", table.main), ("original", table.positive))
    ]
    found = [(one.text("role"), one.text("marks")) for one in plot.nodes("series")]
    if found != expected:
        raise Rejected(f"{plot.path}.series: not what became of the opened slots")


def _groups(name: str, context: Context) -> tuple[dict[str, list[int]], int | None]:
    """Return the scores of each role, and the audited model's."""
    groups: dict[str, list[int]] = {}
    if name == "artifact" and context.design_name(name) == "labels":
        labels = context.labels
        for score, inside in zip(labels.scores, labels.request, strict=True):
            groups.setdefault("request" if inside else "never", []).append(score)
        return groups, None
    if name == "artifact":
        artifact = context.artifact
        found = [("reference", model) for model in artifact.references]
        mark = artifact.subject.score
    elif context.design_name(name) == "pools":
        pools, mark = context.pools, None
        roles = (("unlearned", pools.unlearned), ("retrained", pools.retrained), ("original", pools.original))
        found = [(role, model) for role, models in roles for model in models]
    elif context.design_name(name) == "onerun":
        run = context.candidates
        for own, bit in zip(run.scores, run.coins, strict=True):
            if own is not None:
                groups.setdefault("request" if bit else "never", []).append(own)
        return groups, None
    else:
        slots, mark = context.slots, None
        found = [("unlearned" if bit else "retrained", m) for m, bit in zip(slots.main, slots.coins, strict=True)]
        found += [("original", m) for m, bit in zip(slots.positive, slots.coins, strict=True) if bit]
    for role, model in found:
        if model.score is not None:
            groups.setdefault(role, []).append(model.score)
    return groups, mark


def _pools(plot: Node, name: str, context: Context) -> None:
    """The bars of a pool are the counts of its scores in the evidence."""
    groups, mark = _groups(name, context)
    edges = [_hundredths(edge, f"{plot.path}.binEdges") * (SCALE // 100) for edge in plot.texts("binEdges")]
    if len(edges) < 2 or edges != sorted(set(edges)):
        raise Rejected(f"{plot.path}.binEdges: expected two or more rising values")
    series = plot.nodes("series")
    roles = [one.text("role") for one in series]
    if sorted(roles) != sorted(groups):
        raise Rejected(f"{plot.path}.series: roles {roles}; the evidence has {sorted(groups)}")
    for one in series:
        counts = _counts(groups[one.text("role")], edges)
        if one.items("counts") != counts or any(isinstance(count, bool) for count in one.items("counts")):
            raise Rejected(f"{one.path}.counts: {one.items('counts')}; the evidence gives {counts}")
    marks = _marks(plot)
    if len(marks) != (mark is not None):
        raise Rejected(f"{plot.path}.marks: {len(marks)}; expected the audited model alone, in the artifact plot alone")
    for at in marks:
        if abs(Fraction(at, 100) - Fraction(mark or 0, SCALE)) >= Fraction(1, 100):
            raise Rejected(f"{plot.path}.marks: {at} hundredths; the audited model's score is {mark} millionths")


def _counts(scores: Sequence[int], edges: Sequence[int]) -> list[int]:
    """Count scores into bins; what lies outside belongs to the outermost one."""
    counts = [0] * (len(edges) - 1)
    for score in scores:
        bin_ = sum(edge <= score for edge in edges) - 1
        counts[min(max(bin_, 0), len(counts) - 1)] += 1
    return counts


def _marks(plot: Node) -> list[int]:
    """Return where the marks stand, in hundredths."""
    if not plot.has("marks"):
        return []
    found = []
    for mark in plot.nodes("marks"):
        mark.text("role", "subject")
        found.append(_hundredths(mark.text("at"), f"{mark.path}.at"))
    return found


def _hundredths(text: str, where: str) -> int:
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise Rejected(f"{where}: {text!r:.40}; expected a number with two decimals")
    sign, whole, decimals = match.groups()
    value = int(whole) * 100 + int(decimals)
    return -value if sign else value
