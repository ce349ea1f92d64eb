"""``cu-cert``: registers one file a verb, turns errors into one message and the documented exit code.

Exit codes, the same for every verb: 0 done, 1 policy violated, 2 usage, configuration or environment, 3 inconclusive,
4 untrusted, 70 a bug of ours, 130 interrupted and resumable.
"""

import os
import signal
import sys
from typing import Annotated, NoReturn

import typer

from cu_cert.cli import (
    audit,
    check,
    countersign,
    demo,
    drill,
    fleet,
    gate,
    init,
    key,
    lint,
    log,
    methods,
    plan,
    receipt,
    report,
    revoke,
    sign,
    train,
    unlearn,
    verify,
)

BUG = 70
INTERRUPTED = 130

_HEAVY = {"torch", "numpy", "scipy", "sklearn", "statsmodels", "opacus", "cu_attacks"}

app = typer.Typer(
    name="cu-cert",
    help="Run machine unlearning, audit it, and issue signed certificates that a stranger can re-check.",
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _verb, _module, _line in (
    ("demo", demo, "Run the main job once on built-in data."),
    ("init", init, "Write a commented cu-cert.toml into this folder."),
    ("train", train, "Train the project's recipe."),
    ("unlearn", unlearn, "Edit or retrain a model so that a request's records go."),
    ("audit", audit, "Measure whether a deletion took; write a signed certificate."),
    ("drill", drill, "Rehearse a method on canaries in one run; --out certifies it."),
    ("plan", plan, "Fix and hash a plan; hand out coins for models made elsewhere."),
    ("verify", verify, "Check signature, trust and every claim of a certificate."),
    ("check", check, "Re-derive every claim from the evidence; looks at no signature."),
    ("gate", gate, "Hold a certificate against a policy; the exit code decides."),
    ("report", report, "Draw the report of a certificate again."),
    ("sign", sign, "Sign a draft where the key is; add a time stamp."),
    ("countersign", countersign, "Put a second key under a certificate that you verified."),
    ("revoke", revoke, "Write into a signed list what no longer counts."),
    ("methods", methods, "List the unlearning methods and what each states about itself."),
):
    app.command(_verb, short_help=_line)(_module.command)
app.add_typer(fleet.app, name="fleet")
app.add_typer(key.app, name="key")
app.add_typer(receipt.app, name="receipt")
app.add_typer(lint.app, name="lint")
app.add_typer(log.app, name="log")


def _version(asked: bool) -> None:
    if asked:
        from cu_cert import __version__

        typer.echo(f"cu-cert {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run machine unlearning, audit it, and issue signed certificates that a stranger can re-check."""


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Args:
        arguments: What stands behind ``cu-cert``; default those of the process.
    """
    code = run(sys.argv[1:] if arguments is None else arguments)
    if code == INTERRUPTED:
        # An impatient second Ctrl-C must not end in a traceback of the interpreter's own tidying up.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; every error becomes one message on standard error."""
    try:
        outcome = app(arguments, prog_name="cu-cert", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        print("cu-cert: interrupted; what was finished is kept, and the same command goes on", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output is gone; Python would complain once more when it closes standard output.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except Exception as error:
        if "--debug" in arguments:
            raise
        return _explain(error)


def _explain(error: Exception) -> int:
    show = getattr(error, "show", None)
    code = getattr(error, "exit_code", None)
    if callable(show) and isinstance(code, int):  # click's own: usage, missing argument, bad value
        show()
        return code
    if isinstance(code, int):
        print(f"cu-cert: {error}", file=sys.stderr)
        return code
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _HEAVY:
        print(
            f"cu-cert: this verb needs {error.name}, which is not installed; install the whole with\n"
            "    pip install cu-cert\n"
            "(verify, check, gate and report work without it)",
            file=sys.stderr,
        )
        return 2
    if isinstance(error, MemoryError):
        print("cu-cert: out of memory; close other programs, or lower [audit] workers", file=sys.stderr)
        return 2
    print(
        f"cu-cert: a bug of ours: {type(error).__name__}: {error}\n"
        "Please report it with the output of the same command with --debug as the first option.",
        file=sys.stderr,
    )
    return BUG


if __name__ == "__main__":
    main()
