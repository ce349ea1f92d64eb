"""A complete certificate without a single trained model.

The claims are written here by hand, from the plan's JSON and the rows, and not by the issuer's builders: so they are a
second reading of the protocol, and a prover who plans nonsense can state it consistently.
"""

import copy
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fake_evidence import Json, Knobs, Rows, digest, plan_of, rows_of, scores_of

from cu_certificates.check.checker import PREDICATE_TYPE, STATEMENT_TYPE, check_payload
from cu_certificates.check.coins import right_guesses
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

TAIL = Fraction(1, 100)
STATED = ("method", "guarantee", "level", "parameters")


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
        pair = rate_claims(
            name, "utility", name, 1, [r["score"] for r in rows["utility"] if r["group"] == name], "lower"
        )
        claims += [*pair, {"id": f"c-utility-{name}", "type": "utility", "set": name, "from": f"c-cp-{name}",
                           "accuracyAtLeast": pair[1]["bound"]}]  # fmt: skip
    return [*claims, {"id": "m-auc", "type": "metric", "name": "AUC", "value": "0.5312", "note": "descriptive"}]


def plots_of(claims: list[Json], scores: Json, tested: str) -> Json:
    edges = [Fraction(low) for low in range(-3, 13)]

    def pool(values: list[int | None], role: str) -> Json:
        there = [Fraction(value, 1_000_000) for value in values if value is not None]
        places = [min(max(int(value // 1) + 3, 0), len(edges) - 2) for value in there]
        return {"label": role, "role": role, "counts": [places.count(place) for place in range(len(edges) - 1)]}

    found: Json = {}
    axis = {
        "kind": "pools",
        "title": "Scores",
        "unit": "audit score",
        "binEdges": [f"{int(edge)}.00" for edge in edges],
    }
    if "main" in scores:
        pairs = list(zip(scores["main"], scores["coins"], strict=True))
        originals = [s for s, bit in zip(scores["positive"], scores["coins"], strict=True) if bit]
        found["procedure"] = axis | {
            "series": [
                pool([s for s, bit in pairs if not bit], "retrained"),
                pool([s for s, bit in pairs if bit], "unlearned"),
                pool(originals, "original"),
            ]
        }
    if "subject" in scores:
        at = f"{scores['subject'] / 1_000_000:.2f}"
        marks = [{"label": "model.pt", "role": "subject", "at": at}]
        found["artifact"] = axis | {"series": [pool(scores["artifact reference"], "reference")], "marks": marks}
    most = {claim["question"]: claim["maxEps"] for claim in claims if claim["type"] == "power"}
    bars = [
        {"label": c["question"], "lower": c["bound"], "max": most[c["question"]], "claim": c["id"]}
        for c in claims
        if c.get("planned")
    ]
    found["eps"] = {"kind": "eps", "title": "Bounds", "tested": shown(rational(tested, "tested")), "bars": bars}
    found["roc"] = {"kind": "roc", "title": "Attacks", "series": [{"label": "loss", "points": [[0, 0], [1000, 1000]]}]}
    return found


KINDS = {"plan": "plan", "slots": "slots", "artifact": "artifact", "pilots": "pilots", "utility": "correct"}


def predicate_of(plan: Json, files: dict[str, bytes], claims: list[Json], plots: Json) -> Json:
    entry = plan["subjects"][0]
    mirrored = ("questions", "attacks", "alphaTotal", "alphaSplit", "detectEps", "seedCommitment", "attempt")
    return {
        "schemaVersion": "1.0",
        "certificateId": "urn:uuid:00000000-0000-4000-8000-000000000000",
        "issuedAt": "2026-11-20T18:00:00Z",
        "expiresAt": "2027-02-18T18:00:00Z",
        "sequence": 2,
        "previous": {"sha256": digest("previous")},
        "auditor": {"name": "Example Auditor", "independence": "internal", "keyid": "SHA256:abc"},
        "tool": {"name": "cu-cert", "version": "0.1.0", "environment": {"python": "3.11.7"}},
        "scope": {
            "model": {"name": "model.pt", "digest": {"sha256": digest("file")}, "access": "white-box"},
            "data": {"source": "digits", "records": 95, "trained": 55, "heldOut": 40, "digest": plan["data"]},
            "recipe": {"name": "mlp", "digest": plan["recipe"], "parameters": {"epochs": 30}},
            "excluded": ["backups"],
        },
        "request": {
            "scenario": "sample",
            "commitment": {"scheme": "cu-cert-forget/1", **plan["request"]},
            "allowedMissing": 0,
        },
        "unlearning": {key: entry[key] for key in STATED} | {"source": "option"},
        "plan": {
            "digest": {"sha256": hashlib.sha256(files["plan.json"]).hexdigest()},
            **{key: plan[key] for key in mirrored if key in plan},
            "testedEps": entry["testedEps"],
            "testedDelta": entry["testedDelta"],
        },
        "evidence": [
            {"id": id_of(name), "kind": KINDS[id_of(name)], "name": name, "access": "controlled",
             "digest": {"sha256": hashlib.sha256(data).hexdigest()}}
            for name, data in files.items()
        ],
        "plots": plots,
        "claims": claims,
        "assumptions": [f"A{number}" for number in range(1, 12)],
        "limitations": ["L1", "L2"],
    }  # fmt: skip


def id_of(name: str) -> str:
    return name.rsplit("/", 1)[-1].split(".")[0]


def lines(rows: list[Json]) -> bytes:
    return b"".join(canonical(row) + b"\n" for row in rows)


@dataclass
class Fake:
    """A certificate and its files; change either and look at it again."""

    predicate: Json
    files: dict[str, bytes]

    @property
    def payload(self) -> bytes:
        subject = [
            {"name": "model.pt", "digest": {"sha256": digest("file")}},
            {"name": "report.html", "digest": {"sha256": digest("report")}},
        ]
        return canonical(
            {"_type": STATEMENT_TYPE, "subject": subject, "predicateType": PREDICATE_TYPE, "predicate": self.predicate}
        )

    def check(self) -> CheckResult:
        return check_payload(self.payload, self.files.get)

    def copy(self) -> "Fake":
        return Fake(copy.deepcopy(self.predicate), dict(self.files))

    def claim(self, identifier: str) -> Json:
        return next(claim for claim in self.predicate["claims"] if claim["id"] == identifier)

    def drop(self, identifier: str) -> None:
        self.predicate["claims"].remove(self.claim(identifier))

    def replace(self, name: str, data: bytes) -> None:
        """Put other bytes into a file and sign their digest, as a dishonest signer would."""
        self.files[name] = data
        found = {"sha256": hashlib.sha256(data).hexdigest()}
        next(entry for entry in self.predicate["evidence"] if entry["name"] == name)["digest"] = found
        if name == "plan.json":
            self.predicate["plan"]["digest"] = dict(found)

    def state(self) -> "Fake":
        """State the verdict that follows, as an honest signer does."""
        self.predicate.pop("verdict", None)
        result = self.check()
        basis = [claim["id"] for claim in self.predicate["claims"] if claim.get("planned")]
        self.predicate["verdict"] = {"value": result.derived, "basis": basis, "reasons": list(result.reasons)}
        return self


def fake(knobs: Knobs) -> Fake:
    """Build everything; the verdict is left out, as in a draft."""
    plan = plan_of(knobs)
    plan_bytes = canonical(plan)
    plan_digest = hashlib.sha256(plan_bytes).hexdigest()
    rows = rows_of(knobs, plan, plan_digest)
    scores = scores_of(rows, plan, plan_digest)
    judged = [{"procedure": "slots", "artifact": "artifact"}[name] for name in plan["questions"]]
    claims: list[Json] = [
        {"id": "c-model", "type": "model-digest", "digest": {"sha256": digest("file")}},
        {"id": "c-split", "type": "split", "text": "fitted on pilots", "fitted": "pilots", "judged": judged},
    ]
    if "procedure" in knobs.questions:
        claims += procedure_claims(plan, scores)
    if "artifact" in knobs.questions:
        claims += artifact_claims(plan, scores)
    claims += side_claims(rows, scores, plan["subjects"][0]["testedDelta"])
    files = {"plan.json": plan_bytes} | {f"evidence/{name}.jsonl": lines(found) for name, found in rows.items()}
    plots = plots_of(claims, scores, plan["subjects"][0]["testedEps"])
    return Fake(copy.deepcopy(predicate_of(plan, files, claims, plots)), files)


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every leaf of a JSON value with its path."""
    if isinstance(value, (dict, list)) and value:
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*path, key))
    else:
        yield path, value
