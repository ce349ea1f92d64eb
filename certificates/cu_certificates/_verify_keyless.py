"""Certificates that an account signed instead of a key: which of the reader's identities it is, and what it may sign.

The signature, the log entry and the account are established by :mod:`cu_certificates.keyless`; payload type, document
type and subjects are compared by whoever opens the certificate, as for a key.
"""

from cu_certificates._trusted import Trust, TrustedIdentity
from cu_certificates.check.carrier import split_report
from cu_certificates.check.strict import Rejected, parse
from cu_certificates.envelope import PAYLOAD_TYPE, PREDICATE_TYPE, Statement
from cu_certificates.errors import UntrustedError
from cu_certificates.keyless import MAX_BUNDLE, Keyless, is_keyless, verify_keyless

MAX_IDENTITIES = 32


def keyless_in(data: bytes) -> tuple[bytes, bytes | None] | None:
    """Return the keyless bundle in a file, and the page around it when it is a report; ``None`` when there is none.

    Args:
        data: The bytes of a file that is no carrier of a signature by a key.
    """
    skeleton: bytes | None = None
    try:
        if data.startswith(b"<"):
            skeleton, data = split_report(data)
        return (data, skeleton) if is_keyless(parse(data, "bundle", max_bytes=MAX_BUNDLE)) else None
    except Rejected:
        return None


def open_keyless(bundle: bytes, trust: Trust) -> tuple[TrustedIdentity, Keyless]:
    """Return the trusted identity that signed an audit, and what it signed.

    Args:
        bundle: The bytes of the bundle.
        trust: The reader's trust file.

    Raises:
        UntrustedError: No identity of the trust file signed it, or the one that did may not sign audits.
        UsageError: The library is not installed.
    """
    if not trust.identities:
        raise UntrustedError(
            "trust",
            f"an account signed this file, not a key; {str(trust.path)!r} lists no [[identity]]; ask who the auditor's "
            "account is and who vouches for it, and add an [[identity]] table with issuer and identity",
        )
    refused: list[UntrustedError] = []
    for identity in trust.identities[:MAX_IDENTITIES]:
        try:
            found = verify_keyless(bundle, issuer=identity.issuer, identity=identity.identity)
        except UntrustedError as problem:
            refused.append(problem)
            continue
        if found.payload_type != PAYLOAD_TYPE:
            raise UntrustedError(
                "carrier", f"payloadType {found.payload_type!r:.80}; expected exactly {PAYLOAD_TYPE!r}"
            )
        if "auditor" not in identity.roles:
            raise UntrustedError(
                "trust",
                f"{identity.identity} has the roles {', '.join(identity.roles)}; an audit needs one with 'auditor'",
            )
        if PREDICATE_TYPE not in identity.predicates:
            raise UntrustedError(
                "trust",
                f"{identity.identity} may sign {', '.join(identity.predicates)}; this file needs {PREDICATE_TYPE}",
            )
        return identity, found
    if len(refused) == 1:
        raise refused[0]
    raise UntrustedError(
        "trust", f"none of the {len(refused)} identities in {str(trust.path)!r} signed this file; last: {refused[-1]}"
    )


def require_named(statement: Statement, identity: TrustedIdentity) -> None:
    """Refuse a certificate that names another auditor than the account that signed it.

    Args:
        statement: The certificate.
        identity: Who signed.

    Raises:
        UntrustedError: It names a key, or another account.
    """
    named = statement.predicate.get("auditor")
    found = {key: named.get(key) for key in ("keyid", "issuer", "identity")} if isinstance(named, dict) else {}
    if found != {"keyid": None, "issuer": identity.issuer, "identity": identity.identity}:
        raise UntrustedError(
            "trust", f"the certificate names the auditor {found!r:.300}; {identity.identity} signed it"
        )
