"""The gate's statement: a signed in-toto Simple Verification Result (SVR v0.2) that a later step can check.

The certificates stay what they are, statements of facts; this is the decision about them, under a key of its own. It is
monotonic as SVR asks: it lists the demands that were met and nothing else, and none at all unless the policy as a whole
was satisfied. Where it can be checked, nobody has to run the gate again.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath
from typing import Any, Final

from cu_certificates._files import kind_of, read_bytes, sha256_of, write_atomic
from cu_certificates._gate.case import clean
from cu_certificates._gate.report import Report
from cu_certificates._opening import CLOCK_SKEW, INSTANT, instant
from cu_certificates._policy_types import RULES
from cu_certificates._trusted import AUDIT_ROLES, Trust
from cu_certificates.check.carrier import MAX_BUNDLE, load_any
from cu_certificates.check.strict import Rejected, parse
from cu_certificates.envelope import GATE_TYPE, Signer, Statement, read_statement, sign, statement
from cu_certificates.errors import UntrustedError, UsageError

VERIFIER: Final = "https://cu-cert.example/gate/v1"
"""Who decided, as a program; a change of what the rules mean is a change of this name."""

PREFIX: Final = "CU_CERT_"
SATISFIED: Final = PREFIX + "POLICY_SATISFIED"
EXTENSION: Final = "cuCertGate"
UNNAMED: Final = "model"


def property_of(rule: str) -> str:
    """Return the name of the property that says that a rule was met, such as ``CU_CERT_CU101_EPS_LOWER_BOUND``.

    Args:
        rule: Id of the rule.
    """
    words = "".join(character if character.isalnum() else " " for character in RULES[rule]).split()
    return f"{PREFIX}{rule}_{'_'.join(words).upper()}"


def properties_of(report: Report) -> list[str]:
    """Return the properties that a report supports; none unless the policy as a whole is satisfied.

    A rule that an exception or ``on_inconclusive`` let through was not met and is not listed.

    Args:
        report: What the gate decided.
    """
    if report.exit_code != 0 or not any(report.judged):
        return []
    met = [rule for rule in RULES if {finding.outcome for finding in report.findings if finding.rule == rule} == {"ok"}]
    return [SATISFIED, *(property_of(rule) for rule in met)]


def predicate_of(report: Report, policy_uri: str | None = None) -> dict[str, Any]:
    """Return the predicate of the statement.

    The certificates stand in an extension field, since SVR has no place for the inputs of a decision.

    Args:
        report: What the gate decided.
        policy_uri: Where readers can get the policy file.

    Raises:
        UsageError: Nothing was judged, or the policy is in no file that others could be shown.
    """
    if report.policy is None or not report.model_sha256:
        raise UsageError("no statement: nothing was judged; settle the error and run the gate again")
    if not report.policy.sha256:
        raise UsageError("no statement: the policy was made in a program; write it to a file and give that")
    policy: dict[str, Any] = {"name": PurePath(report.policy_file).name, "digest": {"sha256": report.policy.sha256}}
    if policy_uri is not None:
        policy["uri"] = policy_uri
    return {
        "verifier": {"id": VERIFIER, "policies": [policy]},
        "timeCreated": f"{report.now:{INSTANT}}",
        "properties": properties_of(report),
        EXTENSION: {
            "inputCertificates": [
                {"name": PurePath(file).name, "digest": {"sha256": one.payload_sha256}}
                for file, one in zip(report.files, report.judged, strict=True)
                if one is not None
            ],
            "exceptions": [
                {
                    "rule": exception.rule,
                    "reason": clean(exception.reason),
                    "approvedBy": clean(exception.approved_by),
                    "expires": str(exception.expires),
                }
                for exception in report.exceptions
            ],
        },
    }


def require_gate_key(signer: Signer, trust: Trust) -> None:
    """Refuse to sign a decision with a key that may sign the certificates that it is about.

    Args:
        signer: The key.
        trust: The reader's trust file.

    Raises:
        UsageError: The trust file gives the key another role, or not the role of a gate.
    """
    key = trust.find(signer.keyid)
    if key is None:
        return
    if set(key.roles) & set(AUDIT_ROLES) or "gate" not in key.roles or GATE_TYPE not in key.predicates:
        raise UsageError(
            f"key {signer.keyid} has the roles {', '.join(key.roles)} in {str(trust.path)!r}; expected a key with the "
            "role gate alone; make one with 'cu-cert key generate' and list it with 'cu-cert key trust --role gate'"
        )


def require_replaceable(path: Path) -> None:
    """Refuse to write a statement over anything but an older statement.

    Args:
        path: Where the statement is to stand.

    Raises:
        UsageError: Something else is there.
    """
    if kind_of(path) == "absent":
        return
    try:
        older = is_gate_statement(read_bytes(path, what="statement", max_bytes=MAX_BUNDLE))
    except UsageError:
        older = False
    if not older:
        raise UsageError(f"--statement {str(path)!r}: exists and is no gate statement; give another path")


def write_statement(path: Path, report: Report, signer: Signer, *, policy_uri: str | None = None) -> None:
    """Write the signed statement; an older one is replaced, so that no old decision outlives a new one.

    Args:
        path: Where it is to stand.
        report: What the gate decided about a model that was named.
        signer: The gate's key.
        policy_uri: Where readers can get the policy file.

    Raises:
        UsageError: Nothing was judged, something else stands at ``path``, or it cannot be written.
    """
    names = {one.model for one in report.judged if one is not None} or {UNNAMED}
    payload = statement(
        dict.fromkeys(sorted(names), report.model_sha256), predicate_of(report, policy_uri), predicate_type=GATE_TYPE
    )
    require_replaceable(path)
    write_atomic(path, sign(payload, signer), what="gate statement")


def withdraw(path: Path) -> None:
    """Delete an older statement, for a gate that could not judge: what it said then need not hold now.

    Args:
        path: Where it may stand; anything else that stands there is left alone.
    """
    with suppress(UsageError, OSError):
        if is_gate_statement(read_bytes(path, what="statement", max_bytes=MAX_BUNDLE)):
            path.unlink()


@dataclass(frozen=True, kw_only=True)
class GateStatement:
    """A decision whose signature, time and form were accepted.

    Args:
        payload_sha256: Digest of the signed bytes.
        keyid: The gate's key.
        created: When the gate decided.
        properties: The demands that were met; empty when the policy was not satisfied.
        policy: Name and SHA-256 of the policy.
        subjects: The SHA-256 of each model by its name.
        certificates: The SHA-256 of the payload of each certificate that was judged.
        model_compared: Whether a model file was compared with the subjects.
    """

    payload_sha256: str
    keyid: str
    created: datetime
    properties: tuple[str, ...]
    policy: tuple[str, str]
    subjects: dict[str, str]
    certificates: tuple[str, ...]
    model_compared: bool

    @property
    def satisfied(self) -> bool:
        """Whether the gate found the policy satisfied."""
        return SATISFIED in self.properties


def is_gate_statement(data: bytes) -> bool:
    """Whether bytes claim to be a gate's statement; nothing about them is verified.

    Args:
        data: The bytes of a file.
    """
    try:
        carrier, page = load_any(data)
        document = parse(carrier.payload, "payload")
    except Rejected:
        return False
    return page is None and isinstance(document, dict) and document.get("predicateType") == GATE_TYPE


def read_gate_statement(data: bytes, *, trust: Trust, now: datetime, model: Path | None = None) -> GateStatement:
    """Verify a gate's statement: signature, trust, role, time, subject.

    Args:
        data: The bytes of the file.
        trust: The reader's trust file; the key must have the role ``gate`` there.
        now: The reader's time, aware.
        model: The model to compare with the subjects; it is hashed, never loaded.

    Raises:
        UntrustedError: A step refuses.
        MissingFileError: ``model`` cannot be read.
        UsageError: ``now`` has no time zone.
    """
    from cu_certificates.verify import open_trusted

    if now.tzinfo is None:
        raise UsageError("the time to compare with has no time zone; give one in UTC")
    payload = open_trusted(data, trust, role="gate", predicate_type=GATE_TYPE, now=now)
    document = read_statement(payload, predicate_type=GATE_TYPE)
    created = _created(document, trust, now)
    if model is not None and (found := sha256_of(model, what="model file")) not in document.subjects.values():
        raise UntrustedError(
            "subject",
            f"{str(model)!r} has sha256:{found}; the gate decided about sha256:"
            f"{', sha256:'.join(sorted(set(document.subjects.values())))}; run the gate on this model",
        )
    predicate = document.predicate
    properties = predicate.get("properties")
    if not isinstance(properties, list) or not all(isinstance(name, str) for name in properties):
        raise UntrustedError("carrier", f"predicate.properties is {properties!r:.200}; expected a list of strings")
    return GateStatement(
        payload_sha256=hashlib.sha256(payload).hexdigest(),
        keyid=", ".join(signature.keyid for signature in load_any(data)[0].signatures),
        created=created,
        properties=tuple(properties),
        policy=_policy(predicate),
        subjects=document.subjects,
        certificates=tuple(_digests(predicate)),
        model_compared=model is not None,
    )


def _created(document: Statement, trust: Trust, now: datetime) -> datetime:
    created = instant(document.text("timeCreated"), "predicate.timeCreated")
    if (verifier := document.text("verifier", "id")) != VERIFIER:
        raise UntrustedError("trust", f"predicate.verifier.id is {verifier!r}; expected exactly {VERIFIER!r}")
    now = now.astimezone(UTC)
    if created > now + CLOCK_SKEW:
        raise UntrustedError("time", f"decided {created}, which is after now, {now}; check this computer's clock")
    if trust.max_age_days is not None and now - created > timedelta(days=trust.max_age_days):
        raise UntrustedError(
            "time", f"decided {created}, more than max_age_days = {trust.max_age_days} ago ({trust.path}); run the gate"
        )
    return created


def _policy(predicate: dict[str, Any]) -> tuple[str, str]:
    """Return name and digest of the one policy; the verifier itself was looked at already."""
    policies = predicate["verifier"].get("policies")
    policy = policies[0] if isinstance(policies, list) and len(policies) == 1 else None
    digest = policy.get("digest") if isinstance(policy, dict) else None
    if not isinstance(policy, dict) or not isinstance(digest, dict) or not isinstance(digest.get("sha256"), str):
        raise UntrustedError(
            "carrier", f"predicate.verifier.policies is {policies!r:.200}; expected one policy with its digest"
        )
    return str(policy.get("name", "")), digest["sha256"]


def _digests(predicate: dict[str, Any]) -> list[str]:
    extension = predicate.get(EXTENSION)
    inputs = extension.get("inputCertificates") if isinstance(extension, dict) else None
    digests = [entry.get("digest") for entry in inputs if isinstance(entry, dict)] if isinstance(inputs, list) else []
    return [
        digest["sha256"] for digest in digests if isinstance(digest, dict) and isinstance(digest.get("sha256"), str)
    ]
