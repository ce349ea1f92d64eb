"""``cu-cert gate``: verify certificates, then hold them against a policy; the exit code is the decision."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cu_cert.cli._options import EvidenceOption
from cu_cert.cli._passphrase import key_passphrase

if TYPE_CHECKING:
    from cu_certificates._gate.output import Output
    from cu_certificates.gate import GateReport


def command(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="certificate.sigstore.json, certificate.dsse.json or report.html."),
    ],
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
    evidence: EvidenceOption = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="NAME[=FILE]",
            help="text, json, sarif, junit, github, gitlab, gitlab-annotations or markdown; repeatable.",
            show_default=False,
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="The same as --format json=FILE.")
    ] = None,
    statement: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the decision as a signed in-toto statement (gate.sigstore.json)."),
    ] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The gate's private key, for --statement.", show_default=False)
    ] = None,
    passphrase_fd: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Read the key's passphrase from file descriptor N.")
    ] = None,
    policy_uri: Annotated[
        str | None, typer.Option(metavar="URI", help="Where readers of the statement get the policy file.")
    ] = None,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Report only: exit 0 whatever the decision; errors still exit 2.")
    ] = False,
) -> None:
    """Let a pipeline go on (0) or stop it: policy violated (1), inconclusive (3), untrusted (4)."""
    from datetime import UTC, datetime

    from cu_certificates._gate.output import outputs_from
    from cu_certificates._gate.statement import require_gate_key, withdraw, write_statement
    from cu_certificates.errors import UsageError
    from cu_certificates.gate import nothing_judged, run_gate
    from cu_certificates.keys import load_private_key
    from cu_certificates.policy import load_policy
    from cu_certificates.trust import reader_trust

    stated = [*(formats or []), *(["json"] if json_output else []), *([f"json={output}"] if output else [])]
    outputs, now = outputs_from(stated), datetime.now(UTC)
    if (statement is None) is not (key is None):
        raise UsageError("--statement and --key: give both or none; the statement is signed with the gate's own key")
    try:
        demands = load_policy(policy)
        report = run_gate(
            files, policy=demands, trust=trust, model=model, model_digest=model_digest, evidence=evidence, now=now
        )
    except Exception as error:
        # A pipeline that collects reports must find one, and it must say that nothing was judged. Standard output stays
        # empty as with every verb's errors, but for annotations, which a runner collects there.
        bug = "" if hasattr(error, "exit_code") else f"a bug of ours: {type(error).__name__}: "
        report = nothing_judged([str(file) for file in files], str(policy), f"{bug}{error}", now)
        _write(report, [one for one in outputs if one.path is not None or one.format == "github"])
        if statement is not None:
            withdraw(statement)
        raise
    problem = _write(report, outputs)
    if statement is not None and key is not None:
        withdraw(statement)  # an older decision must not outlive this one, even when this one cannot be signed
        signer = load_private_key(key, key_passphrase(key, passphrase_fd))
        require_gate_key(signer, reader_trust(trust or demands.trust))
        write_statement(statement, report, signer, policy_uri=policy_uri)
    if problem is not None:
        raise problem
    raise typer.Exit(0 if exit_zero else report.exit_code)


def _write(report: "GateReport", outputs: "list[Output] | tuple[Output, ...]") -> Exception | None:
    """Write all reports and print what goes to standard output; returns the first that could not be written."""
    import os
    import sys

    from cu_certificates._gate.output import write_all

    text, problem = write_all(report, outputs, environment=os.environ, folder=Path.cwd())
    # A name in the certificate may hold any character; one that this terminal lacks must not change the exit code.
    encoding = sys.stdout.encoding or "utf-8"
    typer.echo(text.encode(encoding, "replace").decode(encoding), nl=False)
    return problem
