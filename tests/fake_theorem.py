"""A certificate of a certified method that rests on a theorem, and claims of sets of models beside it; nothing trained.

The numbers are computed here a second time, in floats and by brute force, and not by what the checker uses.
"""

import itertools
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from fake_certificate import Fake, fake, lines
from fake_evidence import SEED, Json, Knobs
from scipy import special

from cu_attacks._extrapolations import gaussian_eps
from cu_certificates.check.strict import canonical
from cu_certificates.envelope import PREDICATE_TYPE, sign
from cu_certificates.keys import SigningKey

MODEL = canonical(["file"])
"""The bytes of the audited file; the invented certificates hold their digest."""

DELTA = "1/10000"
STATED = ("1/2", DELTA)

ASSUMPTIONS: list[Json] = [
    {"id": "sensitivity", "kind": "enforced", "text": "the norm of the gradient was measured at the released point"},
    {"id": "noise", "kind": "assumed"},
    {"id": "release", "kind": "enforced"},
    {"id": "convexity", "kind": "enforced", "text": "the head's objective is strongly convex"},
]
"""What the Gaussian theorem rests on; the last one is the method's own."""


def up(value: float) -> str:
    """The smallest printed number that is no less, for a value that lies on no step of the grid."""
    return f"{math.ceil(value * 10_000) / 10_000:.4f}"


def theorem_claim(**changes: Any) -> Json:
    """A Gaussian release of one vector: sensitivity 1/10 for the whole request, deviation 1."""
    return {
        "id": "c-theorem",
        "type": "dp-bound",
        "theorem": "gaussian",
        "constants": {"sensitivity": "1/10", "sigma": "1", "unit": "request"},
        "eps": up(gaussian_eps(0.1, float(Fraction(DELTA)))),
        "delta": DELTA,
        "sampler": "float",
        "assumptions": [dict(one) for one in ASSUMPTIONS],
        "planned": True,
    } | changes


def certified(knobs: Knobs | None = None, **changes: Any) -> Fake:
    """A whole certificate of a certified method, with its theorem; the verdict is left out.

    Args:
        knobs: What the invented audit found.
        changes: To the claim about the theorem.
    """
    knobs = knobs or Knobs()
    stated = replace(knobs, guarantee="certified", method="newton", tested_eps=STATED[0], tested_delta=STATED[1])
    found = fake(stated)
    found.predicate["claims"].append(theorem_claim(**changes))
    found.predicate["assumptions"].append("A18")
    return found


def per_record(records: int, **changes: Any) -> Json:
    """A guarantee for one record, of which the request has five."""
    delta = float(Fraction(DELTA))
    return {
        "constants": {"sensitivity": "1/50", "sigma": "1", "unit": "record", "records": records},
        "eps": up(gaussian_eps(records / 50, delta)),
        **changes,
    }


# --- Extrapolation ---------------------------------------------------------------------------------------------------


def down(value: float, places: int) -> str:
    return f"{math.floor(value * 10**places) / 10**places:.{places}f}"


def with_extrapolation(found: Fake, delta: str = "1/100000") -> Fake:
    """Add what a Gaussian pair would make of the two rates of the cross-check."""
    low, high = (float(found.claim(f"c-cp-pool-{name}")["bound"]) for name in ("unlearned", "retrained"))
    z1, z2 = special.ndtri(low), special.ndtri(high)
    mu = max(math.floor((z1 - z2) * 10_000) / 10_000, 0.0)
    found.predicate["claims"].append(
        {
            "id": "x-mu",
            "type": "mu-lower",
            "question": "procedure",
            "tpr": "c-cp-pool-unlearned",
            "fpr": "c-cp-pool-retrained",
            "z1": down(z1, 12),
            "z2": f"{math.ceil(z2 * 10**12) / 10**12:.12f}",
            "value": f"{mu:.4f}",
            "eps": down(gaussian_eps(mu, float(Fraction(delta))), 4),
            "delta": delta,
            "assumption": "two normal laws with equal variance",
            "note": "an extrapolation",
            "planned": False,
        }
    )
    found.predicate["assumptions"].append("A17")
    return found


# --- Distances -------------------------------------------------------------------------------------------------------


def energy(distances: list[list[int]], chosen: set[int]) -> Fraction:
    """The energy distance by its definition, in millionths: means over pairs of models."""
    others = [place for place in range(len(distances)) if place not in chosen]

    def mean(one: list[int], two: list[int]) -> Fraction:
        pairs = [distances[max(i, j)][min(i, j)] if i != j else 0 for i, j in itertools.product(one, two)]
        return Fraction(sum(pairs), len(pairs))

    inside = sorted(chosen)
    return 2 * mean(inside, others) - mean(inside, inside) - mean(others, others)


def points(count: int, shift: Callable[[int], float], seed: str = "points") -> list[list[int]]:
    """Distances of points in a plane, in millionths, as the lower triangle."""
    draw = random.Random(seed)
    places = [(draw.gauss(shift(number), 1), draw.gauss(0, 1)) for number in range(count)]
    return [[round(1e6 * math.dist(one, other)) for other in places[:row]] for row, one in enumerate(places)]


def printed_grid(value: Fraction) -> str:
    return f"{max(math.floor(value / 10**6 * 10_000), 0) / 10_000:.4f}"


def exhaustive(distances: list[list[int]], unlearned: list[bool]) -> Json:
    """What the claim says when every labelling is counted, by brute force."""
    true = {place for place, bit in enumerate(unlearned) if bit}
    values = [energy(distances, set(c)) for c in itertools.combinations(range(len(unlearned)), len(true))]
    observed, ordered = energy(distances, true), sorted(values)
    cut = len(ordered) // 40
    reached = sum(value >= observed for value in values)
    return {
        "unlearned": len(true),
        "retrained": len(unlearned) - len(true),
        "labellings": len(values),
        "asDifferent": reached,
        "p": str(Fraction(reached, len(values))),
        "value": printed_grid(observed),
        "interval": [printed_grid(ordered[cut]), printed_grid(ordered[-1 - cut])],
    }


def with_distances(found: Fake, rows: list[Json], distances: list[list[int]], numbers: Json) -> Fake:
    """Add the test of a difference with its evidence.

    Args:
        found: The certificate.
        rows: The judged runs of its table in order, with role and model.
        distances: Lower triangle.
        numbers: What the claim says.
    """
    claim = {"id": "t-energy", "type": "perm-p", "question": "procedure", "evidence": "distances"}
    claim |= {"statistic": "energy", "name": "energy distance", "note": "no eps", "planned": False, **numbers}
    found.predicate["claims"].append(claim)
    table = [{"kind": "opening", "seed": SEED.hex(), "nonce": ""}]
    table += [
        {"kind": "model", "model": row["model"], "distances": near} for row, near in zip(rows, distances, strict=True)
    ]
    name = "evidence/distances.jsonl"
    entry = {"id": "distances", "kind": "distances", "name": name, "access": "controlled", "digest": {"sha256": ""}}
    found.predicate["evidence"].append(entry)
    found.replace(name, lines(table))
    return found


# --- On disk ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Handed:
    """A signed certificate on disk, as a stranger gets it.

    Args:
        bundle: The certificate.
        model: The audited file.
    """

    bundle: Path
    model: Path


def hand_on(found: Fake, folder: Path, key: SigningKey) -> Handed:
    """Sign a certificate and write it with its evidence and its model."""
    found.predicate["auditor"]["keyid"] = key.keyid
    for name, data in found.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    handed = Handed(folder / "certificate.sigstore.json", folder / "model.pt")
    handed.bundle.write_bytes(sign(found.payload, key))
    handed.model.write_bytes(MODEL)
    return handed


POLICY = f"""schema = 1
[policy.require]
verdict = ["BOUNDED_BY_THEOREM", "NOT_REFUTED"]
predicate = "{PREDICATE_TYPE}"
"""
