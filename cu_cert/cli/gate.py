"""``cu-cert gate``: verify a certificate, then hold it against a policy; the exit code is the decision."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="certificate.sigstore.json or report.html.")],
    policy: Annotated[
        Path, typer.Option(metavar="FILE", help="cu-cert.toml, or a file that holds its policy table alone.")
    ],
    model: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The model about to be used; it is hashed, never loaded.")
    ] = None,
    model_digest: Annotated[
        str | None, typer.Option(metavar="HEX", help="SHA-256 of the model, instead of --model.")
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The keys you trust. Default: the policy's trust file, else trust.toml in your configuration folder.",
            show_default=False,
        ),
    ] = None,
    evidence: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with plan.json and the evidence files. Default: the folder of FILE."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Report only: exit 0 whatever the decision; errors still exit 2.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Also write the JSON report to this file.")
    ] = None,
) -> None:
    """Let a pipeline go on (0) or stop it: policy violated (1), inconclusive (3), untrusted (4)."""
    import sys
    from datetime import UTC, datetime

    from cu_certificates._files import write_atomic
    from cu_certificates.gate import run_gate
    from cu_certificates.policy import load_policy

    report = run_gate(
        file,
        policy=load_policy(policy),
        trust=trust,
        model=model,
        model_digest=model_digest,
        evidence=evidence,
        now=datetime.now(UTC),
    )
    try:
        if output is not None:
            write_atomic(output, report.to_json().encode(), what="gate report")
    finally:
        text = report.to_json() if json_output else report.to_text()
        # A name in the certificate may hold any character; one that this terminal lacks must not change the exit code.
        encoding = sys.stdout.encoding or "utf-8"
        typer.echo(text.encode(encoding, "replace").decode(encoding), nl=False)
    raise typer.Exit(0 if exit_zero else report.exit_code)
