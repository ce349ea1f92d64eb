"""What the rules of the gate read and write: the case before them, the facts they state, the finding they reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Final, Literal

from cu_certificates.check.fields import Node
from cu_certificates.check.result import CheckResult
from cu_certificates.policy import NEVER_EXCEPTED, Policy, PolicyException

Outcome = Literal["ok", "violated", "inconclusive", "untrusted"]

SUPPORTED: Final = ("proved", "replayed", "assumed")
"""Statuses of a claim that follows from evidence at hand."""

MAX_FACTS: Final = 6
MAX_LENGTH: Final = 600


def clean(text: str) -> str:
    """Make a string from outside fit for a terminal and a CI log.

    Control, formatting and line-breaking characters become U+FFFD, so that no string can start a line of its own or
    move the cursor; ``##`` is taken apart, because some CI runners obey ``##[command]`` anywhere in a line.
    """
    shown = "".join(character if character.isprintable() else "\ufffd" for character in text[:MAX_LENGTH])
    while "##" in shown:
        shown = shown.replace("##", "# #")
    return shown + ("…" if len(text) > MAX_LENGTH else "")


@dataclass(frozen=True)
class Fact:
    """One thing that was found.

    Args:
        text: One line.
        claim: Id of the claim that says it.
        status: The claim's status according to the checker.
    """

    text: str
    claim: str | None = None
    status: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", clean(self.text))
        object.__setattr__(self, "claim", None if self.claim is None else clean(self.claim))


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one rule.

    Args:
        rule: Id of the rule.
        outcome: What was found, before any exception.
        title: The outcome in a few words.
        found: What the certificate says.
        allowed: What the policy demands.
        where: File and line of the demand.
        means: What follows for the reader.
        next_step: What to do.
        final: Whether no exception can cover it.
        excused: ``exception`` or ``warn`` when it does not block.
        exception: The exception that covers it.
        certificate: Number of the certificate that it is about, from 0; ``None`` when it is about all or none of them.
    """

    rule: str
    outcome: Outcome
    title: str
    found: tuple[Fact, ...]
    allowed: str
    where: str = ""
    means: str = ""
    next_step: str = ""
    final: bool = False
    excused: Literal["exception", "warn"] | None = None
    exception: PolicyException | None = None
    certificate: int | None = None

    def __post_init__(self) -> None:
        for name in ("allowed", "where", "means", "next_step"):
            object.__setattr__(self, name, clean(getattr(self, name)))

    @property
    def exit_code(self) -> int:
        """What the gate must return for this finding alone."""
        return 0 if self.excused else {"ok": 0, "violated": 1, "inconclusive": 3, "untrusted": 4}[self.outcome]

    @property
    def line(self) -> int | None:
        """The line of the demand in the policy file; ``None`` for a demand that nobody wrote."""
        number = self.where.rpartition(":")[2]
        return int(number) if number.isascii() and number.isdigit() else None


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What is known of a certificate beside its claims; only what the policy demands is looked at.

    Args:
        signers: The roles of each trusted key that signed its bytes.
        stamped: The time that a trusted authority confirmed, in words.
        report: Why the signed report is not there as it was signed; empty when it is.
        report_absent: Whether there is no report at all.
        privacy: Places that look like personal data, one line each; ``None`` when nobody looked.
    """

    signers: Sequence[tuple[str, ...]] = ()
    stamped: str | None = None
    report: str = "nobody looked for it"
    report_absent: bool = True
    privacy: Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a rule may look at.

    Args:
        result: The checker's result for a certificate whose signature is trusted.
        policy: The reader's demands.
        now: The time of the judgement, aware.
        beside: What is known beside the claims.
    """

    result: CheckResult
    policy: Policy
    now: datetime
    beside: Beside = field(default_factory=Beside)

    @cached_property
    def predicate(self) -> Node:
        """The certificate itself."""
        return Node(self.result.statement, "statement").node("predicate")

    @cached_property
    def plan(self) -> Node:
        """What the certificate says of its plan."""
        return self.predicate.node("plan")

    @cached_property
    def claims(self) -> list[Node]:
        """Every claim, in the certificate's order."""
        return self.predicate.nodes("claims")

    @cached_property
    def statuses(self) -> Mapping[str, str]:
        """The checker's status of each claim, by id."""
        return {claim.id: claim.status for claim in self.result.claims}

    def status(self, claim: Node) -> str:
        """Return the checker's status of a claim; a claim that it did not report supports nothing."""
        return self.statuses.get(claim.text("id"), "unverified")

    def of(self, kind: str, question: str | None = None, **fields: str) -> list[Node]:
        """Return the claims of a type, for a question and with the given fields when these are stated."""
        wanted = fields if question is None else {**fields, "question": question}
        return [
            claim
            for claim in self.claims
            if claim.text("type") == kind and all(claim.value.get(key) == value for key, value in wanted.items())
        ]

    def fact(self, text: str, claim: Node) -> Fact:
        """Return a fact that a claim states."""
        return Fact(text, claim.text("id"), self.status(claim))

    def where(self, key: str) -> str:
        """Return file and line of a key of ``[policy.require]``."""
        line = self.policy.lines.get(key)
        return f"{self.policy.file}:{line}" if line else "default of cu-cert"

    @cached_property
    def questions(self) -> list[str]:
        """The planned questions."""
        return self.plan.texts("questions")

    def voided(self, question: str) -> bool:
        """Whether the question's negative control failed: then it makes no claim, for or against."""
        return any(claim.value.get("outcome") == "failed" for claim in self.of("control", question, sign="negative"))


def some(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """Return the facts to print: all of a few, the first of many and how many were left out."""
    if len(facts) <= MAX_FACTS:
        return tuple(facts)
    return (*facts[: MAX_FACTS - 1], Fact(f"and {len(facts) - MAX_FACTS + 1} more"))


def excuse(finding: Finding, policy: Policy, now: datetime) -> Finding:
    """Apply the policy's exceptions and its ``on_inconclusive`` to a finding."""
    if finding.outcome not in ("violated", "inconclusive") or finding.rule in NEVER_EXCEPTED or finding.final:
        return finding
    for exception in policy.exceptions:
        if exception.rule == finding.rule and not exception.expired(now):
            return replace(finding, excused="exception", exception=exception)
    if finding.outcome == "inconclusive" and policy.on_inconclusive == "warn":
        return replace(finding, excused="warn")
    return finding


def three_ways(
    case: Case,
    rule: str,
    key: str,
    allowed: str,
    *,
    violated: Sequence[Fact] = (),
    gaps: Sequence[Fact],
    kept: Sequence[Fact],
    titles: tuple[str, str, str],
    means: tuple[str, str],
    steps: tuple[str, str],
) -> Finding:
    """Return violated, else inconclusive, else ok.

    Args:
        case: What is judged.
        rule: Id of the rule.
        key: The key of ``[policy.require]`` that demands it.
        allowed: What it demands.
        violated: Facts against it.
        gaps: Facts that leave it open.
        kept: Facts in its favour.
        titles: Title when violated, inconclusive, ok.
        means: Meaning when violated, inconclusive.
        steps: Next step when violated, inconclusive.
    """
    outcome: Outcome = "violated" if violated else "inconclusive" if gaps else "ok"
    at = {"violated": 0, "inconclusive": 1}.get(outcome, 2)
    return Finding(
        rule=rule,
        outcome=outcome,
        title=titles[at],
        found=some((violated, gaps, kept)[at]),
        allowed=allowed,
        where=case.where(key),
        means=means[at] if at < 2 else "",
        next_step=steps[at] if at < 2 else "",
    )
