"""The policy: what a reader demands of a certificate, as a person can write and review it.

A policy is the ``[policy]`` table of ``cu-cert.toml`` or of a file of its own. It is read strictly: an unknown key, an
unknown rule or a value of the wrong type stops the gate before anything is judged, because a misspelt demand that is
ignored is a demand that nobody makes.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from cu_certificates._files import read_bytes
from cu_certificates._toml import Table, key_lines, nearest
from cu_certificates.check.checker import PREDICATE_TYPE
from cu_certificates.errors import PolicyError

RULES: Final[Mapping[str, str]] = {
    "CU001": "signature, trust, subject and claims",
    "CU002": "evidence at hand",
    "CU101": "eps lower bound",
    "CU102": "verdict",
    "CU103": "power",
    "CU104": "demanded attacks",
    "CU105": "utility",
    "CU106": "error level alpha",
    "CU201": "unlearning method",
    "CU202": "independence of the auditor",
    "CU203": "type of the statement",
    "CU301": "coverage of the request",
    "CU401": "age",
    "CU402": "exceptions",
}
"""The rules of the gate by their stable ids; each has a page ``docs/rules/<id>.md``."""

NEVER_EXCEPTED: Final = ("CU001", "CU002", "CU402")
"""No exception covers these: trust, missing evidence, and an exception that ran out."""

ACCEPTABLE: Final = ("NOT_REFUTED", "EXACT_BY_PROVENANCE", "BOUNDED_BY_THEOREM")
"""The verdicts that a policy may accept; the other two have a meaning that a list cannot change."""

INDEPENDENCE: Final = ("internal", "external")
ON_INCONCLUSIVE: Final = ("fail", "warn")
MAX_BYTES: Final = 1 << 20

_T = TypeVar("_T")
_U = TypeVar("_U")

_TABLES: Final = ("schema", "data", "training", "unlearning", "audit", "signing", "policy")
_REQUIRE: Final = (
    "verdict",
    "predicate",
    "eps_lower_max",
    "detect_eps_max",
    "attacks",
    "utility_min",
    "method",
    "independence",
    "forget_root",
    "max_age",
    "on_inconclusive",
)
_NUMBER: Final = re.compile(r"([0-9]{1,12})(?:/([0-9]{1,12})|(?:\.[0-9]{1,18})?(?:[eE]-[0-9]{1,2})?)", re.ASCII)
_AGE: Final = re.compile(r"([1-9][0-9]{0,4})d", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


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
class UtilityLimit:
    """How useful the model must be.

    Args:
        set: Name of the set of records, as in the certificate.
        accuracy: The smallest lower bound on the accuracy that is allowed.
    """

    set: str
    accuracy: Number


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
    """What a reader demands. A field that is ``None`` or empty is not demanded.

    Args:
        file: Name of the policy file, as the caller gave it.
        sha256: Digest of the file's bytes.
        verdict: The verdicts that are accepted.
        predicate: The predicate type that the statement must have.
        eps_lower_max: Limit on the measured lower bounds on eps.
        detect_eps_max: The leak, as an eps, that the audit must have been able to see with probability 0.8.
        attacks: Tests that must have been planned and carried out.
        utility_min: Limit on a lower bound on accuracy.
        method: The unlearning methods that are allowed.
        independence: ``external`` refuses an internal auditor; ``internal`` accepts both.
        forget_root: Root of the forget commitment that the certificate must cover.
        max_age: How old the certificate may be.
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
    detect_eps_max: Number | None = None
    attacks: tuple[str, ...] = ()
    utility_min: UtilityLimit | None = None
    method: tuple[str, ...] = ()
    independence: str | None = None
    forget_root: str | None = None
    max_age: timedelta | None = None
    on_inconclusive: str = "fail"
    trust: Path | None = None
    exceptions: tuple[PolicyException, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.verdict or not set(self.verdict) <= set(ACCEPTABLE):
            raise PolicyError(f"{self.file}: verdict {list(self.verdict)}; expected some of {', '.join(ACCEPTABLE)}")
        for excused in self.exceptions:
            if excused.rule not in RULES or excused.rule in NEVER_EXCEPTED:
                raise PolicyError(f"{self.file}:{excused.line}: no exception can be made for rule {excused.rule!r}")


def load_policy(path: Path) -> Policy:
    """Read the policy of a ``cu-cert.toml`` or of a file of its own; without a ``[policy]`` table, the defaults.

    Args:
        path: The file. Paths inside it are relative to its folder.

    Raises:
        MissingFileError: The file cannot be read.
        UsageError: It is far too large for a policy.
        PolicyError: The file does not say what a policy must; the message gives file, line and the nearest valid key.
    """
    data = read_bytes(path, what="policy", max_bytes=MAX_BYTES)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{path}: not TOML: {error}; quote strings and check the brackets there") from None
    except RecursionError:
        raise PolicyError(f"{path}: nested too deeply; expected the tables of a cu-cert.toml") from None
    top = Table(path, key_lines(text), (), values)
    top.only(_TABLES)
    schema = top.values.get("schema")
    if type(schema) is not int or schema != 1:
        found = "no schema" if schema is None else f"schema = {schema!r}"
        raise PolicyError(f"{path}:{top.line('schema')}: {found}; expected the line schema = 1 at the top")
    return _policy(top, sha256(data).hexdigest())


def _policy(top: Table, digest: str) -> Policy:
    policy = top.table("policy")
    policy.only(("require", "trust", "exception"))
    require = policy.table("require")
    require.only(_REQUIRE)

    def demanded(key: str, read: Callable[[Table, str], _T], otherwise: _U) -> _T | _U:
        return read(require, key) if require.has(key) else otherwise

    return Policy(
        file=str(top.file),
        sha256=digest,
        verdict=demanded("verdict", _verdicts, ACCEPTABLE),
        predicate=demanded("predicate", Table.text, None),
        eps_lower_max=demanded("eps_lower_max", _eps_limit, None),
        detect_eps_max=demanded("detect_eps_max", _number, None),
        attacks=demanded("attacks", Table.texts, ()),
        utility_min=demanded("utility_min", _utility_limit, None),
        method=demanded("method", Table.texts, ()),
        independence=demanded("independence", lambda table, key: table.text(key, INDEPENDENCE), None),
        forget_root=demanded("forget_root", _forget_root, None),
        max_age=demanded("max_age", _max_age, None),
        on_inconclusive=demanded("on_inconclusive", lambda table, key: table.text(key, ON_INCONCLUSIVE), "fail"),
        trust=_trust(policy.table("trust")) if policy.has("trust") else None,
        exceptions=tuple(_exception(table) for table in policy.tables("exception")),
        lines={key: require.line(key) for key in require.values},
    )


def _number(table: Table, key: str) -> Number:
    value = table.get(key)
    if isinstance(value, str):
        with suppress(ValueError):
            return Number(value)
    raise table.wrong(key, 'a decimal or fraction in quotation marks, such as "0.50", "1e-5" or "1/20"')


def _rate(table: Table, key: str) -> Number:
    number = _number(table, key)
    if number.value > 1:
        raise table.wrong(key, "at most 1")
    return number


def _verdicts(require: Table, key: str) -> tuple[str, ...]:
    chosen = require.texts(key)
    for verdict in chosen:
        if verdict == "REFUTED":
            raise require.wrong(key, "no REFUTED: the gate refuses a refuted claim whatever the list says")
        if verdict == "INCONCLUSIVE":
            raise require.wrong(key, 'no INCONCLUSIVE: write on_inconclusive = "warn" to let it through')
        if verdict not in ACCEPTABLE:
            raise require.wrong(key, nearest(verdict, ACCEPTABLE))
    return chosen


def _eps_limit(require: Table, key: str) -> EpsLimit:
    table = require.table(key)
    table.only(("value", "delta", "alpha"))
    return EpsLimit(value=_number(table, "value"), delta=_rate(table, "delta"), alpha=_rate(table, "alpha"))


def _utility_limit(require: Table, key: str) -> UtilityLimit:
    table = require.table(key)
    table.only(("set", "accuracy"))
    return UtilityLimit(set=table.text("set"), accuracy=_rate(table, "accuracy"))


def _forget_root(require: Table, key: str) -> str:
    stated = require.text(key)
    if not stated.startswith("from:"):
        if not _HEX.fullmatch(stated):
            raise require.wrong(key, '64 lower-case hexadecimal digits, or "from:PATH" of a file that holds them')
        return stated
    path = require.file.parent / stated.removeprefix("from:")
    try:
        with path.open("rb") as file:
            root = file.read(200).decode("ascii", errors="replace").strip()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PolicyError(
            f"{require.file}:{require.line(key)}: {key} names {path}, which cannot be read ({reason}); "
            "expected a file that holds 64 lower-case hexadecimal digits"
        ) from None
    if not _HEX.fullmatch(root):
        raise PolicyError(f"{path}: starts with {root[:40]!r}; expected 64 lower-case hexadecimal digits and no more")
    return root


def _max_age(require: Table, key: str) -> timedelta:
    match = _AGE.fullmatch(require.text(key))
    if match is None:
        raise require.wrong(key, 'a number of days such as "90d"')
    return timedelta(days=int(match[1]))


def _trust(table: Table) -> Path:
    table.only(("file",))
    return table.file.parent / table.text("file")


def _exception(table: Table) -> PolicyException:
    table.only(("rule", "reason", "approved_by", "expires"))
    rule, expires = table.text("rule", tuple(RULES)), table.get("expires")
    if rule in NEVER_EXCEPTED:
        raise table.wrong("rule", "another rule: trust, missing evidence and exceptions that ran out are never excused")
    if type(expires) is not date:  # a datetime is a date too, and its time of day would be ignored
        raise table.wrong("expires", "a date without quotation marks, such as 2026-12-31")
    return PolicyException(
        rule=rule,
        reason=table.text("reason"),
        approved_by=table.text("approved_by"),
        expires=expires,
        line=table.line(),
    )


def policy_text() -> str:
    """Return the default ``[policy]`` table as commented TOML; every option is shown, the optional ones with a #."""
    return f"""\
# What `cu-cert gate` demands of a certificate. Delete the # before an option to demand it.
# Numbers stand in quotation marks, as decimals or fractions, so that they are compared exactly.
[policy.require]

# Verdicts that are accepted. REFUTED and INCONCLUSIVE cannot be listed (see on_inconclusive).
verdict = ["NOT_REFUTED", "EXACT_BY_PROVENANCE", "BOUNDED_BY_THEOREM"]

# When the evidence or the power does not suffice: "fail" (exit code 3) or "warn" (exit code 0 with a warning).
# Missing evidence files are never waved through: 3, or 1 where the certificate itself states REFUTED.
on_inconclusive = "fail"

# The type of statement to accept.
#predicate = "{PREDICATE_TYPE}"

# The largest lower bound on eps that the audit may have measured, at this delta, with bounds that
# err with probability at most alpha in total.
#eps_lower_max = {{ value = "0.50", delta = "0", alpha = "1/20" }}

# The leak, as an eps, that the audit must have been able to see with probability 0.8. Smaller is stricter.
#detect_eps_max = "2"

# Tests that must have been planned and carried out.
#attacks = ["eps-coinflip", "conformal-p"]

# The accuracy that the certificate must show at least, on one of its sets of records.
#utility_min = {{ set = "held-out", accuracy = "0.90" }}

# The unlearning methods that are allowed.
#method = ["retrain"]

# "external" refuses an audit signed as internal; "internal" accepts both.
#independence = "external"

# The request that must be covered: the root of its forget commitment, or a file that holds the root.
#forget_root = "from:requests/pending.root"

# How old the certificate may be, in days.
#max_age = "90d"

# Whose signatures count; relative to this file. `--trust` overrides it. Without it: trust.toml in the user's
# configuration folder.
#[policy.trust]
#file = "trust.toml"

# A rule excused by a named person until a day. Once the day is over, the exception itself violates the policy.
# Rules: docs/rules. No exception covers trust (CU0xx) or a REFUTED verdict.
#[[policy.exception]]
#rule = "CU105"
#reason = "accuracy dip accepted until the next training, ticket 812"
#approved_by = "data protection officer"
#expires = 2099-12-31
"""
