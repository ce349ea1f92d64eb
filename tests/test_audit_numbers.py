"""A second, naive implementation of every number that a verdict rests on, from nothing but plan and evidence rows."""

import hashlib
import hmac
import json
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from scipy.optimize import brentq
from scipy.stats import beta, betabinom, binom
from small_project import LOGISTIC, SMALLEST, fix_secrets, predicate_of, write_project

from cu_cert.project import load_project
from cu_cert.protocol import audit_subjects
from cu_cert.subjects import SubjectInput
from cu_cert.training import train_model
from cu_cert.unlearning import unlearn_model

STEP = 1e-4
NARROW = 1e-9

# A method that refuses about every second model, by a bit of the model itself.
SHAKY = """
from dataclasses import dataclass

import torch

from cu_cert.errors import MethodError
from cu_cert.methods import UnlearningMethod, Work


@dataclass(frozen=True)
class Params:
    pass


def work(task):
    if int(task.rng.integer(8)) % 2:
        raise MethodError("this model is too shaky")
    model = task.original
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(0.99)
    return Work(model=model)


METHOD = UnlearningMethod(
    name="shaky", kind="approximate", guarantee="none", level="EMPIRICAL", needs=frozenset({"original"}),
    paper="none", summary="refuses every second model", params_type=Params, work=work,
)
"""


def audited(folder: Path, project: dict[str, Any], methods: tuple[str, ...]) -> list[Path]:
    """Audit what each method makes of one model; returns the folder of each certificate."""
    write_project(folder, **project)
    fix_secrets(folder, "numbers")
    (folder / "shaky.py").write_text(SHAKY)
    loaded = load_project(folder / "cu-cert.toml")
    train_model(loaded, folder / "model.pt")
    subjects = []
    for number, method in enumerate(methods):
        model = folder / f"{number}.pt"
        if method.startswith("python:"):
            model.write_bytes((folder / "model.pt").read_bytes())
        else:
            unlearn_model(loaded, folder / "model.pt", folder / "ids.txt", model, method=method)
        subjects.append(SubjectInput(model=model, out=folder / f"out-{number}", method=method))
    done = audit_subjects(loaded, subjects, folder / "ids.txt", quiet=True, say=lambda line: None)
    assert not any(issued.result.rejected for issued in done.issued)
    return [issued.folder for issued in done.issued]


LARGER = {"training": LOGISTIC, "slots": 32, "references": 75, "pilots": 4, "controls": 4, "more": 'detect_eps = "3"'}
CASES = {
    "exact": (SMALLEST, ("identity", "retrain")),
    "delta": (LARGER | {"more": 'detect_eps = "3"\ntested_delta = "1/1000"'}, ("npo", "retrain")),
    "procedure": (LARGER | {"more": 'detect_eps = "4"\nquestions = ["procedure"]\nalpha = "1/100"'}, ("finetune",)),
    "failures": (LARGER, ("python:shaky:METHOD",)),
}


@pytest.fixture(scope="module", params=sorted(CASES))
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return audited(tmp_path_factory.mktemp("numbers") / request.param, *CASES[request.param])


class Naive:
    """One certificate's folder, read as a stranger would read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.predicate = predicate_of(folder)
        raw = (folder / "plan.json").read_bytes()
        self.plan, self.digest = json.loads(raw), hashlib.sha256(raw).hexdigest()
        self.subject = next(
            found
            for found in self.plan["subjects"]
            if found["model"]["sha256"] == self.predicate["scope"]["model"]["digest"]["sha256"]
        )
        self.eps, self.delta = (float(Fraction(self.subject[key])) for key in ("testedEps", "testedDelta"))
        self.alpha = float(Fraction(self.plan["alphaTotal"])) / len(self.plan["questions"])
        self.claims = {claim["id"]: claim for claim in self.predicate["claims"]}

    def rows(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "evidence" / name).read_text().splitlines()]

    def coin(self, seed: str, group: str, slot: int) -> int:
        message = json.dumps(["coin", self.digest, "", group, slot], separators=(",", ":"))
        return hmac.new(bytes.fromhex(seed), message.encode(), hashlib.sha256).digest()[31] % 2

    def seed(self, rows: list[dict[str, Any]]) -> str:
        found: str = next(row["seed"] for row in rows if row["kind"] == "opening")
        tagged = b"cu-cert/seed/v1\0" + bytes.fromhex(found)
        assert hashlib.sha256(tagged).hexdigest() == self.plan["seedCommitment"]["sha256"]
        return found

    def bound(self, right: int, guesses: int) -> float:
        """The eps that ``right`` of ``guesses`` refute: Clopper-Pearson, or the root of the sum over delta."""
        if not right:
            return 0.0
        if not self.delta:
            low = float(beta.ppf(self.alpha, right, guesses - right + 1))
            return max(0.0, math.log(low / (1 - low)))
        return self.root(lambda eps: self.tail(right, guesses, eps) - self.alpha)

    def root(self, function: Callable[[float], float]) -> float:
        return 0.0 if function(0.0) > 0 else float(brentq(function, 0.0, 50.0, xtol=1e-12))

    def tail(self, right: int, guesses: int, eps: float) -> float:
        chance, slots = 1 / (1 + math.exp(-eps)), self.plan["procedure"]["slots"]
        return sum(
            float(binom.pmf(lost, slots, self.delta) * binom.sf(right - lost - 1, max(guesses - lost, 0), chance))
            for lost in range(slots + 1)
        )


def lower(text: str, exact: float) -> None:
    """A printed lower bound: four decimals, at most the exact one and less than a step below it."""
    assert len(text.split(".")[1]) == 4
    assert exact - STEP - NARROW < float(text) <= exact + NARROW


def count(scores: list[int | None], coins: list[int], guesses: int, *, kind: bool = False) -> int:
    """Right guesses: sort, guess both ends, ties to the lower slot. A failed run has the score that helps least.

    With ``kind`` it has the score that helps most, or is a right guess where that is more.
    """
    filled = [
        (math.inf if (coin == 1) == kind else -math.inf) if score is None else score
        for score, coin in zip(scores, coins, strict=True)
    ]
    order = sorted(range(len(filled)), key=lambda slot: (-filled[slot], slot))
    half = guesses // 2
    right = sum(coins[slot] == 1 for slot in order[:half]) + sum(coins[slot] == 0 for slot in order[-half:])
    return max(right, min(count(scores, coins, guesses) + scores.count(None), guesses)) if kind else right


def test_procedure(folders: list[Path]) -> None:
    for folder in folders:
        naive = Naive(folder)
        rows = naive.rows("slots.jsonl")
        seed, sizes = naive.seed(rows), naive.plan["procedure"]
        at = {(row["group"], row["slot"]): row for row in rows if row["kind"] == "run"}
        coins = [naive.coin(seed, "slots", slot) for slot in range(sizes["slots"])]
        fresh = [naive.coin(seed, "control", slot) for slot in range(sizes["controlSlots"])]
        main = [at.pop(("main", slot)) for slot in range(sizes["slots"])]
        assert [row["role"] for row in main] == ["unlearned" if coin else "retrained" for coin in coins]
        positive = [at.pop(("positive", slot)) if coin else main[slot] for slot, coin in enumerate(coins)]
        spare = [row for row, coin in zip(main, coins, strict=True) if not coin]
        control = [at.pop(("negative", slot)) if coin or not spare else spare.pop(0) for slot, coin in enumerate(fresh)]
        assert not at

        claims, guesses = naive.claims, sizes["guesses"]
        for name, table in (("c-eps-procedure", main), ("c-pos-procedure", positive)):
            right = count([row.get("score") for row in table], coins, guesses)
            assert claims[name]["right"] == right
            assert claims[name]["guesses"] == guesses
            lower(claims[name]["bound"], naive.bound(right, guesses))
        assert (claims["c-pos-procedure"]["outcome"] == "detected") == (
            float(claims["c-pos-procedure"]["bound"]) > naive.eps
        )
        scores = [row.get("score") for row in control]
        right = count(scores, fresh, sizes["controlGuesses"])
        assert claims["c-neg-procedure"]["right"] == right
        most = min(right + scores.count(None), sizes["controlGuesses"])
        sound = binom.sf(most - 1, sizes["controlGuesses"], 0.5) > 0.01
        assert claims["c-neg-procedure"]["outcome"] == ("sound" if sound else "failed")
        check_power(naive, claims["c-power-procedure"], guesses)
        check_pools(naive, [(row.get("score"), coin) for row, coin in zip(main, coins, strict=True)])


def check_power(naive: Naive, claim: dict[str, Any], guesses: int) -> None:
    refuting = [v for v in range(guesses + 1) if naive.tail(v, guesses, naive.eps + STEP) <= naive.alpha]
    assert claim["critical"] == refuting[0]
    lower(claim["maxEps"], naive.bound(guesses, guesses))
    needed = brentq(lambda p: binom.sf(refuting[0] - 1, guesses, p) - 0.8, 0.01, 1 - 1e-12, xtol=1e-13)
    assert needed - NARROW <= float(claim["accuracy"]) < needed + STEP + NARROW
    detect = 1 / (1 + math.exp(-float(Fraction(naive.plan["detectEps"]))))
    assert claim["reached"] == (binom.sf(refuting[0] - 1, guesses, detect) >= 0.8)


def check_pools(naive: Naive, scored: list[tuple[int | None, int]]) -> None:
    """The cross-check by two pools and a threshold."""
    claims = naive.claims
    if "c-eps-pools" not in claims:
        return
    rates = {}
    for name, bit in (("unlearned", 1), ("retrained", 0)):
        found = claims[f"c-count-pool-{name}"]
        pool = [score for score, coin in scored if coin == bit and score is not None]
        k, n = sum(score >= found["threshold"] for score in pool), len(pool)
        assert (found["k"], found["n"]) == (k, n)
        rates[name] = float(claims[f"c-cp-pool-{name}"]["bound"])
        if bit:
            lower(claims[f"c-cp-pool-{name}"]["bound"], float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0)
        else:
            lower(f"{1 - rates[name]:.4f}", float(beta.ppf(0.025, n - k, k + 1)) if n > k else 0.0)
    tpr, fpr = rates["unlearned"], rates["retrained"]
    ratios = [(tpr - naive.delta, fpr), (1 - fpr - naive.delta, 1 - tpr)]
    best = max([math.log(top / low) for top, low in ratios if top > low > 0], default=0.0)
    lower(claims["c-eps-pools"]["bound"], max(best, 0.0))
    assert claims["c-eps-pools"]["planned"] is False


def test_artifact(folders: list[Path]) -> None:
    for folder in folders:
        naive = Naive(folder)
        if "artifact" not in naive.plan["questions"]:
            assert not (folder / "evidence" / "artifact.jsonl").exists()
            continue
        rows, claims, sizes = naive.rows("artifact.jsonl"), naive.claims, naive.plan["artifact"]
        naive.seed(rows)
        n = sizes["references"]
        pools = {
            group: [row["score"] for row in rows if row.get("group") == group]
            for group in ("reference", "positive", "negative")
        }
        assert [len(pool) for pool in pools.values()] == [n, sizes["positives"], sizes["negatives"]]
        (own,) = [row for row in rows if row["kind"] == "subject"]
        assert own["file"] == naive.subject["model"]["sha256"]

        def above(score: int, pool: list[int] = pools["reference"]) -> int:
            return len([other for other in pool if other >= score])

        alpha = naive.alpha - naive.delta
        for name, score in (("c-eps-artifact", own["score"]), ("c-pos-artifact", pools["positive"][0])):
            p = (1 + above(score)) / (n + 1)
            lower(claims[name]["bound"], max(0.0, math.log(alpha / p)))
        assert claims["c-p-artifact"]["atLeast"] == above(own["score"])
        assert Fraction(claims["c-p-artifact"]["p"]) == Fraction(1 + above(own["score"]), n + 1)
        rank = math.floor(naive.alpha * (n + 1) + NARROW)
        alarms = sum(1 + above(score) <= rank for score in pools["negative"])
        assert claims["c-neg-artifact"]["alarms"] == alarms
        sound = betabinom.sf(alarms - 1, sizes["negatives"], rank, n + 1 - rank) > 0.01
        assert claims["c-neg-artifact"]["outcome"] == ("sound" if sound else "failed")
        power = claims["c-power-artifact"]
        lower(power["maxEps"], max(0.0, math.log(alpha * (n + 1))))
        smallest = next(m for m in range(1, 10**4) if alpha * (m + 1) >= math.exp(naive.eps + STEP))
        assert power["smallest"] == smallest
        assert power["reached"] == (n >= smallest)


def test_an_exact_method_is_tested_at_zero_and_others_at_what_the_project_says(folders: list[Path]) -> None:
    for folder in folders:
        naive = Naive(folder)
        small = naive.plan["procedure"]["slots"] == SMALLEST["slots"]
        if naive.subject["method"] == "retrain":
            assert naive.subject["guarantee"] == "exact"
            assert (naive.eps, naive.delta) == (0, 0)
        else:
            assert naive.eps == (0 if small else 0.5)
            assert naive.delta == (0.001 if "delta" in folder.parts else 0)


def test_utility_and_verdict(folders: list[Path]) -> None:
    for folder in folders:
        naive = Naive(folder)
        claims = naive.claims
        right: dict[str, list[int]] = {}
        for row in naive.rows("utility.jsonl"):
            right.setdefault(row["group"], []).append(row["score"])
        assert {name: len(found) for name, found in right.items()} == {
            "held-out": naive.predicate["scope"]["data"]["heldOut"],
            "retained": naive.predicate["scope"]["data"]["trained"] - naive.predicate["request"]["commitment"]["size"],
            "request": naive.predicate["request"]["commitment"]["size"],
        }
        for name, found in right.items():
            k, n = sum(found), len(found)
            assert (claims[f"c-count-{name}"]["k"], claims[f"c-count-{name}"]["n"]) == (k, n)
            lower(claims[f"c-utility-{name}"]["accuracyAtLeast"], float(beta.ppf(0.05, k, n - k + 1)) if k else 0.0)
        assert naive.predicate["verdict"]["value"] == expected_verdict(naive)


def expected_verdict(naive: Naive) -> str:
    claims, refuted, gaps = naive.claims, False, False
    for question in naive.plan["questions"]:
        if claims[f"c-neg-{question}"]["outcome"] != "sound":
            gaps = True
        elif float(claims[f"c-eps-{question}"]["bound"]) > naive.eps:
            refuted = True
        else:
            gaps |= claims[f"c-pos-{question}"]["outcome"] != "detected" or not claims[f"c-power-{question}"]["reached"]
    if not refuted and (naive.folder / "evidence/slots.jsonl").exists():
        main = [row for row in naive.rows("slots.jsonl") if row.get("group") == "main"]
        main.sort(key=lambda row: int(row["slot"]))
        coins, guesses = [int(row["role"] == "unlearned") for row in main], claims["c-eps-procedure"]["guesses"]
        gaps |= naive.bound(count([row.get("score") for row in main], coins, guesses, kind=True), guesses) > naive.eps
    return "REFUTED" if refuted else "INCONCLUSIVE" if gaps else "NOT_REFUTED"


def test_failed_runs_stand_in_the_evidence_and_are_counted_against_the_claim(
    folders: list[Path],
) -> None:
    naive = Naive(folders[0])
    main = [row for row in naive.rows("slots.jsonl") if row.get("group") == "main"]
    failed = [row for row in main if row["status"] == "failed"]
    if naive.subject["method"] != "python:shaky:METHOD":
        assert not failed
        return
    assert {row["role"] for row in failed} == {"unlearned"}
    assert 2 <= len(failed) <= 16
    assert all(set(row) == {"kind", "group", "slot", "role", "status"} for row in failed)
    assert naive.claims["c-eps-procedure"]["right"] <= naive.claims["c-eps-procedure"]["guesses"] - len(failed)
    assert naive.predicate["unlearning"]["parameters"]["sourcesSha256"]
