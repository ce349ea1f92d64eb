"""From the ``[policy]`` table to a :class:`Policy`, read strictly: a demand that is misspelt is never ignored."""

import glob
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path
from typing import Final, TypeVar

from cu_certificates._files import kind_of
from cu_certificates._policy_types import (
    ACCEPTABLE,
    INDEPENDENCE,
    NEVER_EXCEPTED,
    ON_INCONCLUSIVE,
    ROLES,
    RULES,
    Batch,
    EpsLimit,
    Number,
    Policy,
    PolicyException,
    PowerDemand,
    ReplayDemand,
    TheoremLimit,
    UtilityLimit,
)
from cu_certificates._toml import Table, nearest
from cu_certificates.errors import PolicyError

REQUIRE: Final = (
    "verdict",
    "predicate",
    "eps_lower_max",
    "theorem_eps_max",
    "detect_eps_max",
    "power",
    "attacks",
    "planned_tests",
    "utility_min",
    "utility_drop_max",
    "method",
    "independence",
    "absent_all",
    "replay",
    "forget_root",
    "signatures",
    "timestamp",
    "max_age",
    "report",
    "privacy_lint",
    "on_inconclusive",
)
"""The keys of ``[policy.require]``."""

MAX_ROOTS: Final = 10_000
USUAL_ALPHA: Final = "1/20"

_MAX_SIGNATURES: Final = 9
_AGE: Final = re.compile(r"([1-9][0-9]{0,4})d", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

_T = TypeVar("_T")
_U = TypeVar("_U")


def policy_from(policy: Table, digest: str) -> Policy:
    """Read one ``[policy]`` table.

    Args:
        policy: The table.
        digest: SHA-256 of the file that holds it.

    Raises:
        PolicyError: It does not say what a policy must; the message names file and line.
    """
    policy.only(("require", "trust", "exception"))
    require = policy.table("require")
    require.only(REQUIRE)

    def demanded(key: str, read: Callable[[Table, str], _T], otherwise: _U) -> _T | _U:
        return read(require, key) if require.has(key) else otherwise

    def flag(key: str) -> bool:
        return demanded(key, _flag, False)

    return Policy(
        file=str(policy.file),
        sha256=digest,
        verdict=demanded("verdict", _verdicts, ACCEPTABLE),
        predicate=demanded("predicate", Table.text, None),
        eps_lower_max=demanded("eps_lower_max", _eps_limit, None),
        theorem_eps_max=demanded("theorem_eps_max", _theorem_limit, None),
        detect_eps_max=demanded("detect_eps_max", _number, None),
        power=demanded("power", _power, None),
        attacks=demanded("attacks", Table.texts, ()),
        planned_tests=flag("planned_tests"),
        utility_min=demanded("utility_min", _utility_limit, None),
        utility_drop_max=demanded("utility_drop_max", _rate, None),
        method=demanded("method", Table.texts, ()),
        independence=demanded("independence", lambda table, key: table.text(key, INDEPENDENCE), None),
        absent_all=flag("absent_all"),
        replay=demanded("replay", _replay, None),
        forget_roots=demanded("forget_root", _forget_roots, ()),
        signatures=demanded("signatures", _signatures, {}),
        timestamp=flag("timestamp"),
        max_age=demanded("max_age", _max_age, None),
        report=flag("report"),
        privacy_lint=flag("privacy_lint"),
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


def _share(table: Table, key: str) -> Number:
    number = _number(table, key)
    if not 0 < number.value < 1:
        raise table.wrong(key, "strictly between 0 and 1")
    return number


def _flag(table: Table, key: str) -> bool:
    value = table.get(key)
    if not isinstance(value, bool):
        raise table.wrong(key, "true or false, without quotation marks")
    return value


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


def _theorem_limit(require: Table, key: str) -> TheoremLimit:
    table = require.table(key)
    table.only(("value", "delta"))
    return TheoremLimit(value=_number(table, "value"), delta=_rate(table, "delta"))


def _power(require: Table, key: str) -> PowerDemand:
    table = require.table(key)
    table.only(("tpr", "at_fpr", "prob", "alpha"))
    demand = PowerDemand(
        tpr=_share(table, "tpr"),
        at_fpr=_share(table, "at_fpr"),
        prob=_share(table, "prob"),
        alpha=_share(table, "alpha") if table.has("alpha") else Number(USUAL_ALPHA),
    )
    if demand.tpr.value <= demand.at_fpr.value:
        raise require.wrong(key, "a tpr above at_fpr: at an equal rate there is nothing to see")
    return demand


def _replay(require: Table, key: str) -> ReplayDemand:
    table = require.table(key)
    table.only(("wrong_max", "alpha"))
    return ReplayDemand(
        wrong_max=_share(table, "wrong_max"),
        alpha=_share(table, "alpha") if table.has("alpha") else Number(USUAL_ALPHA),
    )


def _utility_limit(require: Table, key: str) -> UtilityLimit:
    table = require.table(key)
    table.only(("set", "accuracy"))
    return UtilityLimit(set=table.text("set"), accuracy=_rate(table, "accuracy"))


def _signatures(require: Table, key: str) -> Mapping[str, int]:
    table = require.table(key)
    table.only(ROLES)
    for role, number in table.values.items():
        if type(number) is not int or not 1 <= number <= _MAX_SIGNATURES:
            raise table.wrong(role, f"a whole number from 1 to {_MAX_SIGNATURES}")
    if not table.values:
        raise require.wrong(key, "at least one role, such as { controller = 1 }")
    return dict(table.values)


def _forget_roots(require: Table, key: str) -> tuple[Batch, ...]:
    value = require.get(key)
    stated = require.texts(key) if isinstance(value, list) else (require.text(key),)
    found: dict[str, Batch] = {}
    for text in stated:
        for batch in _batches(require, key, text):
            found.setdefault(batch.root, batch)
    if len(found) > MAX_ROOTS:
        raise PolicyError(f"{require.file}:{require.line(key)}: {len(found)} roots; expected at most {MAX_ROOTS}")
    return tuple(found.values())


def _batches(require: Table, key: str, text: str) -> list[Batch]:
    if not text.startswith("from:"):
        if not _HEX.fullmatch(text):
            raise require.wrong(
                key, '64 lower-case hexadecimal digits, or "from:PATH" of a file, a folder or a pattern such as *.root'
            )
        return [Batch(root=text, source=f"{require.file}:{require.line(key)}")]
    name, folder = text.removeprefix("from:"), require.file.parent
    if glob.has_magic(name):
        paths = [folder / found for found in sorted(glob.glob(name, root_dir=folder, recursive=True))]
    elif kind_of(folder / name) == "folder":
        paths = sorted((folder / name).glob("*.root"))
    else:
        paths = [folder / name]
    if not paths:
        # Nothing to cover looks the same as a mistyped folder, and the second must not open the gate.
        raise PolicyError(
            f"{require.file}:{require.line(key)}: {key} = {text!r} matches no file that ends in .root; correct the "
            "path, or delete the demand until the first batch of requests is closed"
        )
    return [Batch(root=_read_root(require, key, path), source=str(path)) for path in paths[: MAX_ROOTS + 1]]


def _read_root(require: Table, key: str, path: Path) -> str:
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
