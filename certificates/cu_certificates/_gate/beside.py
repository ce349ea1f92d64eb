"""The rules of the gate on what stands beside the claims: signatures, time stamp, report, personal data."""

from collections.abc import Callable, Mapping
from typing import Final

from cu_certificates._gate.case import Case, Fact, Finding, Outcome, some
from cu_certificates._trusted import Threshold


def signatures(case: Case) -> Finding | None:
    """CU003: as many different keys of each role signed the same bytes as the policy asks for."""
    demanded = case.policy.signatures
    if not demanded:
        return None
    signers = case.beside.signers
    enough = Threshold(auditor=demanded.get("auditor", 1), controller=demanded.get("controller", 0)).met_by(
        list(signers)
    )
    return Finding(
        rule="CU003",
        outcome="ok" if enough else "untrusted",
        title="signed by every demanded role" if enough else "signatures are missing",
        found=some([Fact(f"a signature by a key with the roles {', '.join(roles)}") for roles in signers])
        or (Fact("no signature was looked at"),),
        allowed="signatures = " + ", ".join(f"{role} {number}" for role, number in demanded.items()),
        where=case.where("signatures"),
        means="nobody in the missing role answers for this certificate",
        next_step="have it countersigned (`cu-cert countersign`) by a key that the trust file lists with that role",
    )


def stamp(case: Case) -> Finding | None:
    """CU004: an authority that the trust file names confirms when the certificate existed."""
    if not case.policy.timestamp:
        return None
    stamped = case.beside.stamped
    return Finding(
        rule="CU004",
        outcome="untrusted" if stamped is None else "ok",
        title="no trusted time stamp" if stamped is None else "time stamp accepted",
        found=(Fact(stamped or "no time stamp was accepted"),),
        allowed="timestamp = true",
        where=case.where("timestamp"),
        means="when it was signed rests on the signer's word alone",
        next_step="ask the auditor for certificate.tsr, and name its authority in the trust file ([time] tsa_roots)",
    )


def report(case: Case) -> Finding | None:
    """CU501: the page that a person reads is there and is the one that was signed."""
    if not case.policy.report:
        return None
    problem, absent = case.beside.report, case.beside.report_absent
    outcome: Outcome = "ok" if not problem else "inconclusive" if absent else "violated"
    return Finding(
        rule="CU501",
        outcome=outcome,
        title={"ok": "signed report at hand", "inconclusive": "no report"}.get(outcome, "another report"),
        found=(Fact(problem or "report.html is the page that was signed"),),
        allowed="report = true",
        where=case.where("report"),
        means="what people read is not what was signed" if not absent else "nobody can read what was signed",
        next_step="put the auditor's report.html beside the certificate, or write it again with `cu-cert report`",
    )


def privacy(case: Case) -> Finding | None:
    """CU502: nothing in certificate and report looks like personal data."""
    if not case.policy.privacy_lint:
        return None
    hits = case.beside.privacy
    outcome: Outcome = "inconclusive" if hits is None else "violated" if hits else "ok"
    found = [Fact(hit) for hit in hits or ()]
    told = "nobody looked" if hits is None else "no e-mail address, number, path or host name found"
    return Finding(
        rule="CU502",
        outcome=outcome,
        title="looks like personal data" if hits else "privacy lint clean" if hits == [] else "privacy not looked at",
        found=some(found) or (Fact(told),),
        allowed="privacy_lint = true",
        where=case.where("privacy_lint"),
        means="a document that is handed on may name a person",
        next_step="have the certificate issued again without it; `cu-cert lint privacy` shows each place",
    )


BESIDE: Final[Mapping[str, Callable[[Case], Finding | None]]] = {
    "CU003": signatures,
    "CU004": stamp,
    "CU501": report,
    "CU502": privacy,
}
"""The rules on what stands beside the claims, by their ids."""
