"""Further predicates for tests of the report: other verdicts, a drill, every descriptive field, every type of claim."""

from collections.abc import Callable
from typing import Any, Final

from sample_predicate import KINDS, digest, draft, sample

HEX: Final = digest("root")["sha256"]


def described(language: str | None = None) -> dict[str, Any]:
    """Return a refuted audit with every field that only describes."""
    found = sample("not refuted")
    if language is not None:
        found["language"] = language
    found["controller"] = {"name": "Example Ltd", "contact": "privacy@example.org"}
    found["affirmation"] = {"name": "A. Person", "role": "head of models", "text": "Carried out as described here."}
    found["request"] |= {
        "regimes": ["GDPR-17", "our contract"], "receivedAt": "2026-10-01", "executedAt": "2026-10-20",
        "dueAt": "2026-11-01",
    }  # fmt: skip
    found["request"]["commitment"] |= {"size": 64, "padded": {"from": 49, "to": 64}}
    found["scope"] |= {"deployments": ["support chat"], "derivatives": ["chat-small"]}
    found["scope"]["model"]["omsRoot"] = digest("oms")
    found["governance"] = {
        "evidenceRetainedUntil": "2036-12-31", "evidenceAccess": "on request", "dpia": "DPIA 14", "dpoAdvice": "3/2026",
        "reaudit": "each new training", "suppression": "before each import", "revocationContact": "sec@example.org",
    }  # fmt: skip
    found["log"] = {"size": 7, "root": HEX}
    found["claims"] += [
        {"id": "m-tpr-lira-10", "type": "metric", "kind": "attack", "name": "TPR at 1.0% FPR, loss threshold",
         "value": "0.0100", "note": "Clopper-Pearson"},
        {"id": "c-count-retained", "type": "count", "group": "retained", "threshold": 1, "evidence": "utility",
         "k": 9, "n": 10},
        {"id": "c-cp-retained", "type": "cp", "from": "c-count-retained", "side": "lower", "alpha": "1/20",
         "bound": "0.5"},
        {"id": "c-utility-retained", "type": "utility", "set": "retained", "from": "c-cp-retained",
         "accuracyAtLeast": "0.5"},
        {"id": "c-receipt", "type": "receipt", "index": 3, "commitment": HEX, "path": []},
    ]  # fmt: skip
    return found


def exact() -> dict[str, Any]:
    """Return an exact method whose history was recorded, with one planned test missing."""
    found = sample("not refuted")
    found["unlearning"] |= {"method": "sisa", "guarantee": "exact", "level": "EXACT_BITWISE"}
    trees = [{"root": HEX, "size": 1000}] * 2
    found["claims"] += [
        {"id": "c-commitments", "type": "receipt", "evidence": "commitments", "root": HEX, "size": 50},
        {"id": "c-chain", "type": "chain", "evidence": "chain", "earlier": HEX, "head": HEX, "shards": 20, "steps": 20,
         "affected": list(range(15)), "removed": 50, "outcome": "consistent", "planned": True},
        {"id": "c-absent", "type": "absent", "evidence": "absent", "form": "neighbours", "trees": trees, "items": 50,
         "present": 0, "outcome": "absent", "planned": True},
        {"id": "c-replay", "type": "replay", "evidence": "replay", "head": HEX, "q": "1/100", "alpha": "1/20",
         "steps": 400, "replayed": 210, "agree": 210, "outcome": "agreed", "planned": True,
         "beacon": {"source": "drand", "round": 4242, "value": HEX}},
    ]  # fmt: skip
    found["assumptions"] += ["A14", "A15", "A16"]
    found["verdict"] = {
        "value": "EXACT_BY_PROVENANCE",
        "basis": ["c-eps-procedure", "c-eps-artifact", "c-chain", "c-absent", "c-replay"],
        "reasons": [
            "the shards' states form one chain that ends in the audited model",
            "no commitment of the request lies in a manifest of the chain",
            "the steps drawn for replay agree bit for bit",
            "beside it: artifact: its positive control is missing",
        ],
    }
    return found


def bounded() -> dict[str, Any]:
    """Return a certified method whose bound follows from its theorem."""
    found = sample("not refuted")
    found["unlearning"] |= {"method": "newton", "guarantee": "certified", "level": "CERTIFIED"}
    found["plan"] |= {"testedDelta": "1/10000"}
    found["claims"].append(
        {"id": "c-theorem", "type": "dp-bound", "theorem": "gaussian", "eps": "0.2760", "delta": "1/10000",
         "constants": {"sensitivity": "1/10", "sigma": "1", "unit": "request"}, "sampler": "float", "planned": True,
         "assumptions": [
             {"id": "sensitivity", "kind": "enforced", "text": "the norm was measured at the released point"},
             {"id": "noise", "kind": "assumed"}, {"id": "release", "kind": "enforced"}]}
    )  # fmt: skip
    found["assumptions"].append("A18")
    found["verdict"] = {
        "value": "BOUNDED_BY_THEOREM",
        "basis": ["c-eps-procedure", "c-eps-artifact", "c-theorem"],
        "reasons": [
            "eps <= 0.2760 at delta 1/10000 for the whole request, by the theorem 'gaussian' (Balle and Wang 2018); 2 "
            "of its 3 assumptions are enforced by the program, the others assumed; the noise is said to come from "
            "OpenDP's sampler",
        ],
    }
    return found


def contradicted() -> dict[str, Any]:
    """Return the same with a history that contradicts itself."""
    found = exact()
    changes = {
        "c-chain": {"outcome": "broken", "earlier": None},
        "c-absent": {"outcome": "present", "present": 2, "form": "leaves"},
        "c-replay": {"outcome": "mismatched", "agree": 209, "beacon": {"source": "reader", "value": HEX}},
    }
    for claim in found["claims"]:
        claim |= changes.get(claim["id"], {})
    found["verdict"] |= {
        "value": "REFUTED",
        "reasons": ["c-chain: shards 0 and 1 share a checkpoint", "c-absent: commitments of the request that lie in a "
                    "manifest: 2"],
    }  # fmt: skip
    return found


def drill(verdict: str = "REFUTED") -> dict[str, Any]:
    """Return a drill: one run on records drawn by coins."""
    found = sample("refuted")
    found["request"] |= {"scenario": "drill"}
    found["plan"] |= {"questions": ["procedure"], "attacks": ["eps-onerun"], "alphaSplit": {"procedure": "1/20"}}
    judged = {"question": "procedure", "evidence": "onerun"}
    found["claims"] = [
        {"id": "c-model", "type": "model-digest", "digest": digest("model")},
        {"id": "c-eps-procedure", "type": "eps-onerun", **judged, "alpha": "1/20", "delta": "0", "candidates": 300,
         "guesses": 224, "right": 4, "reversed": 220, "bound": "133.1163", "recordBound": "3.0530", "planned": True},
        {"id": "c-pos-procedure", "type": "control", **judged, "sign": "positive", "alpha": "1/20", "guesses": 224,
         "right": 224, "bound": "151.5760", "outcome": "detected"},
        {"id": "c-neg-procedure", "type": "control", **judged, "sign": "negative", "guesses": 224, "right": 110,
         "reversed": 114, "tail": "1/100", "outcome": "sound"},
        {"id": "c-power-procedure", "type": "power", "question": "procedure", "alpha": "1/20", "testedEps": "1/2",
         "detectEps": "2", "candidates": 300, "guesses": 224, "critical": 129, "accuracy": "0.6012",
         "maxEps": "151.5760", "maxRecordEps": "4.0980", "reached": True},
    ]  # fmt: skip
    del found["plots"]
    found["assumptions"], found["limitations"] = ["A2", "A20"], ["L1", "L17"]
    found["verdict"] = {"value": verdict, "basis": ["c-eps-procedure"], "reasons": [
        "procedure: eps >= 133.1163 exceeds the guarantee under test, eps* = 0.5000"]}  # fmt: skip
    return found


def one_model() -> dict[str, Any]:
    """Return an audit of one given model, without retrained ones, which cannot decide."""
    found = sample("inconclusive")
    found["plan"] |= {"attacks": ["label-p"]}
    found["request"]["commitment"]["size"] = 1
    judged = {"question": "artifact", "evidence": "labels"}
    found["claims"] = [
        {"id": "c-p-artifact", "type": "label-p", **judged, "request": 50, "never": 300, "permutations": 9999,
         "asUnusual": 400, "p": "401/10000"},
        {"id": "c-eps-artifact", "type": "eps-group", "question": "artifact", "from": "c-p-artifact", "alpha": "1/20",
         "delta": "1/1000", "bound": "0.1954", "planned": True},
        {"id": "c-neg-artifact", "type": "control", "question": "artifact", "sign": "negative", "tail": "1/100",
         "p": "1/2", "outcome": "sound"},
        {"id": "c-power-artifact", "type": "power", "question": "artifact", "alpha": "1/20", "permutations": 9999,
         "testedEps": "1/2", "smallest": 33, "maxEps": "6.2", "reached": True},
    ]  # fmt: skip
    del found["plots"]
    found["verdict"]["reasons"] = ["artifact: compares with no retrained model, so it can refute but never clear"]
    return found


def every_claim() -> dict[str, Any]:
    """Return a predicate with the types of claims that the others leave out, and one that nobody knows."""
    found = exact()
    judged = {"question": "procedure", "evidence": "pools"}
    extra = {"question": "procedure", "planned": False, "note": "of 50 records"}
    found["claims"] += [
        {"id": "c-seq", "type": "eps-sequential", "question": "procedure", "evidence": "slots", "alpha": "1/40",
         "delta": "0", "right": 20, "wrong": 3, "failed": 1, "opened": 26, "slots": 64, "bound": "0.7000",
         "ended": "refuted", "planned": True},
        {"id": "c-pools", "type": "eps-lower", **judged, "alpha": "1/40", "delta": "0", "bound": "1.2000", "true": 20,
         "false": 1, "unlearned": 30, "retrained": 30, "threshold": 5, "planned": True},
        {"id": "c-pools-pos", "type": "control", **judged, "sign": "positive", "alpha": "1/40", "bound": "1.0000",
         "true": 20, "false": 1, "originals": 30, "retrained": 30, "threshold": 5, "outcome": "missed"},
        {"id": "c-pools-neg", "type": "control", **judged, "sign": "negative", "tail": "1/100", "high": 3,
         "referenceHigh": 2, "threshold": 5, "outcome": "failed"},
        {"id": "c-neg-one", "type": "control", "question": "artifact", "sign": "negative", "tail": "1/100", "runs": 8,
         "alarms": 1, "outcome": "sound"},
        {"id": "c-power-pools", "type": "power", "question": "procedure", "testedEps": "1/2", "unlearned": 30,
         "retrained": 30, "maxEps": "2.0", "reached": False},
        {"id": "c-power-seq", "type": "power", "question": "procedure", "testedEps": "1/2", "bets": 60, "critical": 12,
         "accuracy": "0.8", "maxEps": "2.0", "reached": True},
        {"id": "c-band-0", "type": "band", **judged, "eps": "0", "alpha": "1/40", "unlearned": 30, "retrained": 30,
         "bound": "0.9", "floor": "0.5"},
        {"id": "c-band-1", "type": "band", **judged, "eps": "1", "alpha": "1/40", "unlearned": 30, "retrained": 30,
         "bound": "0.9", "floor": "0.5"},
        {"id": "x-mu", "type": "mu-lower", **extra, "value": "0.5", "eps": "1", "delta": "1/100000",
         "assumption": "an assumption that nobody translated"},
        {"id": "x-bayes", "type": "eps-bayes", **extra, "value": "0.5", "interval": ["0.5", "1.5"],
         "assumption": "independent Jeffreys priors on both error rates of one rule that was fixed beforehand"},
        {"id": "x-fdp", "type": "eps-fdp", **extra, "value": "0.5", "interval": ["0.5", "1.5"],
         "assumption": "independent Jeffreys priors on both error rates of one rule that was fixed beforehand"},
        {"id": "m-probe", "type": "metric", "kind": "probe", "name": "AUC of an observer of both models, before and "
         "after", "value": "not measured", "note": "the model before unlearning was not given (--original)"},
        {"id": "x-mu-rates", "type": "mu-lower", **extra, "value": "2.6780", "eps": "13.9", "delta": "1/100000",
         "tpr": "c-cp-one", "fpr": "c-cp-two", "z1": "1.405073562342", "z2": "-1.272977342601", "assumption":
         "the trade-off between the two kinds of error is that of two normal laws with equal variance"},
        {"id": "t-energy", "type": "perm-p", "question": "procedure", "evidence": "distances", "statistic": "energy",
         "name": "energy distance between unlearned and retrained models", "unlearned": 36, "retrained": 28,
         "labellings": 10000, "asDifferent": 12, "p": "3/2500", "value": "0.5312", "interval": ["0.0102", "0.2931"],
         "note": "a detected difference is not an eps", "planned": False},
        {"id": "c-theorem", "type": "dp-bound", "theorem": "zcdp", "eps": "0.2760", "delta": "1/10000",
         "constants": {"rho": "1/100", "unit": "record", "records": 50}, "sampler": "opendp", "planned": False,
         "assumptions": []},
        {"id": "c-hologram", "type": "hologram"},
    ]  # fmt: skip
    return found


EVERY: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    **{kind: (lambda kind=kind: sample(kind)) for kind in KINDS},  # type: ignore[misc]
    "draft": lambda: draft("refuted"),
    "described": described,
    "exact": exact,
    "bounded": bounded,
    "contradicted": contradicted,
    "drill": drill,
    "drill not refuted": lambda: drill("NOT_REFUTED"),
    "drill inconclusive": lambda: drill("INCONCLUSIVE"),
    "one model": one_model,
    "every claim": every_claim,
}
"""A function for each predicate, by name."""
