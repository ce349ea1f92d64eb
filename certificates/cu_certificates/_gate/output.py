"""Which reports the gate writes, and writing all of them before it exits, whatever it decided."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cu_certificates._files import write_atomic
from cu_certificates._gate.github import annotations_of, tell_runner
from cu_certificates._gate.gitlab import links_of, quality_of
from cu_certificates._gate.json import json_of
from cu_certificates._gate.junit import junit_of
from cu_certificates._gate.markdown import markdown_of
from cu_certificates._gate.report import Report
from cu_certificates._gate.sarif import sarif_of
from cu_certificates._gate.text import text_of
from cu_certificates._toml import nearest
from cu_certificates.errors import CertificateError, UsageError

FORMATS: Final = ("text", "json", "sarif", "junit", "github", "gitlab", "gitlab-annotations", "markdown")
TOGETHER: Final = ("text", "markdown", "github")
"""Formats of lines, which may share standard output; each of the others is one document."""


@dataclass(frozen=True)
class Output:
    """One report to write.

    Args:
        format: One of :data:`FORMATS`.
        path: The file; ``None`` for standard output.
    """

    format: str
    path: Path | None = None


def outputs_from(stated: Sequence[str]) -> tuple[Output, ...]:
    """Read ``--format`` options: ``NAME`` for standard output or ``NAME=FILE``.

    Args:
        stated: The options, in order; none means text on standard output.

    Raises:
        UsageError: A name is unknown, two reports would go to one file, or standard output would mix documents.
    """
    found = []
    for text in stated:
        name, equals, file = text.partition("=")
        if name not in FORMATS or (equals and not file):
            raise UsageError(f"--format {text[:80]!r}: expected NAME or NAME=FILE with {nearest(name, FORMATS)}")
        found.append(Output(name, Path(file) if equals else None))
    paths = [os.path.abspath(one.path) for one in found if one.path is not None]
    if twice := next((path for path in paths if paths.count(path) > 1), None):
        raise UsageError(f"--format: two reports would go to {twice!r}; give each a file of its own")
    shown = [one.format for one in found if one.path is None]
    if len(shown) > 1 and (len(set(shown)) < len(shown) or not set(shown) <= set(TOGETHER)):
        raise UsageError(
            f"--format: {', '.join(shown)} cannot share standard output; expected at most one document there, or "
            f"different ones of {', '.join(TOGETHER)}; give the others a file as in --format sarif=gate.sarif"
        )
    return tuple(found) if shown else (Output("text"), *found)


def render(report: Report, name: str, *, environment: Mapping[str, str], folder: Path) -> str:
    """Return one report.

    Args:
        report: What the gate decided.
        name: One of :data:`FORMATS`.
        environment: The process's environment variables.
        folder: The folder in which the process runs: the top of the repository.
    """
    match name:
        case "json":
            return json_of(report)
        case "sarif":
            return sarif_of(report, folder)
        case "junit":
            return junit_of(report)
        case "github":
            return annotations_of(report, folder)
        case "gitlab":
            return quality_of(report, folder)
        case "gitlab-annotations":
            return links_of(report, environment, folder)
        case "markdown":
            return markdown_of(report)
        case _:
            return text_of(report)


def write_all(
    report: Report, outputs: Sequence[Output], *, environment: Mapping[str, str], folder: Path
) -> tuple[str, CertificateError | None]:
    """Write every report that goes to a file, also after one of them could not be written.

    Args:
        report: What the gate decided.
        outputs: What to write.
        environment: The process's environment variables.
        folder: The folder in which the process runs.

    Returns:
        What standard output should get, and the first error.
    """
    shown, problem = "", None
    for one in outputs:
        try:
            text = render(report, one.format, environment=environment, folder=folder)
            if one.path is None:
                shown += text
            else:
                write_atomic(one.path, text.encode("utf-8", "replace"), what="gate report")
            if one.format == "github":
                tell_runner(report, environment)
        except CertificateError as error:
            problem = problem or error
    return shown, problem
