"""Plan and evidence of an audit that never took place: invented scores in the files that a checker reads.

A dishonest prover can be played: the plan is plain JSON, so it may hold nonsense, and the evidence follows from it.
"""

import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from cu_certificates.check.coins import coin, seed_commitment
from cu_certificates.check.strict import canonical

Json = dict[str, Any]
Rows = dict[str, list[Json]]

SEED = bytes(range(32))
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
    references: int = 70
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
        "request": {"root": digest("root"), "size": 5},
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
        for name, (right, size) in {"held-out": (36, 40), "retained": (45, 50), "request": (4, 5)}.items()
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
