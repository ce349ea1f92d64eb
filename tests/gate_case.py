"""A certificate that satisfies a policy in every point, and ways to change either: what the gate's tests share."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from cu_certificates._gate.case import Beside
from cu_certificates.check.checker import PREDICATE_TYPE
from cu_certificates.check.result import CheckResult, ClaimResult
from cu_certificates.errors import UsageError
from cu_certificates.gate import GateReport, judge
from cu_certificates.policy import Policy, load_policy

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
MODEL, REPORT, ROOT, KEYID, PAYLOAD = "7a" * 32, "5b" * 32, "c0" * 32, "SHA256:VgIZ", "ee" * 32

POLICY = f"""schema = 1
[policy.require]
verdict = ["NOT_REFUTED"]
predicate = "{PREDICATE_TYPE}"
eps_lower_max = {{ value = "0.50", delta = "0", alpha = "1/20" }}
theorem_eps_max = {{ value = "1.0", delta = "1e-5" }}
detect_eps_max = "2"
power = {{ tpr = "0.20", at_fpr = "0.01", prob = "0.8" }}
attacks = ["eps-coinflip", "eps-group"]
planned_tests = true
utility_min = {{ set = "held-out", accuracy = "0.90" }}
utility_drop_max = "0.10"
method = ["npo"]
independence = "external"
absent_all = true
replay = {{ wrong_max = "0.05" }}
forget_root = "{ROOT}"
signatures = {{ auditor = 1, controller = 1 }}
timestamp = true
max_age = "90d"
report = true
privacy_lint = true
"""

PLAIN = "".join(
    line
    for line in POLICY.splitlines(keepends=True)
    if not line.startswith(("signatures", "timestamp", "report", "privacy_lint"))
)
"""The same without what stands beside a certificate."""

EXCEPTION = """[[policy.exception]]
rule = "{rule}"
reason = "ticket 812"
approved_by = "dpo"
expires = {expires}
"""

BESIDE = Beside(
    signers=[("auditor",), ("controller",)],
    stamped="signed no later than 2026-11-20T18:00:05Z",
    report="",
    report_absent=False,
    privacy=[],
)

Change = Callable[[dict[str, Any]], None]


def control(question: str, sign: str, outcome: str) -> dict[str, Any]:
    return {"id": f"c-{sign[:3]}-{question}", "type": "control", "question": question, "sign": sign, "outcome": outcome}


def rate(name: str, n: int) -> list[dict[str, Any]]:
    return [
        {"id": f"c-count-{name}", "type": "count", "evidence": "utility", "group": name, "k": n - 1, "n": n},
        {"id": f"c-cp-{name}", "type": "cp", "from": f"c-count-{name}", "side": "lower", "bound": "0.9000"},
    ]


def predicate() -> dict[str, Any]:
    """A certificate that satisfies POLICY in every point."""
    shared = {"alpha": "1/40", "delta": "0", "planned": True}
    return {
        "certificateId": "urn:uuid:1",
        "issuedAt": "2026-11-20T18:00:00Z",
        "expiresAt": "2027-02-18T18:00:00Z",
        "auditor": {"name": "outside lab", "independence": "external", "keyid": KEYID},
        "scope": {"model": {"name": "model.pt", "digest": {"sha256": MODEL}}},
        "request": {"commitment": {"scheme": "cu-cert-forget/1", "root": ROOT, "size": 50}},
        "unlearning": {"method": "npo", "guarantee": "exact"},
        "plan": {
            "questions": ["procedure", "artifact"],
            "attacks": ["eps-coinflip", "conformal-p", "eps-group"],
            "alphaTotal": "1/20",
            "testedEps": "1/2",
        },
        "evidence": [{"id": "plan", "name": "plan.json"}, {"id": "slots", "name": "evidence/slots.jsonl"}],
        "claims": [
            {"id": "c-model", "type": "model-digest", "digest": {"sha256": MODEL}},
            {"id": "c-eps-procedure", "type": "eps-coinflip", "question": "procedure", **shared, "bound": "0.3000",
             "guesses": 48, "right": 30},
            control("procedure", "positive", "detected"),
            control("procedure", "negative", "sound"),
            {"id": "c-power-procedure", "type": "power", "question": "procedure", "detectEps": "2", "maxEps": "2.5312",
             "reached": True},
            {"id": "c-p-artifact", "type": "conformal-p", "question": "artifact", "p": "60/121"},
            {"id": "c-eps-artifact", "type": "eps-group", "question": "artifact", **shared, "bound": "0.5000",
             "from": "c-p-artifact"},
            control("artifact", "positive", "detected"),
            control("artifact", "negative", "sound"),
            {"id": "c-power-artifact", "type": "power", "question": "artifact", "maxEps": "1.1069", "reached": True},
            *rate("held-out", 360),
            {"id": "c-utility", "type": "utility", "set": "held-out", "accuracyAtLeast": "0.9000",
             "from": "c-cp-held-out"},
            *rate("request", 50),
            {"id": "c-utility-request", "type": "utility", "set": "request", "accuracyAtLeast": "0.9000",
             "from": "c-cp-request"},
            {"id": "c-theorem", "type": "dp-bound", "eps": "1.0000", "delta": "0.00001", "planned": True},
            {"id": "c-absent", "type": "absent", "outcome": "absent", "items": 50},
            {"id": "c-chain", "type": "chain", "outcome": "consistent"},
            {"id": "c-replay", "type": "replay", "outcome": "agreed", "q": "1/20", "alpha": "1/20", "replayed": 59},
            {"id": "m-auc", "type": "metric", "kind": "attack", "name": "AUC", "value": "0.5312"},
        ],
    }  # fmt: skip


USUAL = {"utility": "assumed", "cp": "assumed", "dp-bound": "assumed", "chain": "assumed", "replay": "replayed"} | {
    "metric": "unverified"
}


def checked(
    content: dict[str, Any],
    *,
    stated: str | None = "NOT_REFUTED",
    derived: str = "NOT_REFUTED",
    missing: tuple[str, ...] = (),
    statuses: dict[str, str] | None = None,
) -> CheckResult:
    """What the checker would say of a certificate."""
    claims = []
    for claim in content["claims"]:
        usual = "unverified" if missing else USUAL.get(claim["type"], "proved")
        status: Any = (statuses or {}).get(claim["id"], usual)
        claims.append(ClaimResult(id=claim["id"], type=claim["type"], status=status, detail="a detail"))
    subject = [
        {"name": "model.pt", "digest": {"sha256": MODEL}},
        {"name": "report.html", "digest": {"sha256": REPORT}},
    ]
    return CheckResult(
        statement={"predicateType": PREDICATE_TYPE, "subject": subject, "predicate": content},
        claims=tuple(claims),
        stated=stated,
        derived=derived,
        reasons=("one reason",),
        missing=missing,
    )


def demands(folder: Path, text: str = POLICY, *, swap: tuple[str, str] = ("", ""), extra: str = "") -> Policy:
    """Read a policy; ``swap`` replaces a piece of its text, ``extra`` is put behind it."""
    path = folder / "cu-cert.toml"
    assert swap[0] in text
    path.write_text(text.replace(*swap) + extra if swap[0] else text + extra, encoding="utf-8")
    return replace(load_policy(path), file="cu-cert.toml")


def decide(result: CheckResult, policy: Policy, beside: Beside = BESIDE, **options: Any) -> GateReport:
    return judge(result, policy, now=NOW, keyid=KEYID, payload_sha256=PAYLOAD, beside=beside, **options)


def at(content: dict[str, Any], identifier: str) -> dict[str, Any]:
    return next(claim for claim in content["claims"] if claim["id"] == identifier)


def set_in(path: str, value: object) -> Change:
    """Return a change: ``plan.alphaTotal`` in the certificate, or ``c-id.field`` in a claim."""

    def change(content: dict[str, Any]) -> None:
        first, *rest, last = path.split(".")
        place = at(content, first) if first.startswith(("c-", "m-")) else content[first]
        for key in rest:
            place = place[key]
        place[last] = value

    return change


def drop(identifier: str) -> Change:
    return lambda content: content["claims"].remove(at(content, identifier))


def outcome(report: GateReport, rule: str) -> str:
    return next(finding.outcome for finding in report.findings if finding.rule == rule)


NASTY = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(
            ["\n", "\r", "\x1b[2J", "::error::", "##[error]", "##vso[", "\u2028", "\u202e", "\x85", "\x00", "x", "%0A",
             "|", "<img src=x>", '"', "]]>", "`", "``", "\\", "[a](http://x)", "{0}", "@everyone", "::",
             "--&gt;", "\ud800"]
        ),
        max_size=8,
    ).map("".join),
)  # fmt: skip


def hostile(nasty: str, folder: Path) -> list[GateReport]:
    """Reports on certificates and policies that hold a hostile string wherever somebody may write one."""
    quoted = json.dumps(f"x{nasty}")
    excused = EXCEPTION.format(rule="CU105", expires="2026-12-31")
    try:
        policy = demands(folder, POLICY + excused.replace('"ticket 812"', quoted))
    except (UsageError, UnicodeError):  # TOML spells a few characters otherwise than JSON
        policy = demands(folder, POLICY + excused)
    policy = replace(policy, file=f"p{nasty}.toml")
    content = predicate()
    content["scope"]["model"]["name"] = nasty
    content["auditor"].update(name=nasty, independence=nasty)
    content["unlearning"]["method"] = nasty
    content["plan"]["attacks"] = [nasty]
    at(content, "c-eps-procedure").update(id=nasty, bound="0.9000")
    seen = replace(checked(content, derived="INCONCLUSIVE", missing=(nasty,)), reasons=(nasty, nasty))
    refused = checked(content, statuses={nasty: "rejected"})
    beside = Beside(signers=[(nasty,)], report=nasty, report_absent=False, privacy=[nasty])
    return [decide(seen, policy, beside, file=nasty), decide(refused, policy, beside, file=nasty)]


def one_violation(folder: Path) -> GateReport:
    """One violation (CU101), one that is excused (CU104), one left open (CU205); the rest is ok."""
    content = predicate()
    at(content, "c-eps-procedure")["bound"] = "0.7312"
    set_in("plan.attacks", ["eps-group"])(content)
    drop("c-replay")(content)
    policy = demands(folder, extra=EXCEPTION.format(rule="CU104", expires="2026-12-31"))
    return decide(checked(content), policy, file="certificate.sigstore.json")
