"""The rules of the gate on evidence, method and freshness, and the table of all rules that look at one certificate.

A rule returns ``None`` when the policy does not demand it.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from cu_certificates._gate.beside import BESIDE
from cu_certificates._gate.bounds import BOUNDS
from cu_certificates._gate.case import Case, Fact, Finding, some
from cu_certificates._gate.provenance import PROVENANCE
from cu_certificates._gate.statistics import STATISTICS
from cu_certificates.check.fields import Node
from cu_certificates.check.strict import Rejected
from cu_certificates.policy import Policy

CLOCK_SKEW: Final = timedelta(days=1)
_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


def evidence_at_hand(case: Case) -> Finding:
    """CU002: the files that the claims rest on are there."""
    listed, missing = len(case.predicate.nodes("evidence")), case.result.missing
    return Finding(
        rule="CU002",
        outcome="inconclusive" if missing else "ok",
        title="evidence files are missing" if missing else "evidence at hand",
        found=some([Fact(f"{name} is not at hand") for name in missing]) or (Fact(f"{listed} evidence files"),),
        allowed="every evidence file that the certificate lists",
        means="without them claims rest on the signer's word alone; neither a warning nor an exception covers that",
        next_step="give the folder that holds the evidence with --evidence",
    )


def method(case: Case) -> Finding | None:
    """CU201: the unlearning method is one that the policy allows."""
    allowed = case.policy.method
    if not allowed:
        return None
    unlearning = case.predicate.node("unlearning")
    name = None if unlearning.value.get("method") is None else unlearning.text("method")
    good = name in allowed
    return Finding(
        rule="CU201",
        outcome="ok" if good else "violated",
        title="unlearning method allowed" if good else "unlearning method not allowed",
        found=(Fact(f"method {name}" if name else "the method is not stated"),),
        allowed=f"method = {', '.join(allowed)}",
        where=case.where("method"),
        means="the policy does not trust this method for this model",
        next_step="unlearn with an allowed method, then audit anew",
    )


def independence(case: Case) -> Finding | None:
    """CU202: the auditor is as independent as the policy asks."""
    demanded = case.policy.independence
    if demanded is None:
        return None
    auditor = case.predicate.node("auditor")
    stated = auditor.text("independence")
    good = stated == "external" or (demanded == "internal" and stated == "internal")
    return Finding(
        rule="CU202",
        outcome="ok" if good else "violated",
        title="auditor independent enough" if good else "auditor not independent enough",
        found=(Fact(f"auditor {auditor.text('name')}, independence {stated} (the signer's own word)"),),
        allowed=f"independence = {demanded}",
        where=case.where("independence"),
        means="the one who unlearned also judged the result",
        next_step="have the audit made and signed by an outside auditor whose key is in the trust file",
    )


def predicate_type(case: Case) -> Finding | None:
    """CU203: the statement is of the type that the policy names."""
    demanded = case.policy.predicate
    if demanded is None:
        return None
    found = Node(case.result.statement, "statement").text("predicateType")
    return Finding(
        rule="CU203",
        outcome="ok" if found == demanded else "violated",
        title="type of the statement accepted" if found == demanded else "another type of statement",
        found=(Fact(f"predicateType {found}"),),
        allowed=f"predicate = {demanded}",
        where=case.where("predicate"),
        means="the statement may speak of something else than the policy is about",
        next_step="give a certificate of the demanded type, or correct the policy",
    )


def age(case: Case) -> Finding:
    """CU401: the certificate is neither expired nor too old nor from the future."""
    issued, expires = _time(case.predicate, "issuedAt"), _time(case.predicate, "expiresAt")
    oldest, now = case.policy.max_age, case.now.astimezone(UTC)
    wrong = ""
    if now >= expires:
        wrong = "certificate expired"
    elif issued > now + CLOCK_SKEW:
        wrong = "certificate issued in the future"
    elif oldest is not None and now - issued > oldest:
        wrong = "certificate too old"
    allowed = "now between issuedAt and expiresAt"
    if oldest is not None:
        allowed += f", max_age = {oldest.days}d"
    return Finding(
        rule="CU401",
        outcome="violated" if wrong else "ok",
        title=wrong or "certificate current",
        found=(Fact(f"issued {issued:{_FORMAT}}, expires {expires:{_FORMAT}}, now {now:{_FORMAT}}"),),
        allowed=allowed,
        where=case.where("max_age"),
        means="attacks get better and copies come back: an old audit says little about today",
        next_step="audit the model anew",
    )


def _time(node: Node, key: str) -> datetime:
    stated = node.text(key)
    try:
        return datetime.strptime(stated, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        raise Rejected(f"{node.path}.{key}: {stated[:40]!r}; expected a time such as '2026-11-20T18:00:00Z'") from None


def expired_exceptions(policy: Policy, now: datetime) -> Finding | None:
    """CU402: no exception of the policy ran out."""
    if not policy.exceptions:
        return None
    over = [excused for excused in policy.exceptions if excused.expired(now)]
    return Finding(
        rule="CU402",
        outcome="violated" if over else "ok",
        title="an exception ran out" if over else "exceptions current",
        found=some([Fact(f"{excused.rule} until {excused.expires}") for excused in over or policy.exceptions]),
        allowed="exceptions only until the day that they name",
        where=f"{policy.file}:{(over or policy.exceptions)[0].line}",
        means="what was excused for a time must be settled now",
        next_step="settle the matter and delete the exception, or have a new date approved",
    )


JUDGES: Final[Mapping[str, Callable[[Case], Finding | None]]] = dict(
    sorted(
        {
            "CU002": evidence_at_hand,
            **STATISTICS,
            **BOUNDS,
            "CU201": method,
            "CU202": independence,
            "CU203": predicate_type,
            **PROVENANCE,
            "CU401": age,
            **BESIDE,
        }.items()
    )
)
"""Every rule that looks at one accepted certificate, in the order of the report. CU001 is the gate's own; CU301 and
CU402 look at all certificates together."""
