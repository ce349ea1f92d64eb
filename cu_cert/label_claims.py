"""One model's records as evidence, claims and plots: the artifact question without retrained models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from cu_attacks._same_kind import SCALE, Kind
from cu_cert.claims import Claim, Plot, metric_claim
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.fields import printed
from cu_certificates.check.label_table import LabelTable, arrangements
from cu_certificates.check.strict import canonical
from cu_certificates.check.tails import group_bound
from cu_certificates.plan import Plan, Subject

LEAST_IN_BIN = 5
"""A bin with fewer records of a group could single one out."""

BINS = 18


@dataclass(frozen=True, eq=False)
class Judged:
    """Records of one model, request first, in the order in which they were measured.

    Args:
        request: Whether each record is in the request.
        strata: The stratum of each record, from 0.
        scores: The audited model's score of each record.
        originals: The original model's, empty when it was not given.
        kind: What is known of the records without any audited model.
    """

    request: Sequence[bool]
    strata: Sequence[int]
    scores: Sequence[int]
    originals: Sequence[int]
    kind: Kind

    def rows(self) -> bytes:
        """Write one line a record, sorted by stratum and numbers so that no line can be linked to a record's id."""

        def blind(row: int) -> list[int]:
            return [column[row] for column in self.kind.columns]

        def order(row: int) -> tuple[int, int, list[int], tuple[int, ...]]:
            return self.strata[row], self.scores[row], blind(row), tuple(self.originals[row : row + 1])

        ordered = sorted(range(len(self.request)), key=order)
        place = {row: position for position, row in enumerate(ordered)}
        lines = []
        for row in ordered:
            line: dict[str, object] = {
                "kind": "record",
                "group": "request" if self.request[row] else "never",
                "stratum": self.strata[row],
                "score": self.scores[row],
                "blind": blind(row),
                "near": sorted(place[other] for other in self.kind.near[row]),
            }
            if self.originals:
                line["original"] = self.originals[row]
            lines.append(canonical(line) + b"\n")
        return b"".join(lines)


def label_claims(table: LabelTable, plan: Plan, subject: Subject) -> list[Claim]:
    """Claims of the artifact question on one model: the p-value, its bound, both controls and the power."""
    alpha, delta = plan.share(), subject.tested_delta
    p, request_never = table.judged[0], table.sizes
    common = {"question": "artifact", "evidence": "labels"}
    sizes = {"permutations": table.permutations, "request": request_never[0], "never": request_never[1]}
    claims: list[Claim] = [
        {
            "id": "c-p-artifact",
            "type": "label-p",
            **common,
            **sizes,
            "asUnusual": int(p["score"] * (table.permutations + 1)),
            "p": str(p["score"]),
        },
        {
            "id": "c-eps-artifact",
            "type": "eps-group",
            "question": "artifact",
            "from": "c-p-artifact",
            "alpha": str(alpha),
            "delta": str(delta),
            "bound": printed(group_bound(p["score"], alpha, delta)),
            "planned": True,
        },
    ]
    if table.originals:
        claims.append({**common, **_positive(p["original"], alpha, subject)})
    seen = plan.resolution(subject, "artifact")
    ways = arrangements(table.strata, table.request)
    return [
        *claims,
        {
            "id": "c-neg-artifact",
            "type": "control",
            **common,
            "sign": "negative",
            "p": str(p["blind"]),
            "tail": str(CONTROL_TAIL),
            "outcome": "sound" if p["blind"] > CONTROL_TAIL else "failed",
        },
        {
            "id": "c-power-artifact",
            "type": "power",
            "question": "artifact",
            "alpha": str(alpha),
            **sizes,
            "testedEps": str(subject.tested_eps),
            "smallest": seen.smallest,
            "maxEps": printed(seen.max_eps),
            "reached": seen.reached and seen.smallest is not None and ways > seen.smallest,
        },
    ]


def _positive(p: Fraction, alpha: Fraction, subject: Subject) -> Claim:
    bound = group_bound(p, alpha, subject.tested_delta)
    return {
        "id": "c-pos-artifact",
        "type": "control",
        "sign": "positive",
        "alpha": str(alpha),
        "p": str(p),
        "bound": printed(bound),
        "outcome": "detected" if bound > subject.tested_eps else "missed",
    }


def shift_claim(table: LabelTable) -> Claim:
    """Show on which side the request lies, and how far, beside what random assignments give."""
    values, inside = np.array(table.scores) / SCALE, np.array(table.request)
    strata, total, variance = np.array(table.strata), 0.0, 0.0
    for stratum in np.unique(strata):
        own = values[strata == stratum]
        chosen, size = inside[strata == stratum], len(own)
        take = int(chosen.sum())
        total += float((own[chosen] - own.mean()).sum())
        variance += take * (size - take) / (size - 1) * float(own.var())
    request = table.sizes[0]
    value, reach = total / request, 1.96 * variance**0.5 / request
    note = (
        "mean calibrated score of the request's records over that of their classes, in standard deviations; above 0 "
        "the model is surer of them than of their like (remembered), below 0 less sure (over-forgotten); about 95 % of "
        "random assignments lie between the two ends"
    )
    return metric_claim("shift", "shift of the request's records", value, (-reach, reach), note)


def records_plot(table: LabelTable) -> Plot | None:
    """Plot the calibrated scores of the request's records and of never-trained ones."""
    groups = {
        role: [score for score, inside in zip(table.scores, table.request, strict=True) if inside is wanted]
        for role, wanted in (("never", False), ("request", True))
    }
    return groups_plot(
        "Records of the request among never-trained ones",
        "calibrated score of one record, in standard deviations",
        groups,
        {"never": "never-trained records of the same classes", "request": "records of the request"},
    )


def groups_plot(title: str, unit: str, groups: dict[str, list[int]], labels: Mapping[str, str]) -> Plot | None:
    """Count the scores of two groups of records into bins that hold no record or at least five of a group.

    Args:
        title: Title of the plot.
        unit: What a score is.
        groups: Scores in millionths, by role.
        labels: What each role is called.

    Returns:
        The plot, ``None`` where a group is so small that a bin would single out a record.
    """
    if min(map(len, groups.values())) < LEAST_IN_BIN:
        return None
    edges, counts = _bins(groups)
    return {
        "kind": "pools",
        "title": title,
        "unit": unit,
        "binEdges": [f"{'-' if edge < 0 else ''}{abs(edge) // 100}.{abs(edge) % 100:02d}" for edge in edges],
        "series": [{"label": labels[role], "role": role, "counts": counts[role]} for role in groups],
    }


def _bins(groups: dict[str, list[int]]) -> tuple[list[int], dict[str, list[int]]]:
    """Return edges in hundredths and counts, neighbours merged until no bin holds one to four records of a group."""
    hundredth = SCALE // 100
    every = [score for scores in groups.values() for score in scores]
    low, high = min(every) // hundredth, -(-max(every) // hundredth)
    width = max(-(-(high - low) // BINS), 1)
    fine = [low + width * step for step in range(max(-(-(high - low) // width), 1) + 1)]

    def between(role: str, left: int, right: int | None) -> int:
        above = sum(score >= left * hundredth for score in groups[role])
        return above if right is None else above - sum(score >= right * hundredth for score in groups[role])

    def whole(left: int, right: int | None) -> bool:
        return all(not 0 < between(role, left, right) < LEAST_IN_BIN for role in groups)

    edges = [fine[0]]
    for edge in fine[1:-1]:
        if whole(edges[-1], edge) and whole(edge, None):
            edges.append(edge)
    edges.append(fine[-1])
    last = len(edges) - 2
    return edges, {
        role: [
            between(role, left, None if place == last else edges[place + 1]) for place, left in enumerate(edges[:-1])
        ]
        for role in groups
    }


def tested_shift(table: LabelTable, level: float) -> float:
    """Return the mean shift, in standard deviations of a score, that this size sees with probability 0.8.

    A normal approximation for equal strata: (z_{1 - level / 2} + z_{0.8}) sqrt(1 / f + 1 / h).

    Args:
        table: The records.
        level: The p-value that refutes: alpha e^-eps*.
    """
    from scipy.stats import norm

    request, never = table.sizes
    return float((norm.isf(level / 2) + norm.isf(0.2)) * (1 / request + 1 / never) ** 0.5)
