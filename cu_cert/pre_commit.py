"""``cu-cert-verify``: the program behind the pre-commit hook; it looks at each file that is about to be committed.

A certificate, a gate's statement or a revocation list must be signed by a key of the trust file and must follow from
what is at hand; a ``cu-cert.toml`` must hold a policy that can be read. Nothing is fetched, nothing is written.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cu_certificates.trust import Trust


def main(arguments: Sequence[str] | None = None) -> int:
    """Look at files and return the worst exit code: 4 untrusted, 2 unreadable or misspelt, 0 otherwise.

    Args:
        arguments: What stands behind ``cu-cert-verify``; default those of the process.
    """
    from cu_certificates._gate.case import clean
    from cu_certificates.errors import CertificateError

    parser = argparse.ArgumentParser(
        prog="cu-cert-verify", description="Verify certificates and read policies that are about to be committed."
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="*.sigstore.json, *.dsse.json or *.toml")
    parser.add_argument("--trust", type=Path, metavar="FILE", help="the keys you trust (default: your own trust.toml)")
    options = parser.parse_args(arguments)
    worst = 0
    for file in options.files:
        try:
            print(f"{clean(str(file))}: {clean(_look_at(file, options.trust))}")
        except CertificateError as error:
            print(f"{clean(str(file))}: {clean(str(error))}", file=sys.stderr)
            worst = max(worst, error.exit_code)
    return worst


def _look_at(file: Path, trust: Path | None) -> str:
    from cu_certificates.policy import load_policy
    from cu_certificates.trust import reader_trust

    if file.suffix == ".toml":
        demands = load_policy(file)
        return f"policy readable; {len(demands.lines)} demands, {len(demands.exceptions)} exceptions"
    return _verify(file, reader_trust(trust))


def _verify(file: Path, trust: "Trust") -> str:
    """Verify a signed document by its own kind; evidence that is not in the repository stays out of it."""
    from cu_certificates._files import read_bytes
    from cu_certificates._gate.statement import read_gate_statement
    from cu_certificates.check.carrier import MAX_BUNDLE, load_any
    from cu_certificates.check.strict import Rejected, parse
    from cu_certificates.envelope import GATE_TYPE, PREDICATE_TYPE
    from cu_certificates.errors import UntrustedError
    from cu_certificates.verify import open_trusted, verify

    data, now = read_bytes(file, what="document", max_bytes=MAX_BUNDLE), datetime.now(UTC)
    try:
        document = parse(load_any(data)[0].payload, "payload")
    except Rejected as refusal:
        raise UntrustedError("carrier", str(refusal)) from None
    kind = document.get("predicateType") if isinstance(document, dict) else None
    if kind == PREDICATE_TYPE:
        certificate = verify(file, trust=trust, now=now, allow_missing_evidence=True)
        return f"signature valid, stated verdict {certificate.check.stated}"
    if kind == GATE_TYPE:
        return f"signature valid, {len(read_gate_statement(data, trust=trust, now=now).properties)} demands met"
    if not isinstance(kind, str):
        raise UntrustedError("carrier", f"predicateType is {kind!r:.80}; expected a signed document of cu-cert")
    open_trusted(data, trust, role=None, predicate_type=kind, now=now)
    return f"signature valid, document {kind}"


if __name__ == "__main__":
    sys.exit(main())
