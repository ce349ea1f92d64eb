"""A complete certificate without a single trained model: plan, evidence and claims from invented scores.

The claims are written here by hand, from the plan's JSON, and not by the issuer's builders: so a dishonest prover can be
played who plans nonsense and states it consistently.
"""

import copy
import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from cu_certificates.check.checker import PREDICATE_TYPE, STATEMENT_TYPE, check_payload
from cu_certificates.check.coins import coin, right_guesses, seed_commitment
from cu_certificates.check.fields import printed, rational, shown
from cu_certificates.check.power import critical_guesses, power_at, smallest_accuracy, smallest_references
from cu_certificates.check.result import CheckResult
from cu_certificates.check.strict import canonical
from cu_certificates.check.tails import (
    beta_binomial_tail,
    binomial_tail,
    coinflip_bound,
    cp_lower,
    cp_upper,
    enclose,
    group_bound,
)

Json = dict[str, Any]
Rows = dict[str, list[Json]]

SEED = bytes(range(32))
TAIL = Fraction(1, 100)
LEAK = {"unlearned": 7.0, "retrained": 1.0, "original": 7.0, "rerun": 1.0, "subject": 7.0}
CLEAN = LEAK | {"unlearned": 1.0, "subject": 1.0}


def digest(*names: object) -> str:
    return hashlib.sha256(canonical([str(name) for name in names])).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """What the invented audit found.

    Args:
        means: Mean score of each kind of model, in standard deviations.
        failed: (group, slot) of runs that failed.
        edit_plan: Changes the plan before anything derives from it.
        edit_rows: Changes the evidence before claims are computed from it.
    """

    means: Mapping[str, float] = field(default_factory=lambda: CLEAN)
    questions: tuple[str, ...] = ("procedure", "artifact")
    guarantee: str = "none"
    method: str | None = "npo"
    tested_eps: str = "1/2"
    tested_delta: str = "0"
    slots: int = 64
    control_slots: int = 64
    references: int = 120
    negatives: int = 8
    pilots: int = 4
    failed: frozenset[tuple[str, int]] = frozenset()
    edit_plan: Callable[[Json], None] = lambda plan: None
    edit_rows: Callable[[Rows], None] = lambda rows: None


def plan_of(knobs: Knobs) -> Json:
    level = {"none": "EMPIRICAL", "exact": "EXACT_IN_LAW", "certified": "CERTIFIED"}[knobs.guarantee]
    found: Json = {
        "kind": "cu-cert-plan/1",
        "attempt": 1,
        "subjects": [
            {
                "name": "model.pt",
                "model": {"sha256": digest("file")},
                "method": knobs.method,
                "parameters": {"steps": 200},
                "guarantee": knobs.guarantee,
                "level": level,
                "testedEps": knobs.tested_eps,
                "testedDelta": knobs.tested_delta,
            }
        ],
        "questions": list(knobs.questions),
        "attacks": [{"procedure": "eps-coinflip", "artifact": "conformal-p"}[name] for name in knobs.questions],
        "alphaTotal": "1/20",
        "alphaSplit": {name: str(Fraction(1, 20) / len(knobs.questions)) for name in knobs.questions},
        "detectEps": "2",
        "request": {"root": digest("root"), "size": 50},
        "recipe": {"sha256": digest("recipe")},
        "data": {"sha256": digest("data")},
        "reference": "retrain",
        "original": "redrawn",
        "procedure": {
            "slots": knobs.slots,
            "guesses": 2 * (3 * knobs.slots // 8),
            "controlSlots": knobs.control_slots,
            "controlGuesses": 2 * (3 * knobs.control_slots // 8),
            "direction": "both",
        },
        "artifact": {"references": knobs.references, "positives": 1, "negatives": knobs.negatives},
        "score": {"name": "combined", "version": 1, "pilots": knobs.pilots},
        "seedCommitment": {"sha256": seed_commitment(SEED)},
    }
    knobs.edit_plan(found)
    return found


def run(knobs: Knobs, group: str, slot: int, role: str, *, where: str = "", mean: str = "") -> Json:
    row: Json = {"kind": "run", "group": group, "slot": slot, "role": role}
    if (group, slot) in knobs.failed:
        return row | {"status": "failed"}
    # One random stream a run, by its name: a further run never moves another one's score.
    score = random.Random(f"{where}{group}{slot}{role}").gauss(knobs.means[mean or role], 0.6)
    names = (where, group, slot, role)
    return row | {
        "status": "done",
        "model": digest("model", *names),
        "signals": digest("signals", *names),
        "score": round(score * 1_000_000),
    }


def rows_of(knobs: Knobs, plan: Json, plan_digest: str) -> Rows:
    opening = {"kind": "opening", "seed": SEED.hex(), "nonce": ""}
    found: Rows = {}
    if "procedure" in knobs.questions:
        sizes, lines = plan["procedure"], [opening]
        for slot in range(sizes["slots"]):
            if coin(SEED, plan_digest, "", "slots", slot):
                lines += [run(knobs, "main", slot, "unlearned"), run(knobs, "positive", slot, "original")]
            else:
                lines.append(run(knobs, "main", slot, "retrained"))
        spare = sum(line.get("role") == "retrained" for line in lines)
        for slot in range(sizes["controlSlots"]):
            if coin(SEED, plan_digest, "", "control", slot):
                lines.append(run(knobs, "negative", slot, "rerun"))
            elif spare:
                spare -= 1
            else:
                lines.append(run(knobs, "negative", slot, "retrained"))
        found["slots"] = lines
    if "artifact" in knobs.questions:
        subject = run(knobs, "subject", 0, "subject", where="artifact")
        head = {name: subject[name] for name in ("model", "signals", "score")}
        lines = [dict(opening), {"kind": "subject", "file": digest("file"), **head}]
        for group, key, role in (
            ("reference", "references", "retrained"),
            ("positive", "positives", "original"),
            ("negative", "negatives", "rerun"),
        ):
            lines += [run(knobs, group, slot, role, where="artifact") for slot in range(plan["artifact"][key])]
        found["artifact"] = lines
    count = plan["score"]["pilots"]
    found["pilots"] = [
        run(knobs, "pilots", slot, role, where="pilots")
        for role, size in (("original", count), ("retrained", 2 * count))
        for slot in range(size)
    ]
    found["utility"] = [
        {"kind": "record", "group": name, "score": score}
        for name, (right, size) in {"held-out": (352, 360), "retained": (900, 950), "request": (46, 50)}.items()
        for score in [0] * (size - right) + [1] * right
    ]
    knobs.edit_rows(found)
    return found


def scores_of(rows: Rows, plan: Json, plan_digest: str) -> Json:
    """The scores of each part in order, ``None`` for a failed run, and the coins."""
    found: Json = {}
    if "slots" in rows:
        at = {(row["group"], row["slot"]): row.get("score") for row in rows["slots"] if row["kind"] == "run"}
        found["coins"] = [coin(SEED, plan_digest, "", "slots", n) for n in range(plan["procedure"]["slots"])]
        found["control"] = [coin(SEED, plan_digest, "", "control", n) for n in range(plan["procedure"]["controlSlots"])]
        found["main"] = [at["main", slot] for slot in range(len(found["coins"]))]
        found["positive"] = [at["positive" if bit else "main", slot] for slot, bit in enumerate(found["coins"])]
        spare = [score for score, bit in zip(found["main"], found["coins"], strict=True) if not bit]
        found["negative"] = [
            spare.pop(0) if not bit and spare else at["negative", slot] for slot, bit in enumerate(found["control"])
        ]
    if "artifact" in rows:
        for group in ("reference", "positive", "negative"):
            found[f"artifact {group}"] = [row.get("score") for row in rows["artifact"] if row.get("group") == group]
        found["subject"] = next(row["score"] for row in rows["artifact"] if row["kind"] == "subject")
    return found


def procedure_claims(plan: Json, scores: Json) -> list[Json]:
    sizes, entry = plan["procedure"], plan["subjects"][0]
    forward = sizes["direction"] == "forward"
    alpha = rational(plan["alphaSplit"]["procedure"], "alpha")
    eps, delta = rational(entry["testedEps"], "eps"), rational(entry["testedDelta"], "delta")
    slots, guesses = sizes["slots"], sizes["guesses"]
    counted, control = (size // 2 if forward else size for size in (guesses, sizes["controlGuesses"]))
    right, seen = (
        right_guesses(scores["coins"], scores[part], guesses, forward_only=forward) for part in ("main", "positive")
    )
    sham = right_guesses(scores["control"], scores["negative"], sizes["controlGuesses"], forward_only=forward)
    worst = min(sham + scores["negative"].count(None), control)
    sound = binomial_tail(control, enclose(Fraction(1, 2)), worst).above(TAIL)
    critical = critical_guesses(slots, counted, alpha, eps, delta)

    def bound(of: int) -> Fraction:
        return coinflip_bound(slots, counted, of, alpha, delta)

    common = {"question": "procedure", "evidence": "slots"}
    level = {"alpha": str(alpha), "guesses": guesses}
    return [
        {"id": "c-eps-procedure", "type": "eps-coinflip", **common, **level, "delta": str(delta), "slots": slots,
         "direction": sizes["direction"], "right": right, "bound": printed(bound(right)), "planned": True},
        {"id": "c-pos-procedure", "type": "control", "sign": "positive", **common, **level, "right": seen,
         "bound": printed(bound(seen)), "outcome": "detected" if bound(seen) > eps else "missed"},
        {"id": "c-neg-procedure", "type": "control", "sign": "negative", **common, "right": sham, "tail": str(TAIL),
         "guesses": sizes["controlGuesses"], "outcome": "sound" if sound else "failed"},
        {"id": "c-power-procedure", "type": "power", "question": "procedure", **level, "testedEps": str(eps),
         "detectEps": plan["detectEps"], "critical": critical, "maxEps": printed(bound(counted)),
         "accuracy": None if critical is None else printed(smallest_accuracy(counted, critical)),
         "reached": critical is not None and power_at(counted, critical, eps=rational(plan["detectEps"], "d"))},
    ]  # fmt: skip


def artifact_claims(plan: Json, scores: Json) -> list[Json]:
    entry, references = plan["subjects"][0], scores["artifact reference"]
    alpha = rational(plan["alphaSplit"]["artifact"], "alpha")
    eps, delta = rational(entry["testedEps"], "eps"), rational(entry["testedDelta"], "delta")
    size = len(references)

    def rank(score: int) -> tuple[int, Fraction]:
        above = sum(other is not None and other >= score for other in references)
        return above, Fraction(1 + above + references.count(None), size + 1)

    above, p = rank(scores["subject"])
    cut = (alpha * (size + 1)).__floor__()
    alarms = sum(s is None or rank(s)[1] * (size + 1) <= cut for s in scores["artifact negative"])
    sound = beta_binomial_tail(len(scores["artifact negative"]), cut, size, alarms) > TAIL
    least = smallest_references(alpha, eps, delta)
    common = {"question": "artifact", "evidence": "artifact"}
    claims: list[Json] = [
        {"id": "c-p-artifact", "type": "conformal-p", **common, "references": size, "atLeast": above, "p": str(p)},
        {"id": "c-eps-artifact", "type": "eps-group", "question": "artifact", "from": "c-p-artifact",
         "alpha": str(alpha), "delta": str(delta), "bound": printed(group_bound(p, alpha, delta)), "planned": True},
    ]  # fmt: skip
    original = scores["artifact positive"][0] if scores["artifact positive"] else None
    if original is not None:
        seen = rank(original)[1]
        bound = group_bound(seen, alpha, delta)
        claims.append(
            {"id": "c-pos-artifact", "type": "control", "sign": "positive", **common, "alpha": str(alpha),
             "p": str(seen), "bound": printed(bound), "outcome": "detected" if bound > eps else "missed"}
        )  # fmt: skip
    return [
        *claims,
        {"id": "c-neg-artifact", "type": "control", "sign": "negative", **common, "alpha": str(alpha),
         "runs": len(scores["artifact negative"]), "alarms": alarms, "tail": str(TAIL),
         "outcome": "sound" if sound else "failed"},
        {"id": "c-power-artifact", "type": "power", "question": "artifact", "alpha": str(alpha), "references": size,
         "testedEps": str(eps), "smallest": least, "maxEps": printed(group_bound(Fraction(1, size + 1), alpha, delta)),
         "reached": least is not None and size >= least},
    ]  # fmt: skip


def rate_claims(name: str, evidence: str, group: str, threshold: int, scores: list[int], side: str) -> list[Json]:
    k, n, alpha = sum(score >= threshold for score in scores), len(scores), Fraction(1, 20)
    bound = (cp_lower if side == "lower" else cp_upper)(n, k, alpha)
    return [
        {"id": f"c-count-{name}", "type": "count", "evidence": evidence, "group": group, "threshold": threshold,
         "k": k, "n": n},
        {"id": f"c-cp-{name}", "type": "cp", "from": f"c-count-{name}", "side": side, "alpha": str(alpha),
         "bound": printed(bound)},
    ]  # fmt: skip


def middle(pilots: list[Json]) -> int:
    """Half-way between the medians of original and centring pilots; the fitting ones play no part."""
    count = len(pilots) // 3

    def twice(values: list[int]) -> int:
        values = sorted(values)
        return values[(len(values) - 1) // 2] + values[len(values) // 2]

    scores = [row["score"] for row in pilots]
    return int(Fraction(twice(scores[:count]) + twice(scores[2 * count :]), 4))


def side_claims(rows: Rows, scores: Json, delta: str) -> list[Json]:
    """The two-pool cross-check, the accuracies and one descriptive number."""
    claims: list[Json] = []
    if "slots" in rows:
        rates: list[Fraction] = []
        for bit, group, side in ((1, "unlearned", "lower"), (0, "retrained", "upper")):
            pool = [s for s, b in zip(scores["main"], scores["coins"], strict=True) if b == bit and s is not None]
            claims += rate_claims(f"pool-{group}", "slots", group, middle(rows["pilots"]), pool, side)
            rates.append(rational(claims[-1]["bound"], "bound"))
        (tpr, fpr), lost = rates, rational(delta, "delta")
        pairs = [pair for pair in ((tpr - lost, fpr), (1 - fpr - lost, 1 - tpr)) if pair[0] > pair[1] > 0]
        best = max((group_bound(bottom, top, Fraction(0)) for top, bottom in pairs), default=Fraction(0))
        claims.append(
            {"id": "c-eps-pools", "type": "eps-lower", "question": "procedure", "tpr": "c-cp-pool-unlearned",
             "fpr": "c-cp-pool-retrained", "delta": delta, "bound": printed(best), "planned": False}
        )  # fmt: skip
    for name in ("held-out", "retained", "request"):
        pair = rate_claims(name, "utility", name, 1, [r["score"] for r in rows["utility"] if r["group"] == name], "lower")
        claims += [*pair, {"id": f"c-utility-{name}", "type": "utility", "set": name, "from": f"c-cp-{name}",
                           "accuracyAtLeast": pair[1]["bound"]}]  # fmt: skip
    return [*claims, {"id": "m-auc", "type": "metric", "name": "AUC", "value": "0.5312", "note": "descriptive"}]
