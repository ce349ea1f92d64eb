"""``cu-cert verify`` on a gate's statement: who decided, when, about which model, and which demands were met."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cu_cert.cli._options import echo_json

if TYPE_CHECKING:
    from cu_certificates._gate.statement import GateStatement

NOT_SATISFIED = 1


def decision_in(file: Path, *, trust: Path | None, model: Path | None, as_json: bool) -> bool:
    """Verify and show a gate's statement; a file of another kind is left to the caller.

    Args:
        file: Any file.
        trust: The trust file that the reader names.
        model: The model to compare with the one that was judged.
        as_json: Whether to print one JSON object.

    Returns:
        Whether the file is a gate's statement.

    Raises:
        UntrustedError: It is one, and a step refuses.
        typer.Exit: It is one, and the policy was not satisfied: a deployment must not go on.
    """
    from datetime import UTC, datetime

    from cu_certificates._files import read_bytes
    from cu_certificates._gate.statement import is_gate_statement, read_gate_statement
    from cu_certificates.check.carrier import MAX_REPORT
    from cu_certificates.trust import reader_trust

    data = read_bytes(file, what="certificate", max_bytes=MAX_REPORT)
    if not is_gate_statement(data):
        return False
    found = read_gate_statement(data, trust=reader_trust(trust), now=datetime.now(UTC), model=model)
    if as_json:
        echo_json(_to_json(file, found))
    else:
        for line in _lines(found):
            typer.echo("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in line))
    if not found.satisfied:
        raise typer.Exit(NOT_SATISFIED)
    return True


def _lines(found: "GateStatement") -> list[str]:
    subjects = [f"{name} sha256:{digest}" for name, digest in found.subjects.items()]
    decision = "policy satisfied" if found.satisfied else "policy not satisfied"
    return [
        f"signature  ok          signed by gate key {found.keyid}; the document is a gate's statement",
        f"time       ok          decided {found.created:%Y-%m-%dT%H:%M:%SZ}",
        *(f"subject    {'ok          ' if found.model_compared else 'not checked '}{subject}" for subject in subjects),
        f"policy                 {found.policy[0]} sha256:{found.policy[1]}",
        *(f"judged                 certificate with payload sha256:{digest}" for digest in found.certificates),
        *(f"met                    {name}" for name in found.properties),
        f"{decision}: signature valid; {len(found.properties)} properties; "
        + ("the model is the judged one" if found.model_compared else "no model file compared"),
    ]


def _to_json(file: Path, found: "GateStatement") -> dict[str, object]:
    return {
        "schema": "cu-cert-verify-gate/1",
        "file": str(file),
        "payload": {"sha256": found.payload_sha256},
        "keyid": found.keyid,
        "decidedAt": f"{found.created:%Y-%m-%dT%H:%M:%SZ}",
        "satisfied": found.satisfied,
        "properties": list(found.properties),
        "policy": {"name": found.policy[0], "sha256": found.policy[1]},
        "subjects": [{"name": name, "sha256": digest} for name, digest in found.subjects.items()],
        "modelCompared": found.model_compared,
        "certificates": [{"sha256": digest} for digest in found.certificates],
    }
