"""Plan, evidence and claims of a drill that never took place, computed in floats a second time."""

import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any

from fake_certificate import KINDS, Fake, lines, predicate_of, rate_claims
from fake_evidence import SEED, Json, Knobs, Rows, digest, plan_of
from scipy import optimize, stats

from cu_certificates.check.coins import coin
from cu_certificates.check.result import CheckResult
from cu_certificates.check.strict import canonical

ALPHA = Fraction(1, 20)
ASSUMED = [f"A{number}" for number in (*range(1, 11), 20)]
NAME = "evidence/onerun.jsonl"
REFERENCES = "evidence/references.jsonl"
KINDS |= {"onerun": "onerun", "references": "references"}


@dataclass(frozen=True, kw_only=True)
class Run:
    """What the invented drill found.

    Args:
        leak: How far records that entered stand out in the audited model, in standard deviations; negative where they
            were pushed away.
        before: The same in the original.
        sham: The same in the retrained models of the control; 0 in a sound pipeline.
        missing: (column, index) of scores that there are not; columns are score, original and reruns.
        edit_plan: Changes the plan before anything derives from it.
        edit_rows: Changes the evidence before claims are computed from it.
    """

    leak: float = 0.0
    before: float = 3.0
    sham: float = 0.0
    candidates: int = 60
    controls: int = 3
    references: int = 4
    method: str = "npo"
    guarantee: str = "none"
    tested_eps: str = "1/2"
    tested_delta: str = "0"
    missing: frozenset[tuple[str, int]] = frozenset()
    edit_plan: Callable[[Json], None] = lambda plan: None
    edit_rows: Callable[[Rows], None] = lambda rows: None
    seed: int = 0


def reference_rows(run: Run) -> list[Json]:
    return [
        {"kind": "reference", "slot": n, "model": digest("reference", n), "signals": digest("seen", n)}
        for n in range(run.references)
    ]


def onerun_plan(run: Run) -> Json:
    def one_run(plan: Json) -> None:
        plan["attacks"] = ["eps-onerun"]
        plan["procedure"] = {
            "design": "onerun",
            "candidates": run.candidates,
            "guesses": 2 * (3 * run.candidates // 8),
            "controls": run.controls,
            "references": run.references,
            "referencesFile": {"sha256": hashlib.sha256(lines(reference_rows(run))).hexdigest()},
            "canaries": "mislabelled",
            "records": {"sha256": digest("canaries")},
        }
        plan["request"]["size"] = run.candidates
        plan["score"] = {"name": "lira-offline", "version": 1}
        del plan["artifact"]
        del plan["subjects"][0]["model"]
        plan["subjects"][0]["name"] = "model.pt"
        run.edit_plan(plan)

    return plan_of(
        Knobs(
            questions=("procedure",),
            method=run.method,
            guarantee=run.guarantee,
            tested_eps=run.tested_eps,
            tested_delta=run.tested_delta,
            edit_plan=one_run,
        )
    )


def model(kind: str, **more: Any) -> Json:
    names = (kind, more.get("slot", 0))
    return {"kind": kind, "model": digest("model", *names), "signals": digest("signals", *names), **more}


def onerun_rows(run: Run, plan_digest: str) -> Rows:
    found = [
        {"kind": "opening", "seed": SEED.hex(), "nonce": ""},
        model("subject", file=digest("file")),
        model("original"),
        *(model("rerun", slot=slot) for slot in range(run.controls)),
    ]
    for index in range(run.candidates):
        bit = coin(SEED, plan_digest, "", "candidates", index)
        draw = random.Random(f"{run.seed} {index}")

        def score(column: str, shift: float, index: int = index, bit: int = bit, draw: Any = draw) -> int | None:
            value = round((draw.gauss(0, 1) + bit * shift) * 1_000_000)
            return None if (column, index) in run.missing else value

        values = {"score": score("score", run.leak), "original": score("original", run.before)}
        row = {"kind": "candidate", "index": index, "role": "in" if bit else "out"}
        row |= {key: value for key, value in values.items() if value is not None}
        found.append(row | {"reruns": [score("reruns", run.sham) for _ in range(run.controls)]})
    utility = [{"kind": "record", "group": "held-out", "score": score} for score in [0] * 4 + [1] * 36]
    rows = {"onerun": found, "references": reference_rows(run), "utility": utility}
    run.edit_rows(rows)
    return rows


def naive_right(values: Sequence[float | None], coins: Sequence[int], guesses: int, *, turned: bool = False) -> int:
    """Count by hand: a candidate without a score is ranked where it does most harm."""
    sign = -1 if turned else 1
    filled = [(-math.inf if bit else math.inf) if v is None else sign * v for v, bit in zip(values, coins, strict=True)]
    order = sorted(range(len(filled)), key=lambda index: (-filled[index], index))
    top, bottom = order[: guesses // 2], order[len(order) - guesses // 2 :]
    return sum(coins[index] for index in top) + sum(1 - coins[index] for index in bottom)


def grid(value: float) -> str:
    return f"{math.floor(max(value, 0.0) * 10_000 + 1e-9) / 10_000:.4f}"


def request(guesses: int, right: int, delta: float, side: float = float(ALPHA / 2)) -> str:
    p = sum(math.comb(guesses, k) for k in range(right, guesses + 1)) / 2**guesses
    return grid(math.log((side - delta) / p) if side > delta else 0.0)


def record(size: int, guesses: int, right: int, delta: float, side: float = float(ALPHA / 2)) -> str:
    def gap(eps: float) -> float:
        above = [stats.binom.sf(k - 1, guesses, 1 / (1 + math.exp(-eps))) for k in range(right + 1)]
        steps = [(above[right - i] - above[right]) / i for i in range(1, right + 1)]
        return float(above[right] + 2 * size * delta * max(steps, default=0.0)) - side

    return grid(0.0 if gap(0.0) > 0 else float(optimize.brentq(gap, 0.0, 60.0, xtol=1e-12)))


def power(run: Run, guesses: int, eps: float, delta: float, detect: float) -> Json:
    rights = [right for right in range(guesses + 1) if float(request(guesses, right, delta)) > eps]
    critical = min(rights) if rights else None

    def seen(chance: float) -> bool:
        return critical is not None and float(stats.binom.sf(critical - 1, guesses, chance)) >= 0.8

    low, high = 0, 10_000
    while high - low > 1:
        step = (low + high) // 2
        low, high = (low, step) if seen(step / 10_000) else (step, high)
    return {
        "critical": critical,
        "accuracy": None if critical is None else f"{high / 10_000:.4f}",
        "maxEps": request(guesses, guesses, delta),
        "maxRecordEps": record(run.candidates, guesses, guesses, delta),
        "reached": seen(1 / (1 + math.exp(-detect))),
    }


def onerun_claims(run: Run, plan: Json, rows: Rows) -> list[Json]:
    entry, guesses, size = plan["subjects"][0], plan["procedure"]["guesses"], run.candidates
    eps, delta = (float(Fraction(entry[key])) for key in ("testedEps", "testedDelta"))
    candidates = sorted((row for row in rows["onerun"] if row["kind"] == "candidate"), key=lambda row: row["index"])
    coins = [int(row["role"] == "in") for row in candidates]
    columns = {key: [row.get(key) for row in candidates] for key in ("score", "original")}
    sums = [None if None in row["reruns"] else sum(row["reruns"]) for row in candidates]
    right, turned = (naive_right(columns["score"], coins, guesses, turned=way) for way in (False, True))
    before = naive_right(columns["original"], coins, guesses)
    sham, opposite = (naive_right(sums, coins, guesses, turned=way) for way in (False, True))
    worst = min(max(sham, opposite) + sums.count(None), guesses)
    fair = float(stats.binom.sf(worst - 1, guesses, 0.5)) > 0.005
    common = {"question": "procedure", "evidence": "onerun"}
    sized = {"candidates": size, "guesses": guesses}
    detected = request(guesses, before, delta)
    return [
        {"id": "c-eps-procedure", "type": "eps-onerun", **common, "alpha": "1/20", "delta": entry["testedDelta"],
         **sized, "right": right, "reversed": turned, "bound": request(guesses, max(right, turned), delta),
         "recordBound": record(size, guesses, max(right, turned), delta), "planned": True},
        {"id": "c-pos-procedure", "type": "control", "sign": "positive", **common, "alpha": "1/20",
         "guesses": guesses, "right": before, "bound": detected,
         "outcome": "detected" if float(detected) > eps else "missed"},
        {"id": "c-neg-procedure", "type": "control", "sign": "negative", **common, "guesses": guesses, "right": sham,
         "reversed": opposite, "tail": "1/100", "outcome": "sound" if fair else "failed"},
        {"id": "c-power-procedure", "type": "power", "question": "procedure", "alpha": "1/20", **sized,
         "testedEps": entry["testedEps"], "detectEps": plan["detectEps"],
         **power(run, guesses, eps, delta, float(Fraction(plan["detectEps"])))},
    ]  # fmt: skip


def onerun_plots(claims: list[Json], rows: Rows, tested: str) -> Json:
    candidates = [row for row in rows["onerun"] if row["kind"] == "candidate"]
    series = []
    for role, of in (("never", "out"), ("request", "in")):
        scores = [row["score"] for row in candidates if row["role"] == of and "score" in row]
        low = sum(score < 0 for score in scores)
        series.append({"label": role, "role": role, "counts": [low, len(scores) - low]})
    bars = [{"label": "procedure", "lower": claims[0]["bound"], "max": claims[3]["maxEps"], "claim": claims[0]["id"]}]
    edges = ["-9.00", "0.00", "9.00"]
    return {
        "procedure": {"kind": "pools", "title": "Drawn", "unit": "score", "binEdges": edges, "series": series},
        "eps": {"kind": "eps", "title": "Bounds", "tested": grid(float(Fraction(tested))), "bars": bars},
    }


def fake_onerun(run: Run) -> Fake:
    """Build everything; the verdict is left out, as in a draft."""
    plan = onerun_plan(run)
    plan_bytes = canonical(plan)
    rows = onerun_rows(run, hashlib.sha256(plan_bytes).hexdigest())
    procedure = onerun_claims(run, plan, rows)
    scores = [row["score"] for row in rows["utility"]]
    claims = [
        {"id": "c-model", "type": "model-digest", "digest": {"sha256": digest("file")}},
        *procedure,
        *rate_claims("held-out", "utility", "held-out", 1, scores, "lower"),
        {"id": "m-auc", "type": "metric", "name": "AUC", "value": "0.5", "note": "loss"},
    ]
    claims.insert(
        -1,
        {"id": "c-utility-held-out", "type": "utility", "set": "held-out", "from": "c-cp-held-out",
         "accuracyAtLeast": claims[-2]["bound"]},
    )  # fmt: skip
    files = {"plan.json": plan_bytes} | {f"evidence/{name}.jsonl": lines(found) for name, found in rows.items()}
    plots = onerun_plots(procedure, rows, plan["subjects"][0]["testedEps"])
    found = predicate_of(plan, files, claims, plots)
    found["assumptions"], found["limitations"] = list(ASSUMED), ["L1", "L17"]
    return Fake(found, files)


@cache
def honest(leak: float) -> Fake:
    """The certificate of an honest signer, with its verdict."""
    return fake_onerun(Run(leak=leak)).state()


def refused(result: CheckResult) -> str:
    """Return why the certificate is refused; it must be."""
    assert result.rejected, result.claims
    return result.rejected[0].detail


def rows_of(found: Fake, name: str = NAME) -> list[Json]:
    return [json.loads(line) for line in found.files[name].splitlines()]
