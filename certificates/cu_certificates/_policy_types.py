"""What a policy says, as records: the limits, the exceptions and the demands, each checked on construction."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Final

from cu_certificates.errors import PolicyError

RULES: Final[Mapping[str, str]] = {
    "CU001": "signature, trust, subject and claims",
    "CU002": "evidence at hand",
    "CU003": "signatures by role",
    "CU004": "time stamp",
    "CU101": "eps lower bound",
    "CU102": "verdict",
    "CU103": "power",
    "CU104": "demanded attacks",
    "CU105": "utility",
    "CU106": "error level alpha",
    "CU107": "power of the attacks panel",
    "CU108": "utility drop",
    "CU109": "planned tests",
    "CU110": "bound by theorem",
    "CU201": "unlearning method",
    "CU202": "independence of the auditor",
    "CU203": "type of the statement",
    "CU204": "absence from the training data",
    "CU205": "replayed steps",
    "CU301": "coverage of the requests",
    "CU401": "age",
    "CU402": "exceptions",
    "CU501": "signed report",
    "CU502": "privacy lint",
}
"""The rules of the gate by their stable ids; each has a page ``docs/rules/<id>.md``."""

NEVER_EXCEPTED: Final = ("CU001", "CU002", "CU003", "CU004", "CU402")
"""No exception covers these: trust, missing evidence, and an exception that ran out."""

ACCEPTABLE: Final = ("NOT_REFUTED", "EXACT_BY_PROVENANCE", "BOUNDED_BY_THEOREM")
"""The verdicts that a policy may accept; the other two have a meaning that a list cannot change."""

INDEPENDENCE: Final = ("internal", "external")
ON_INCONCLUSIVE: Final = ("fail", "warn")
ROLES: Final = ("auditor", "controller")
"""Whose signatures over a certificate a policy may demand; a gate's key signs no certificate."""

_NUMBER: Final = re.compile(r"([0-9]{1,12})(?:/([0-9]{1,12})|(?:\.[0-9]{1,18})?(?:[eE]-[0-9]{1,2})?)", re.ASCII)


@dataclass(frozen=True)
class Number:
    """A number as it was printed, and its exact value, so that a message and a decision cannot disagree.

    Args:
        text: A decimal or fraction such as ``0.50``, ``1e-5`` or ``1/20``.

    Raises:
        ValueError: ``text`` is written in another way.
    """

    text: str
    value: Fraction = field(init=False, repr=False)

    def __post_init__(self) -> None:
        match = _NUMBER.fullmatch(self.text)
        if match is None or (match[2] and not int(match[2])):
            raise ValueError(f"{self.text[:40]!r} is not a decimal or fraction such as '0.50', '1e-5' or '1/20'")
        object.__setattr__(self, "value", Fraction(self.text))


@dataclass(frozen=True, kw_only=True)
class EpsLimit:
    """How much leakage may have been measured.

    Args:
        value: The largest printed lower bound on eps that is allowed.
        delta: The delta at which eps is meant.
        alpha: The largest total error level with which the bounds may have been measured.
    """

    value: Number
    delta: Number
    alpha: Number


@dataclass(frozen=True, kw_only=True)
class TheoremLimit:
    """How large the upper bound on eps may be that a theorem gives.

    Args:
        value: The largest printed upper bound that is allowed.
        delta: The largest delta at which it may hold.
    """

    value: Number
    delta: Number


@dataclass(frozen=True, kw_only=True)
class PowerDemand:
    """What the attacks on single records must have been able to see.

    Args:
        tpr: True positive rate of the leak that must have been visible.
        at_fpr: False positive rate at which it is meant.
        prob: The chance with which a leak of that size must have been flagged.
        alpha: Error level at which a leak is flagged.
    """

    tpr: Number
    at_fpr: Number
    prob: Number
    alpha: Number


@dataclass(frozen=True, kw_only=True)
class ReplayDemand:
    """How much of the training must have been run again.

    Args:
        wrong_max: The largest share of wrong steps that may have stayed unseen.
        alpha: The largest chance with which a larger share may have stayed unseen.
    """

    wrong_max: Number
    alpha: Number


@dataclass(frozen=True, kw_only=True)
class UtilityLimit:
    """How useful the model must be.

    Args:
        set: Name of the set of records, as in the certificate.
        accuracy: The smallest lower bound on the accuracy that is allowed.
    """

    set: str
    accuracy: Number


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One closed batch of requests that must be covered.

    Args:
        root: Root of its forget commitment, 64 hexadecimal digits.
        source: Where the root was read: a file, or the policy itself.
    """

    root: str
    source: str


@dataclass(frozen=True, kw_only=True)
class PolicyException:
    """A rule that a named person excused until a date.

    Args:
        rule: Id of the rule.
        reason: Why.
        approved_by: Who answers for it.
        expires: Last day (UTC) on which it holds; from the next day on it is a violation itself.
        line: Where it stands in the policy file.
    """

    rule: str
    reason: str
    approved_by: str
    expires: date
    line: int

    def expired(self, now: datetime) -> bool:
        """Whether its last day is over at ``now`` (an aware time)."""
        return now.astimezone(UTC).date() > self.expires


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What a reader demands. A field that is ``None``, ``False`` or empty is not demanded.

    Args:
        file: Name of the policy file, as the caller gave it.
        sha256: Digest of the file's bytes.
        verdict: The verdicts that are accepted.
        predicate: The predicate type that the statement must have.
        eps_lower_max: Limit on the measured lower bounds on eps.
        theorem_eps_max: Limit on the upper bound on eps that a theorem gives.
        detect_eps_max: The leak, as an eps, that the audit must have been able to see with probability 0.8.
        power: What the attacks on single records must have been able to see.
        attacks: Tests that must have been planned and carried out.
        planned_tests: Whether every planned test must have an answer, whatever else the verdict rests on.
        utility_min: Limit on a lower bound on accuracy.
        utility_drop_max: The largest loss of held-out accuracy against the model before.
        method: The unlearning methods that are allowed.
        independence: ``external`` refuses an internal auditor; ``internal`` accepts both.
        absent_all: Whether every committed record must be shown absent from the training data.
        replay: How much of the training must have been run again.
        forget_roots: The batches of requests that must be covered.
        signatures: How many different keys of each role must have signed the same bytes.
        timestamp: Whether a trusted time stamp must stand beside the certificate.
        max_age: How old the certificate may be.
        report: Whether the signed report must be there, unaltered.
        privacy_lint: Whether certificate and report must be clean of what looks like personal data.
        on_inconclusive: ``fail`` blocks when the evidence does not suffice, ``warn`` reports it only.
        trust: The trust file that the policy names.
        exceptions: The excused rules.
        lines: Line of each key of ``[policy.require]`` in the file.
    """

    file: str
    sha256: str
    verdict: tuple[str, ...] = ACCEPTABLE
    predicate: str | None = None
    eps_lower_max: EpsLimit | None = None
    theorem_eps_max: TheoremLimit | None = None
    detect_eps_max: Number | None = None
    power: PowerDemand | None = None
    attacks: tuple[str, ...] = ()
    planned_tests: bool = False
    utility_min: UtilityLimit | None = None
    utility_drop_max: Number | None = None
    method: tuple[str, ...] = ()
    independence: str | None = None
    absent_all: bool = False
    replay: ReplayDemand | None = None
    forget_roots: tuple[Batch, ...] = ()
    signatures: Mapping[str, int] = field(default_factory=dict)
    timestamp: bool = False
    max_age: timedelta | None = None
    report: bool = False
    privacy_lint: bool = False
    on_inconclusive: str = "fail"
    trust: Path | None = None
    exceptions: tuple[PolicyException, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.verdict or not set(self.verdict) <= set(ACCEPTABLE):
            raise PolicyError(f"{self.file}: verdict {list(self.verdict)}; expected some of {', '.join(ACCEPTABLE)}")
        if not set(self.signatures) <= set(ROLES):
            raise PolicyError(f"{self.file}: signatures {sorted(self.signatures)}; expected some of {', '.join(ROLES)}")
        for excused in self.exceptions:
            if excused.rule not in RULES or excused.rule in NEVER_EXCEPTED:
                raise PolicyError(f"{self.file}:{excused.line}: no exception can be made for rule {excused.rule!r}")
