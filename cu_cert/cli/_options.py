"""What several verbs parse or print alike."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

TrustOption = Annotated[
    Path | None,
    typer.Option(
        "--trust",
        metavar="FILE",
        help="The keys you trust. Default: trust.toml in your configuration folder.",
        show_default=False,
    ),
]
EvidenceOption = Annotated[
    Path | None,
    typer.Option(
        "--evidence",
        metavar="DIR",
        help="Folder with plan.json and the evidence files. Default: the folder of FILE.",
    ),
]
ExecutorOption = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="local|ray|ray:ADDRESS",
        help="Where models are trained. Default: the environment variable CU_CERT_EXECUTOR, else local.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def echo_json(document: dict[str, Any]) -> None:
    """Print one JSON object."""
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


def settings(pairs: list[str] | None) -> dict[str, object] | None:
    """Read ``key=value`` pairs; values are TOML, a bare word is text.

    Raises:
        ConfigError: A pair has no ``=``, or a key stands twice.
    """
    import tomllib

    from cu_cert.errors import ConfigError

    if not pairs:
        return None
    found: dict[str, object] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {pair!r}: expected key=value, for example --set epochs=3")
        if key in found:
            raise ConfigError(f"--set {key}: given twice; expected once")
        try:
            found[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            found[key.strip()] = text
    return found


def require_place(out: Path) -> None:
    """Refuse an output file that cannot be written before the work is done, not after it.

    Raises:
        ConfigError: Its folder does not exist, or it is a folder itself.
    """
    from cu_cert.errors import ConfigError

    if out.is_dir():
        raise ConfigError(f"--out {out}: is a folder; expected the name of a file")
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}; make it first, or give another path")
