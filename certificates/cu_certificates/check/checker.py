"""Re-derive every claim of a certificate from its payload bytes and evidence files.

No signature is looked at here: the standard library has no public-key cryptography. ``cu-cert verify`` establishes who
signed and then runs exactly this.
"""

import re
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from typing import Final

from .context import Context, Finding, MissingEvidence
from .fields import Node, printed, shown
from .plots import check_plots
from .result import VERDICTS, CheckResult, ClaimResult, Status
from .rules import RULES
from .sharing import check_sharing
from .strict import Rejected, parse

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://cu-cert.example/predicate/unlearning-audit/v1"
REPORT_NAME: Final = "report.html"
DECIDING: Final = (
    "eps-coinflip",
    "eps-sequential",
    "eps-onerun",
    "eps-lower",
    "eps-group",
    "chain",
    "absent",
    "replay",
    "dp-bound",
)
"""The claim types on which a verdict can rest: those that answer a question, and those behind a stated guarantee."""
MAX_CLAIMS: Final = 10_000

_VERSION: Final = re.compile(r"1\.(0|[1-9][0-9]{0,3})")


def check_payload(payload: bytes, evidence: Callable[[str], bytes | None]) -> CheckResult:
    """Examine every claim and derive the verdict.

    Args:
        payload: The statement's bytes.
        evidence: Returns the bytes of an evidence file by its name in the certificate, ``None`` when it is absent.

    Returns:
        A status for each claim; a claim that does not follow is ``rejected``, which callers must refuse.

    Raises:
        Rejected: The document is malformed, or evidence was altered: nothing in it can be relied on.
    """
    statement = Node(parse(payload, "payload"), "statement")
    statement.text("_type", STATEMENT_TYPE)
    statement.text("predicateType", PREDICATE_TYPE)
    predicate = statement.node("predicate")
    if not _VERSION.fullmatch(predicate.text("schemaVersion")):
        raise Rejected(f"predicate.schemaVersion: {predicate.text('schemaVersion')!r}; this checker knows version 1")
    _require_subjects(statement.nodes("subject"), predicate.node("scope").node("model"))

    context = Context(predicate, evidence)
    missing = _missing(context)
    results = [_examine(claim, context) for claim in _claims(predicate)]
    if not any(result.status == "rejected" for result in results):
        check_plots(context)
        check_sharing(context)
    derived, reasons = derive_verdict(context, results, missing)
    stated = _stated(predicate) if predicate.has("verdict") else None
    return CheckResult(
        statement=dict(statement.value),
        claims=tuple(results),
        stated=stated,
        derived=derived,
        reasons=tuple(reasons),
        missing=missing,
    )


def _require_subjects(subjects: list[Node], model: Node) -> None:
    """Demand that the statement speaks of the audited model and its report, and vouches for nothing else."""
    names = [subject.text("name") for subject in subjects]
    if len(set(names)) != len(names) or not set(names) <= {model.text("name"), REPORT_NAME}:
        raise Rejected(f"statement.subject: {names}; expected {model.text('name')!r} and {REPORT_NAME!r}, each once")
    if (model.text("name"), model.digest()) not in {(subject.text("name"), subject.digest()) for subject in subjects}:
        raise Rejected("statement.subject: does not hold the digest of scope.model under its name")


def _stated(predicate: Node) -> str:
    """Return the stated verdict, which must name every bound that decides a question as its basis, and nothing else."""
    verdict = predicate.node("verdict")
    deciding = [claim.text("id") for claim in predicate.nodes("claims") if _decides(claim)]
    if verdict.texts("basis") != deciding:
        raise Rejected(f"{verdict.path}.basis: {verdict.texts('basis')}; the bounds that decide are {deciding}")
    verdict.texts("reasons")
    return verdict.text("value", *VERDICTS)


def _decides(claim: Node) -> bool:
    # A two-pool bound may also stand beside a coin-flip audit; it says itself which of the two it is.
    return claim.text("type") in DECIDING and claim.value.get("planned") is True


def _missing(context: Context) -> tuple[str, ...]:
    absent = []
    for identifier in context.evidence_ids():
        try:
            context.evidence(identifier)
        except MissingEvidence as gap:
            absent.append(gap.name)
    with suppress(MissingEvidence):
        _ = context.subject  # plan and certificate must agree before any claim is looked at
    return tuple(absent)


def _claims(predicate: Node) -> list[Node]:
    claims = predicate.nodes("claims")
    if len(claims) > MAX_CLAIMS:
        raise Rejected(f"predicate.claims: {len(claims)} claims; expected at most {MAX_CLAIMS}")
    return claims


def _examine(claim: Node, context: Context) -> ClaimResult:
    identifier, kind = claim.text("id"), claim.text("type")
    if identifier in context.claims:
        raise Rejected(f"{claim.path}.id: {identifier!r} stands twice")
    context.claims[identifier] = claim
    status: Status
    try:
        if kind not in RULES:
            raise Rejected(f"{claim.path}.type: {kind!r}; this checker knows no rule for it")
        status, detail = RULES[kind](claim, context)
    except MissingEvidence as gap:
        status, detail = "unverified", str(gap)
        context.unseen[identifier] = gap.name
    except Rejected as refusal:
        status, detail = "rejected", str(refusal)
    return ClaimResult(id=identifier, type=kind, status=status, detail=detail)


def derive_verdict(
    context: Context, results: list[ClaimResult], missing: tuple[str, ...] = ()
) -> tuple[str, list[str]]:
    """Apply the rule for the verdict: every planned question must have been looked at, and none may refute.

    No more alpha is spent than planned: a question has one bound at its own share, and the shares fit the total.

    Returns:
        The verdict and its reasons, one line each.
    """
    if missing:
        return "INCONCLUSIVE", [f"evidence file {name} is not at hand" for name in missing]
    rejected = [result.id for result in results if result.status == "rejected"]
    if rejected:
        return "INCONCLUSIVE", [f"claim {name} was rejected" for name in rejected]
    refuting: list[str] = []
    gaps: list[str] = []
    for question in context.questions():
        finding = context.finding(question)
        if finding.negative is False:
            gaps.append(f"{question}: its negative control failed, so it makes no claim")
        elif finding.negative is None:
            gaps.append(f"{question}: its negative control is missing, so it makes no claim")
        elif not finding.split:
            gaps.append(f"{question}: nothing shows that its score was fitted on other models, so it makes no claim")
        elif question == "procedure" and context.plan.text("original") == "fixed":
            gaps.append(
                f"{question}: all its unlearned models started from one original, which is another law than the one "
                "that the guarantee speaks of, so it decides nothing"
            )
        elif finding.bound is not None and finding.bound > context.tested_eps:
            refuting.append(
                f"{question}: eps >= {printed(finding.bound)} exceeds the guarantee under test, "
                f"eps* = {shown(context.tested_eps)}"
            )
        else:
            gaps += _gaps(question, finding, context.tested_eps)
            if not context.design(question).conclusive:
                gaps.append(f"{question}: compares with no retrained model, so it can refute but never clear")
    refuting += context.provenance.contradictions
    if context.subject.text("guarantee") == "exact" and context.plan.has("replay") and not context.provenance.replayed:
        gaps.append("replay: planned, but no steps were run again")
    if refuting:
        return "REFUTED", refuting
    beside = [f"beside it: {gap}" for gap in gaps]
    guarantee = context.subject.text("guarantee")
    if guarantee == "exact" and (steps := _by_provenance(context)):
        return "EXACT_BY_PROVENANCE", steps + beside
    if guarantee == "certified" and context.theorems:
        return "BOUNDED_BY_THEOREM", context.theorems + beside
    if gaps:
        return "INCONCLUSIVE", gaps
    return "NOT_REFUTED", [
        f"{question}: eps >= {printed(context.finding(question).bound or Fraction(0))} does not exceed "
        f"eps* = {shown(context.tested_eps)}; both controls behaved and the planned power is reached"
        + (f", {about}" if (about := context.design(question).about) else "")
        for question in context.questions()
    ]


def _by_provenance(context: Context) -> list[str]:
    """What a verdict of exactness rests on, one line each; empty when a part of it is missing."""
    found = context.provenance
    replay = context.plan.has("replay")
    if not found.chain or not found.wanted <= found.absent or (replay and not found.replayed):
        return []
    lines = [
        "the shards' states form one chain that ends in the audited model",
        "no commitment of the request lies in a manifest of the chain",
    ]
    return [*lines, "the steps drawn for replay agree bit for bit"] if replay else lines


def _gaps(question: str, finding: Finding, tested: Fraction) -> list[str]:
    """Why a question that refutes nothing may not count as looked at."""
    gaps = []
    if finding.bound is None or finding.generous is None:
        gaps.append(f"{question}: planned, but its bound is missing")
    elif finding.generous > tested:
        gaps.append(f"{question}: failed runs could hide a refutation")
    if finding.positive is None:
        gaps.append(f"{question}: its positive control is missing")
    elif not finding.positive:
        gaps.append(f"{question}: its positive control was not detected, so it has no power here")
    if not finding.powered:
        gaps.append(f"{question}: its size does not reach the planned power")
    return gaps
