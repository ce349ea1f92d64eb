"""Plan, evidence and claims of an early-stopped audit that never took place, computed in floats a second time."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from fake_certificate import Fake, lines, middle, predicate_of, side_claims
from fake_evidence import LEAK, SEED, Json, Knobs, digest, plan_of, rows_of, run

from cu_certificates.check.coins import coin
from cu_certificates.check.strict import canonical
from cu_certificates.check.tails import binomial_tail, enclose

STAKES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
ALPHA = Fraction(1, 20)
HALF_LEAK = LEAK | {"unlearned": 3.8}
"""Above the threshold of 4 in one slot of three: too much to be clear, too little to be seen soon."""


def wealth(marks: str, eps: float) -> list[float]:
    parts, found = [1.0] * len(STAKES), []
    for mark in marks:
        for place, stake in enumerate(STAKES):
            if mark != "A":
                parts[place] *= 1 + stake * math.exp(-eps) if mark == "R" else 1 - stake
        found.append(sum(parts) / len(STAKES))
    return found


def bound_of(marks: str, wanted: float) -> str:
    """The largest number on the grid of 1/10000 that the running maximum refutes."""
    low, high = 0, 200_000
    while high - low > 1:
        step = (low + high) // 2
        low, high = (step, high) if max([0.0, *wealth(marks, step / 10_000)]) >= wanted else (low, step)
    return f"{low / 10_000:.4f}"


def needed_bets(chance: float, eps: float, wanted: float, most: int) -> int | None:
    """Fewest bets that refute with probability 0.8, by the chances of all (right, wrong) counts."""
    alive, hit = {(0, 0): 1.0}, 0.0
    for made in range(1, most + 1):
        following: dict[tuple[int, int], float] = {}
        for (right, wrong), share in alive.items():
            for new, part in (((right + 1, wrong), share * chance), ((right, wrong + 1), share * (1 - chance))):
                if sum((1 + s * math.exp(-eps)) ** new[0] * (1 - s) ** new[1] for s in STAKES) / 7 >= wanted:
                    hit += part
                else:
                    following[new] = following.get(new, 0.0) + part
        if hit >= 0.8:
            return made
        alive = following
    return None


def smallest_accuracy(bets: int, eps: float, wanted: float) -> str | None:
    if needed_bets(1.0, eps, wanted, bets) is None:
        return None
    low, high = 0, 10_000
    while high - low > 1:
        step = (low + high) // 2
        low, high = (low, step) if needed_bets(step / 10_000, eps, wanted, bets) is not None else (step, high)
    return f"{high / 10_000:.4f}"


def sequential_knobs(edit: Callable[[Json], None] = lambda plan: None, **changes: Any) -> Knobs:
    """Return the knobs of a sequential plan: 64 slots at most, looks after every four."""

    def sequential(plan: Json) -> None:
        plan["attacks"] = ["eps-sequential"]
        plan["procedure"] = {
            "design": "sequential",
            "slots": 64,
            "controlSlots": 16,
            "controlGuesses": 12,
            "direction": "both",
            "round": 4,
            "lambdas": ["0.05", "0.1", "0.2", "0.35", "0.5", "0.7", "0.9"],
        }
        edit(plan)

    return replace(Knobs(questions=("procedure",), edit_plan=sequential), **changes)


class Played:
    """Slots opened one after another, with scores that are drawn by name and a threshold of the pilots throughout.

    Args:
        knobs: What the invented audit found.
        goes_on: Open this many slots more than the rule allows; negative for fewer.
        margin: Margin of all rounds but the first.
    """

    def __init__(self, knobs: Knobs, *, goes_on: int = 0, margin: int = 0) -> None:
        self.knobs, self.margin = knobs, margin
        self.plan = plan_of(knobs)
        self.bytes = canonical(self.plan)
        self.digest = hashlib.sha256(self.bytes).hexdigest()
        self.pilots = _pilots(knobs, self.plan)
        self.threshold = middle(self.pilots)
        self.sizes, entry = self.plan["procedure"], self.plan["subjects"][0]
        self.eps, delta = float(Fraction(entry["testedEps"])), Fraction(entry["testedDelta"])
        self.exceeded = math.floor(self.eps * 10_000 + 1e-9) / 10_000 + 1e-4
        self.wanted = float(1 / (ALPHA - self.sizes["slots"] * delta))
        self.forward = self.sizes["direction"] == "forward"
        chance = 1 / (1 + math.exp(-float(Fraction(self.plan["detectEps"]))))
        self.needed = needed_bets(chance, self.exceeded, self.wanted, self.sizes["slots"])
        self.rows: list[Json] = [{"kind": "opening", "seed": SEED.hex(), "nonce": ""}]
        self.main = self.positive = ""
        self.ended = self._play(goes_on)
        self._control()

    def _play(self, goes_on: int) -> str:
        slot, stop, why = 0, self.sizes["slots"], ""
        while slot < stop:
            self._open(slot)
            slot += 1
            if not why and (slot % self.sizes["round"] == 0 or slot == self.sizes["slots"]):
                why = self._end(slot)
                if why:
                    stop = min(slot + goes_on, self.sizes["slots"])
                    for _ in range(max(slot - stop, 0)):
                        self.rows = self.rows[:-2]
                        self.main, self.positive = self.main[:-1], self.positive[:-1]
        return why

    def _open(self, slot: int) -> None:
        bit = coin(SEED, self.digest, "", "slots", slot)
        row = run(self.knobs, "main", slot, "unlearned" if bit else "retrained")
        other = run(self.knobs, "positive", slot, "original") if bit else row | {"group": "positive"}
        self.main += self._mark(row, bit, slot)
        self.positive += self._mark(other, bit, slot)

    def _mark(self, row: Json, bit: int, slot: int) -> str:
        margin = 0 if slot < self.sizes["round"] else self.margin
        self.rows.append(row | ({} if row["status"] == "failed" else {"threshold": self.threshold, "margin": margin}))
        if row["status"] == "failed":
            return "F"
        distance = row["score"] - self.threshold
        guess = None if -margin < distance <= margin else int(distance > 0)
        return "A" if guess is None or (self.forward and not guess) else "R" if guess == bit else "W"

    def _end(self, opened: int) -> str:
        if max(wealth(self.main, self.exceeded)) >= self.wanted:
            return "refuted"
        hopeful = self.main.replace("F", "R")
        bets = self.main.count("R") + self.main.count("W")
        seen = max(wealth(self.positive, self.exceeded)) >= self.wanted
        clear = wealth(hopeful, self.eps)[-1] < 1 and max(wealth(hopeful, self.exceeded)) < self.wanted
        if self.needed is not None and bets >= self.needed and seen and clear:
            return "nothing"
        return "budget" if opened == self.sizes["slots"] else ""

    def _control(self) -> None:
        scores: list[tuple[int | None, int]] = []
        for slot in range(self.sizes["controlSlots"]):
            bit = coin(SEED, self.digest, "", "control", slot)
            row = run(self.knobs, "negative", slot, "rerun" if bit else "retrained")
            self.rows.append(row)
            scores.append((row.get("score"), bit))
        ranked = sorted(range(len(scores)), key=lambda slot: (-(scores[slot][0] or 0), slot))
        half = self.sizes["controlGuesses"] // 2
        self.control = sum(scores[slot][1] for slot in ranked[:half])
        self.control_guesses = half
        if not self.forward:
            self.control += sum(1 - scores[slot][1] for slot in ranked[len(ranked) - half :])
            self.control_guesses = 2 * half

    def claims(self) -> list[Json]:
        entry, sizes = self.plan["subjects"][0], self.sizes
        common = {"question": "procedure", "evidence": "slots"}
        bets = self.main.count("R") + self.main.count("W")
        bound, positive = bound_of(self.main, self.wanted), bound_of(self.positive, self.wanted)
        row = next((n for n in range(1, bets + 1) if wealth("R" * n, self.exceeded)[-1] >= self.wanted), None)
        sound = binomial_tail(self.control_guesses, enclose(Fraction(1, 2)), self.control).above(Fraction(1, 100))
        return [
            {"id": "c-eps-procedure", "type": "eps-sequential", **common, "alpha": "1/20",
             "delta": entry["testedDelta"], "direction": sizes["direction"], "slots": sizes["slots"],
             "opened": len(self.main), "ended": self.ended, **counts(self.main), "bound": bound, "planned": True},
            {"id": "c-pos-procedure", "type": "control", "sign": "positive", **common, "alpha": "1/20",
             "opened": len(self.positive), **counts(self.positive), "bound": positive,
             "outcome": "detected" if float(positive) > self.eps else "missed"},
            {"id": "c-neg-procedure", "type": "control", "sign": "negative", **common,
             "guesses": sizes["controlGuesses"], "right": self.control, "tail": "1/100",
             "outcome": "sound" if sound else "failed"},
            {"id": "c-power-procedure", "type": "power", "question": "procedure", "alpha": "1/20",
             "testedEps": entry["testedEps"], "detectEps": self.plan["detectEps"], "bets": bets, "critical": row,
             "needed": self.needed, "accuracy": smallest_accuracy(bets, self.exceeded, self.wanted),
             "maxEps": bound_of("R" * bets, self.wanted),
             "reached": self.needed is not None and bets >= self.needed},
        ]  # fmt: skip

    def plots(self, claims: list[Json]) -> Json:
        entry = self.plan["subjects"][0]
        wanted = 1 / (ALPHA - self.sizes["slots"] * Fraction(entry["testedDelta"]))
        tested = f"{self.eps:.4f}"
        bar = {"label": "procedure", "lower": claims[0]["bound"], "max": claims[3]["maxEps"], "claim": claims[0]["id"]}
        return {
            "procedure": {
                "kind": "bets", "title": "Wealth", "tested": tested, "wanted": str(wanted),
                "series": [{"label": "npo", "role": "unlearned", "marks": self.main},
                           {"label": "original", "role": "original", "marks": self.positive}],
            },
            "eps": {"kind": "eps", "title": "Bounds", "tested": tested, "bars": [bar]},
        }  # fmt: skip


def counts(marks: str) -> Json:
    return {
        key: marks.count(mark) for key, mark in (("right", "R"), ("wrong", "W"), ("abstained", "A"), ("failed", "F"))
    }


def _pilots(knobs: Knobs, plan: Json) -> list[Json]:
    count = plan["score"]["pilots"]
    return [
        run(knobs, "pilots", slot, role, where="pilots")
        for role, size in (("original", count), ("retrained", 2 * count))
        for slot in range(size)
    ]


def fake_sequential(knobs: Knobs, *, goes_on: int = 0, margin: int = 0) -> Fake:
    """Build everything; the verdict is left out, as in a draft."""
    played = Played(knobs, goes_on=goes_on, margin=margin)
    utility = rows_of(replace(knobs, questions=(), edit_plan=lambda plan: None), played.plan, played.digest)["utility"]
    rows = {"slots": played.rows, "pilots": played.pilots, "utility": utility}
    knobs.edit_rows(rows)
    procedure = played.claims()
    claims = [
        {"id": "c-model", "type": "model-digest", "digest": {"sha256": digest("file")}},
        {"id": "c-split", "type": "split", "text": "learned", "fitted": "pilots", "judged": ["slots"]},
        *procedure,
        *side_claims({"utility": utility}, {}, "0"),
    ]
    files = {"plan.json": played.bytes} | {f"evidence/{name}.jsonl": lines(found) for name, found in rows.items()}
    predicate = predicate_of(played.plan, files, claims, played.plots(procedure))
    predicate["assumptions"] = [f"A{number}" for number in (*range(1, 11), 13)]
    return Fake(predicate, files)
