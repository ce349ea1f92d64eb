"""What a trust file says, as checked values: keys, identities, thresholds, time and revocation."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from cu_certificates.envelope import GATE_TYPE, PREDICATE_TYPE
from cu_certificates.errors import PolicyError
from cu_certificates.keys import PublicKey, algorithm_of, fingerprint

SCHEMA: Final = 1
ROLES: Final = ("auditor", "controller", "gate")
AUDIT_ROLES: Final = ("auditor", "controller")
"""The roles that may stand under an audit; a gate's key may not."""

_MAX_DAYS: Final = 36_500
_MAX_COUNT: Final = 16
_MAX_SEQUENCE: Final = 2**53 - 1


def _require_rights(roles: tuple[str, ...], predicates: tuple[str, ...]) -> None:
    if not roles or set(roles) - set(ROLES):
        raise PolicyError(f"roles are {list(roles)}; expected one or more of {', '.join(ROLES)}")
    if not predicates:
        raise PolicyError(f"predicates is empty; expected document types such as {PREDICATE_TYPE!r}")
    if {PREDICATE_TYPE, GATE_TYPE} <= set(predicates):
        raise PolicyError(
            "predicates lets one key sign both audits and gate decisions; expected one of the two, since a pipeline's "
            "key lies where others can reach it; give the gate a key of its own"
        )


def _require_whole(name: str, value: object, least: int, most: int) -> None:
    if type(value) is not int or not least <= value <= most:
        raise PolicyError(f"{name} is {value!r}; expected a whole number from {least} to {most}")


@dataclass(frozen=True, kw_only=True)
class TrustedKey:
    """One key that the reader trusts.

    Args:
        keyid: Its OpenSSH fingerprint, recomputed from ``public``.
        public: The key.
        algorithm: The only algorithm that its signatures may use; it must be the one of the key.
        roles: What its holder is: ``auditor``, ``controller``, ``gate``.
        predicates: The document types that it may sign, exact URIs; never both audits and gate decisions.
        not_before: Start of its validity.
        not_after: End of its validity.

    Raises:
        PolicyError: The fields contradict each other.
    """

    keyid: str
    public: PublicKey = field(repr=False)
    algorithm: str
    roles: tuple[str, ...]
    predicates: tuple[str, ...]
    not_before: datetime
    not_after: datetime

    def __post_init__(self) -> None:
        if (actual := fingerprint(self.public)) != self.keyid:
            raise PolicyError(f"keyid is {self.keyid!r}, but the key's fingerprint is {actual!r}; correct one of them")
        if self.algorithm != (kind := algorithm_of(self.public)):
            raise PolicyError(f"alg is {self.algorithm!r}; expected {kind!r}, which this key signs with")
        _require_rights(self.roles, self.predicates)
        if self.not_before.tzinfo is None or self.not_after.tzinfo is None:
            raise PolicyError("not_before and not_after need a time zone, for example 2026-01-01T00:00:00Z")
        if self.not_after <= self.not_before:
            raise PolicyError(f"not_after {self.not_after} is not later than not_before {self.not_before}")


@dataclass(frozen=True, kw_only=True)
class TrustedIdentity:
    """A signer without a key of its own, known by what an identity provider says of it (sigstore's keyless signing).

    Args:
        issuer: The identity provider, an exact URL such as ``https://token.actions.githubusercontent.com``.
        identity: Whom it vouches for, exact: an e-mail address or the URI of a workflow.
        roles: What that is: ``auditor``, ``controller``, ``gate``.
        predicates: The document types that it may sign, exact URIs.

    Raises:
        PolicyError: A field is empty, or the fields contradict each other.
    """

    issuer: str
    identity: str
    roles: tuple[str, ...]
    predicates: tuple[str, ...]

    def __post_init__(self) -> None:
        for name in ("issuer", "identity"):
            if not getattr(self, name).strip():
                raise PolicyError(f"{name} is empty; expected the exact text that the signing certificate holds")
        _require_rights(self.roles, self.predicates)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """How many different keys of each role must have signed the same payload bytes of an audit.

    A key that has both roles counts for one of them, or one person could be both parties.

    Args:
        auditor: Signatures by auditors, 1 to 16.
        controller: Signatures by controllers, 0 to 16.

    Raises:
        PolicyError: A count makes no sense.
    """

    auditor: int = 1
    controller: int = 0

    def __post_init__(self) -> None:
        _require_whole("auditor", self.auditor, 1, _MAX_COUNT)
        _require_whole("controller", self.controller, 0, _MAX_COUNT)

    def met_by(self, signers: list[tuple[str, ...]]) -> bool:
        """Whether signers suffice, each counted once.

        Args:
            signers: The roles of each signer.
        """
        auditors = sum("auditor" in roles for roles in signers)
        controllers = sum("controller" in roles for roles in signers)
        either = sum("auditor" in roles or "controller" in roles for roles in signers)
        # Hall's condition for two roles: enough for each, and enough for both together.
        return auditors >= self.auditor and controllers >= self.controller and either >= self.auditor + self.controller


@dataclass(frozen=True, kw_only=True)
class RevocationRule:
    """Where the list of what was revoked lies, and how old it may be.

    Args:
        list: The file, a signed statement of type ``revocation/v1``.
        max_age_days: The oldest list that is accepted; ``None`` for no limit.
        min_sequence: The least sequence number that is accepted, so that an older list cannot take the place of one
            that the reader has seen.

    Raises:
        PolicyError: A number makes no sense.
    """

    list: Path
    max_age_days: int | None = None
    min_sequence: int = 1

    def __post_init__(self) -> None:
        if self.max_age_days is not None:
            _require_whole("max_list_age_days", self.max_age_days, 1, _MAX_DAYS)
        _require_whole("min_sequence", self.min_sequence, 1, _MAX_SEQUENCE)


@dataclass(frozen=True, kw_only=True)
class Trust:
    """A checked trust file.

    Args:
        path: Where it stands, for messages.
        keys: The trusted keys.
        max_age_days: The oldest certificate that is accepted, counted from its ``issuedAt``; ``None`` for no limit.
        identities: The trusted signers without a key of their own.
        threshold: How many must have signed an audit.
        require_timestamp: Whether an audit needs a time stamp by one of ``tsa_roots``.
        tsa_roots: The root certificates of the time-stamping authorities that are believed, PEM files.
        revocation: The list of what was revoked; ``None`` when the reader keeps none.

    Raises:
        PolicyError: Nobody is trusted, somebody stands twice, or a rule cannot be met.
    """

    path: Path
    keys: tuple[TrustedKey, ...]
    max_age_days: int | None = None
    identities: tuple[TrustedIdentity, ...] = ()
    threshold: Threshold = field(default_factory=Threshold)
    require_timestamp: bool = False
    tsa_roots: tuple[Path, ...] = ()
    revocation: RevocationRule | None = None

    def __post_init__(self) -> None:
        if not self.keys and not self.identities:
            raise PolicyError("no key is trusted; expected at least one table [[key]]")
        names = [key.keyid for key in self.keys]
        for name in names:
            if names.count(name) > 1:
                raise PolicyError(f"keyid {name!r} stands in two tables [[key]]; keep one")
        pairs = [(identity.issuer, identity.identity) for identity in self.identities]
        for pair in pairs:
            if pairs.count(pair) > 1:
                raise PolicyError(f"identity {pair[1]!r} stands in two tables [[identity]]; keep one")
        if self.max_age_days is not None:
            _require_whole("max_age_days", self.max_age_days, 1, _MAX_DAYS)
        if self.require_timestamp and not self.tsa_roots:
            raise PolicyError(
                "require_timestamp asks for a time stamp, but tsa_roots names no authority whose stamps are believed; "
                "add tsa_roots, or set require_timestamp = false"
            )

    def require_enough_signers(self) -> None:
        """Refuse a threshold that the listed keys and identities could never meet.

        Raises:
            PolicyError: It could not be met even if everybody listed had signed.
        """
        signers: list[TrustedKey | TrustedIdentity] = [*self.keys, *self.identities]
        listed = [signer.roles for signer in signers if PREDICATE_TYPE in signer.predicates]
        wanted = self.threshold
        if wanted != Threshold() and not wanted.met_by(listed):
            raise PolicyError(
                f"threshold asks for {wanted.auditor} auditor and {wanted.controller} controller signatures of "
                "different keys, but the keys listed here that may sign audits are too few; add keys, or lower it"
            )

    def find(self, keyid: str) -> TrustedKey | None:
        """Return the trusted key of that name, if any.

        Args:
            keyid: An OpenSSH fingerprint.
        """
        return next((key for key in self.keys if key.keyid == keyid), None)
