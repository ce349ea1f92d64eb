"""Three complete predicates for tests of what is drawn from a certificate: refuted, not refuted, inconclusive.

Bounds and sizes come from the checker's own arithmetic, so that no sample states a number that could not be true.
"""

import copy
import hashlib
from fractions import Fraction
from math import isqrt
from typing import Any, Literal

from cu_certificates.check.fields import printed
from cu_certificates.check.power import critical_guesses, power_at, smallest_accuracy, smallest_references
from cu_certificates.check.tails import coinflip_bound, cp_lower, group_bound

Kind = Literal["refuted", "not refuted", "inconclusive"]
KINDS: tuple[Kind, ...] = ("refuted", "not refuted", "inconclusive")

SLOTS, GUESSES, REFERENCES = 64, 48, 120
TESTED, DETECT, NONE = Fraction(1, 2), Fraction(2), Fraction(0)


def sample(kind: Kind) -> dict[str, Any]:
    """Return a new predicate: npo refuted, ssd not refuted, or an artifact-only audit too small."""
    match kind:
        case "refuted":
            found = _base("npo", ("procedure", "artifact"))
            found["claims"] = [
                *_ground(),
                *_procedure("npo", 48, 22),
                *_artifact(REFERENCES, 0, Fraction(1, 40)),
                *_rest(),
            ]
            found["plots"] = _plots("npo", (0, 0, 0, 0, 0, 0, 2, 9, 14, 6, 1, 0), "8.1200")
            found["verdict"] = {
                "value": "REFUTED",
                "basis": ["c-eps-procedure", "c-eps-artifact"],
                "reasons": [
                    f"{question}: eps >= {_bound(found, question)} exceeds the guarantee under test, eps* = 0.5000"
                    for question in ("procedure", "artifact")
                ],
            }
        case "not refuted":
            found = _base("ssd", ("procedure", "artifact"))
            found["claims"] = [
                *_ground(),
                *_procedure("ssd", 26, 23),
                *_artifact(REFERENCES, 44, Fraction(1, 40)),
                *_rest(),
            ]
            found["plots"] = _plots("ssd", (1, 3, 8, 9, 7, 3, 1, 0, 0, 0, 0, 0), "-0.0450")
            found["verdict"] = {
                "value": "NOT_REFUTED",
                "basis": ["c-eps-procedure", "c-eps-artifact"],
                "reasons": [
                    f"{question}: eps >= {_bound(found, question)} does not exceed eps* = 0.5000; both controls "
                    "behaved and the planned power is reached"
                    for question in ("procedure", "artifact")
                ],
            }
        case "inconclusive":
            found = _base(None, ("artifact",))
            found["claims"] = [*_ground(judged=["artifact"]), *_artifact(24, 2, Fraction(1, 20)), *_rest()[:3]]
            found["plots"] = {"artifact": _artifact_plot("1.3100", 5), "eps": _eps_plot(found["claims"])}
            found["verdict"] = {
                "value": "INCONCLUSIVE",
                "basis": [],
                "reasons": [
                    "artifact: its positive control was not detected, so it has no power here",
                    "artifact: its size does not reach the planned power",
                ],
            }
    if kind != "inconclusive":
        found["plots"]["eps"] = _eps_plot(found["claims"])
    return copy.deepcopy(found)


def draft(kind: Kind) -> dict[str, Any]:
    """Return the same predicate as an unsigned draft."""
    found = sample(kind)
    del found["verdict"]
    return found


def digest(said: str) -> dict[str, str]:
    return {"sha256": hashlib.sha256(said.encode()).hexdigest()}


def _bound(found: dict[str, Any], question: str) -> str:
    return next(claim["bound"] for claim in found["claims"] if claim["id"] == f"c-eps-{question}")


def _base(method: str | None, questions: tuple[str, ...]) -> dict[str, Any]:
    files = [("plan", "plan", "plan.json"), ("artifact", "artifact", "evidence/artifact.jsonl")]
    if "procedure" in questions:
        files.insert(1, ("slots", "slots", "evidence/slots.jsonl"))
    files += [("pilots", "pilots", "evidence/pilots.jsonl"), ("utility", "correct", "evidence/utility.jsonl")]
    return {
        "schemaVersion": "1.0",
        "certificateId": "urn:uuid:6f1d2b0c-8a4e-4c57-9c1b-3f0e5d7a9b21",
        "issuedAt": "2026-11-20T18:00:00Z",
        "expiresAt": "2027-02-18T18:00:00Z",
        "sequence": 2,
        "previous": digest("certificate before"),
        "auditor": {
            "name": "local audit key",
            "independence": "internal",
            "keyid": "SHA256:VgIZ0b1QkqkqV1S7mJzq7xJx3b0H6pLw2C9yQm1dT4E",
        },
        "tool": {
            "name": "cu-cert",
            "version": "0.1.0",
            "sourceDigest": digest("program"),
            "environment": {"cpu": "x86_64", "python": "3.11.7", "threads": "1", "torch": "2.13.0+cpu"},
        },
        "scope": {
            "model": {"name": "model.pt", "digest": digest("model"), "access": "white-box"},
            "data": {"source": "digits", "records": 1797, "trained": 1437, "heldOut": 360, "digest": digest("data")},
            "recipe": {
                "name": "mlp",
                "digest": digest("recipe"),
                "parameters": {"epochs": 30, "hidden": [128], "learning_rate": "0.05", "momentum": "0.9"},
            },
            "excluded": ["backups", "copies of the model outside this file", "models trained from this one"],
        },
        "request": {
            "scenario": "sample",
            "commitment": {"scheme": "cu-cert-forget/1", "root": digest("root")["sha256"], "size": 50},
            "allowedMissing": 0,
        },
        "unlearning": {
            "method": method,
            "source": "unknown" if method is None else "option",
            "guarantee": "none",
            "level": "EMPIRICAL",
            "parameters": {} if method is None else {"beta": "0.1", "retain_weight": "1", "steps": 200},
        },
        "plan": {
            "digest": digest("plan"),
            "questions": list(questions),
            "attacks": [{"procedure": "eps-coinflip", "artifact": "conformal-p"}[question] for question in questions],
            "alphaTotal": "1/20",
            "alphaSplit": {question: str(Fraction(1, 20) / len(questions)) for question in questions},
            "testedEps": "1/2",
            "testedDelta": "0",
            "detectEps": "2",
            "seedCommitment": digest("seed"),
            "attempt": 1,
        },
        "evidence": [
            {
                "id": name,
                "kind": kind,
                "name": path,
                "digest": digest(path),
                "access": "public" if name == "plan" else "controlled",
            }
            for name, kind, path in files
        ],
        "assumptions": ["A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A10", "A11"],
        "limitations": [f"L{number}" for number in range(1, 13)],
    }


def _ground(judged: list[str] | None = None) -> list[dict[str, Any]]:
    return [
        {"id": "c-model", "type": "model-digest", "digest": digest("model")},
        {
            "id": "c-split",
            "type": "split",
            "text": "score fitted on pilots that are neither judged nor ranked",
            "fitted": "pilots",
            "judged": judged or ["slots", "artifact"],
        },
    ]


def _procedure(method: str, right: int, control: int) -> list[dict[str, Any]]:
    alpha = Fraction(1, 40)

    def bound(counted: int) -> str:
        return printed(coinflip_bound(SLOTS, GUESSES, counted, alpha, NONE))

    critical = critical_guesses(SLOTS, GUESSES, alpha, TESTED, NONE)
    assert critical is not None, f"{method}: the sample is too small to refute anything"
    judged = {"question": "procedure", "evidence": "slots", "guesses": GUESSES}
    main = {"alpha": "1/40", "delta": "0", "direction": "both", "slots": SLOTS, "planned": True}
    positive = {"sign": "positive", "alpha": "1/40", "outcome": "detected"}
    negative = {"sign": "negative", "tail": "1/100", "outcome": "sound"}
    sizes = {"question": "procedure", "alpha": "1/40", "guesses": GUESSES, "testedEps": "1/2", "detectEps": "2"}
    power = {"critical": critical, "accuracy": printed(smallest_accuracy(GUESSES, critical)), "maxEps": bound(GUESSES)}
    return [
        {"id": "c-eps-procedure", "type": "eps-coinflip", **judged, **main, "right": right, "bound": bound(right)},
        {"id": "c-pos-procedure", "type": "control", **judged, **positive, "right": GUESSES, "bound": bound(GUESSES)},
        {"id": "c-neg-procedure", "type": "control", **judged, **negative, "right": control},
        {
            "id": "c-power-procedure",
            "type": "power",
            **sizes,
            **power,
            "reached": power_at(GUESSES, critical, eps=DETECT),
        },
    ]


def _artifact(references: int, above: int, alpha: Fraction) -> list[dict[str, Any]]:
    p, best = Fraction(above + 1, references + 1), Fraction(1, references + 1)
    most = group_bound(best, alpha, NONE)
    least = smallest_references(alpha, TESTED, NONE)
    assert least is not None, "some size must do"
    judged = {"question": "artifact", "evidence": "artifact"}
    bound = {"question": "artifact", "alpha": str(alpha), "delta": "0", "bound": printed(group_bound(p, alpha, NONE))}
    positive = {"sign": "positive", "alpha": str(alpha), "p": str(best), "bound": printed(most)}
    negative = {"sign": "negative", "alpha": str(alpha), "runs": 8, "alarms": 0, "tail": "1/100"}
    sizes = {"question": "artifact", "alpha": str(alpha), "references": references, "testedEps": "1/2"}
    power = {"smallest": least, "maxEps": printed(most), "reached": references >= least}
    detected = "detected" if most > TESTED else "missed"
    return [
        {
            "id": "c-p-artifact",
            "type": "conformal-p",
            **judged,
            "references": references,
            "atLeast": above,
            "p": str(p),
        },
        {"id": "c-eps-artifact", "type": "eps-group", "from": "c-p-artifact", **bound, "planned": True},
        {"id": "c-pos-artifact", "type": "control", **judged, **positive, "outcome": detected},
        {"id": "c-neg-artifact", "type": "control", **judged, **negative, "outcome": "sound"},
        {"id": "c-power-artifact", "type": "power", **sizes, **power},
    ]


def _rest() -> list[dict[str, Any]]:
    right, total, alpha = 352, 360, Fraction(1, 20)
    bound = printed(cp_lower(total, right, alpha))
    counted = {"group": "held-out", "threshold": 1, "evidence": "utility", "k": right, "n": total}
    lower = {"from": "c-count-heldout", "side": "lower", "alpha": "1/20", "bound": bound}
    accuracy = {"set": "held-out", "from": "c-cp-heldout", "accuracyAtLeast": bound}
    return [
        {"id": "c-count-heldout", "type": "count", **counted},
        {"id": "c-cp-heldout", "type": "cp", **lower},
        {"id": "c-utility-heldout", "type": "utility", **accuracy},
        _metric("m-auc-lira", "AUC, LiRA offline", "0.5312", ["0.4500", "0.6100"]),
        _metric("m-auc-loss", "AUC, loss threshold", "0.5107", ["0.4310", "0.5890"]),
        _metric("m-cost", "cost against retraining", "0.2969", None),
    ]


def _metric(name: str, said: str, value: str, interval: list[str] | None) -> dict[str, Any]:
    found = {
        "id": name,
        "type": "metric",
        "name": said,
        "value": value,
        "note": "descriptive; cannot support a verdict",
    }
    return found if interval is None else found | {"interval": interval}


def _plots(method: str, unlearned: tuple[int, ...], at: str) -> dict[str, Any]:
    return {
        "procedure": {
            "kind": "pools",
            "title": "Procedure: scores of the judged models",
            "unit": "audit score",
            "binEdges": [f"{index - 2}.00" for index in range(13)],
            "series": [
                {
                    "label": "retrained without the request",
                    "role": "retrained",
                    "counts": [2, 4, 9, 10, 5, 2, 0, 0, 0, 0, 0, 0],
                },
                {"label": method, "role": "unlearned", "counts": list(unlearned)},
                {
                    "label": "original (positive control)",
                    "role": "original",
                    "counts": [0, 0, 0, 0, 0, 0, 0, 1, 5, 12, 11, 3],
                },
            ],
        },
        "artifact": _artifact_plot(at, 1),
        "roc": {
            "kind": "roc",
            "title": "Attack panel: finding single records",
            "series": [
                {
                    "label": "LiRA (offline)",
                    "points": [[x, min(1000, (isqrt(x * 1000) * 7 + x * 13) // 20)] for x in range(0, 1001, 10)],
                },
                {
                    "label": "loss threshold",
                    "points": [[x, min(1000, x + (x * (1000 - x)) // 9000)] for x in range(0, 1001, 20)],
                },
            ],
        },
    }


def _artifact_plot(at: str, thinned: int) -> dict[str, Any]:
    counts = [3, 9, 21, 30, 28, 17, 8, 4]
    return {
        "kind": "pools",
        "title": "Artifact: the audited file among retrained models",
        "unit": "audit score",
        "binEdges": ["-2.00", "-1.50", "-1.00", "-0.50", "0.00", "0.50", "1.00", "1.50", "2.00"],
        "series": [
            {"label": "reference", "role": "reference", "counts": [count // thinned for count in counts]},
        ],
        "marks": [{"label": "model.pt", "role": "subject", "at": at}],
    }


def _eps_plot(claims: list[dict[str, Any]]) -> dict[str, Any]:
    bounds = {claim["question"]: claim for claim in claims if claim["type"] in ("eps-coinflip", "eps-group")}
    limits = {claim["question"]: claim for claim in claims if claim["type"] == "power"}
    return {
        "kind": "eps",
        "tested": "0.5000",
        "bars": [
            {"label": question, "lower": claim["bound"], "max": limits[question]["maxEps"], "claim": claim["id"]}
            for question, claim in bounds.items()
        ],
    }
