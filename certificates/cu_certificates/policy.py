"""The policy: what a reader demands of a certificate, as a person can write and review it.

A policy is the ``[policy]`` table of ``cu-cert.toml`` or of a file of its own. It is read strictly: an unknown key, an
unknown rule or a value of the wrong type stops the gate before anything is judged, because a misspelt demand that is
ignored is a demand that nobody makes.
"""

import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from cu_certificates._files import read_bytes
from cu_certificates._policy_read import policy_from
from cu_certificates._policy_types import (
    ACCEPTABLE,
    NEVER_EXCEPTED,
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
from cu_certificates._toml import Table, key_lines
from cu_certificates.check.checker import PREDICATE_TYPE
from cu_certificates.errors import PolicyError

__all__ = [
    "ACCEPTABLE",
    "NEVER_EXCEPTED",
    "RULES",
    "Batch",
    "EpsLimit",
    "Number",
    "Policy",
    "PolicyException",
    "PowerDemand",
    "ReplayDemand",
    "TheoremLimit",
    "UtilityLimit",
    "load_policy",
    "policy_of",
    "policy_text",
]

MAX_BYTES: Final = 1 << 20

_TABLES: Final = ("schema", "data", "training", "unlearning", "audit", "signing", "policy")


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
    return policy_from(top.table("policy"), sha256(data).hexdigest())


def policy_of(require: Mapping[str, Any], source: str, folder: Path) -> Policy:
    """Read demands that were written in a program instead of a file, as strictly as those of a file.

    Args:
        require: Keys and values of ``[policy.require]``.
        source: Where they stand, for messages.
        folder: The folder to which paths in them are relative.

    Raises:
        PolicyError: They do not say what a policy must.
    """
    table = Table(folder / source, {}, ("policy",), {"require": dict(require)})
    return policy_from(table, "")


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

# The largest upper bound on eps that a theorem may give, at this delta or a smaller one.
#theorem_eps_max = {{ value = "1.0", delta = "1e-5" }}

# The leak, as an eps, that the audit must have been able to see with probability 0.8. Smaller is stricter.
#detect_eps_max = "2"

# What the attacks on single records must have been able to see: so many true positives at so few false ones,
# flagged at level alpha (default 1/20) with this probability.
#power = {{ tpr = "0.20", at_fpr = "0.01", prob = "0.8" }}

# Tests that must have been planned and carried out.
#attacks = ["eps-coinflip", "conformal-p"]

# Every planned test must have an answer, also where the verdict rests on provenance or on a theorem.
#planned_tests = true

# The accuracy that the certificate must show at least, on one of its sets of records.
#utility_min = {{ set = "held-out", accuracy = "0.90" }}

# The largest loss of held-out accuracy against the model before unlearning.
#utility_drop_max = "0.02"

# The unlearning methods that are allowed.
#method = ["retrain"]

# "external" refuses an audit signed as internal; "internal" accepts both.
#independence = "external"

# Every record of the request must be shown absent from what the model was trained on.
#absent_all = true

# Training steps run again: with probability 1 - alpha (default 1/20) at most this share of all steps is wrong.
#replay = {{ wrong_max = "0.05", alpha = "1/20" }}

# The batches of requests that must be covered: the root of a forget commitment, a file that holds one, a folder
# with files that end in .root, or a pattern. Each needs an accepted certificate for the same model.
#forget_root = "from:requests/*.root"

# How many different keys of each role must have signed the same bytes.
#signatures = {{ auditor = 1, controller = 1 }}

# A time stamp by an authority that the trust file names must stand beside the certificate.
#timestamp = true

# How old the certificate may be, in days.
#max_age = "90d"

# The signed report must be there, unaltered, and carry this certificate.
#report = true

# Nothing in certificate and report may look like personal data.
#privacy_lint = true

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
