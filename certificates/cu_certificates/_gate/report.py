"""What the gate decided, with every fact behind it; each output format writes this and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cu_certificates._gate.case import Finding
from cu_certificates._policy_types import RULES, Policy, PolicyException

DECISIONS: Final = {
    0: "policy satisfied",
    1: "policy violated",
    2: "nothing was judged",
    3: "inconclusive",
    4: "untrusted",
}
NOTHING_JUDGED: Final = 2

_PRECEDENCE: Final = (4, 1, 3)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was judged, once it was known to be trusted.

    Args:
        certificate: Id of the certificate.
        payload_sha256: Digest of the signed bytes.
        keyid: The keys that signed, separated by spaces.
        model: Name of the audited model.
        model_sha256: Digest of the audited model.
        root: Root of the forget commitment that it speaks of.
        verdict: The verdict that follows from the claims and the evidence at hand.
        rederived: How many claims were re-derived.
        claims: How many claims there are to re-derive; descriptive metrics are not counted.
    """

    certificate: str
    payload_sha256: str
    keyid: str
    model: str
    model_sha256: str
    root: str
    verdict: str
    rederived: int
    claims: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """The gate's decision and every fact behind it.

    Args:
        files: The certificate files, as the caller gave them.
        policy: The demands; ``None`` when they could not be read.
        policy_file: Name of the policy file, as the caller gave it.
        now: Time of the judgement, in UTC.
        findings: One finding for each rule that was judged, for each certificate.
        judged: What was judged, for each file; ``None`` where it is not trusted.
        error: Why nothing was judged; empty when something was.
        model_sha256: Digest of the model about to be used; empty when nobody named one.
    """

    files: tuple[str, ...]
    policy: Policy | None
    policy_file: str
    now: datetime
    findings: tuple[Finding, ...] = ()
    judged: tuple[Judged | None, ...] = ()
    error: str = ""
    model_sha256: str = ""

    @property
    def exit_code(self) -> int:
        """The exit code: 2 when nothing was judged, else the first of 4, 1 and 3 that a finding calls for, else 0."""
        if self.error:
            return NOTHING_JUDGED
        codes = {finding.exit_code for finding in self.findings}
        return next((code for code in _PRECEDENCE if code in codes), 0)

    @property
    def decision(self) -> str:
        """The decision in words."""
        return DECISIONS[self.exit_code]

    @property
    def exceptions(self) -> Sequence[PolicyException]:
        """The exceptions of the policy."""
        return self.policy.exceptions if self.policy else ()

    @property
    def not_demanded(self) -> tuple[str, ...]:
        """Rules that the policy does not demand; empty when no certificate was judged."""
        seen = {finding.rule for finding in self.findings}
        return tuple(rule for rule in RULES if rule not in seen) if any(self.judged) else ()

    @property
    def worst_first(self) -> list[Finding]:
        """The findings in the order in which a person should read them."""
        order = {"untrusted": 0, "violated": 1, "inconclusive": 2, "ok": 4}
        return sorted(self.findings, key=lambda finding: 3 if finding.excused else order[finding.outcome])

    @property
    def blocking(self) -> list[Finding]:
        """The findings that decide against going on, the worst first."""
        return [finding for finding in self.worst_first if finding.exit_code]

    def about(self, finding: Finding) -> Judged | None:
        """Return what a finding is about: its certificate, or the only one there is."""
        place = finding.certificate
        if place is None:
            return self.judged[0] if len(self.judged) == 1 else None
        return self.judged[place]

    def counts(self) -> dict[str, int]:
        """Return how many findings there are of each kind that a reader should know of."""
        blocking = [finding.outcome for finding in self.findings if finding.excused is None]
        return {
            "violations": blocking.count("violated"),
            "inconclusive": blocking.count("inconclusive"),
            "untrusted": blocking.count("untrusted"),
            "warnings": sum(finding.excused == "warn" for finding in self.findings),
            "excused": sum(finding.excused == "exception" for finding in self.findings),
        }


def label(finding: Finding) -> str:
    """Return the outcome of a finding in one word of a fixed list."""
    match finding.excused, finding.outcome:
        case "warn", _:
            return "WARN"
        case "exception", _:
            return "EXCUSED"
        case _, "ok":
            return "ok"
        case _, "inconclusive":
            return "INCONCLUSIVE"
        case _:
            return "FAIL"
