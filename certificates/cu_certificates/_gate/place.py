"""Where a finding is shown in a repository, and the fingerprint by which a service knows it again."""

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path, PurePath
from urllib.parse import quote

from cu_certificates._gate.case import Finding, clean
from cu_certificates._gate.report import Report


def repository_path(name: str, folder: Path) -> str:
    """Return a file's name relative to ``folder``, with forward slashes; a file elsewhere keeps its own.

    Args:
        name: The file, as the caller gave it.
        folder: The top of the repository, where a pipeline starts.
    """
    path = PurePath(name)
    if path.is_absolute() and path.is_relative_to(folder):
        path = path.relative_to(folder)
    return path.as_posix()


def uri_of(name: str, folder: Path) -> str:
    """Return a file as a URI reference: relative below ``folder``, else absolute.

    Args:
        name: The file, as the caller gave it.
        folder: The top of the repository.
    """
    path = repository_path(name, folder)
    quoted = quote(path, safe="/", errors="replace")
    return f"file://{quoted}" if path.startswith("/") else quoted


def line_of(finding: Finding) -> int:
    """Return the line of the policy to show a finding at; the first one when nobody wrote the demand.

    Args:
        finding: Any finding.
    """
    return finding.line or 1


def fingerprints(report: Report, findings: Sequence[Finding]) -> Iterator[tuple[Finding, str]]:
    """Yield each finding with a fingerprint of rule and subject name.

    The model's digest stays out of it, so that the same finding after a retraining is the same alert. Further
    certificates for one model are told apart by their order.

    Args:
        report: What the gate decided.
        findings: Those to show.
    """
    seen: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        judged = report.about(finding)
        key = (finding.rule, judged.model if judged else "")
        seen[key] += 1
        parts = [*key, str(seen[key])] if seen[key] > 1 else list(key)
        yield finding, sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()


def told(finding: Finding, report: Report) -> list[tuple[str, str]]:
    """Return the facts of a finding as pairs of a word of ours and a line, alike in every format with room for them.

    Args:
        finding: Any finding.
        report: What the gate decided.
    """
    pairs = []
    if finding.certificate is not None and len(report.files) > 1:
        pairs.append(("certificate", clean(report.files[finding.certificate])))
    for fact in finding.found:
        pairs.append(("found", fact.text + (f" (claim {fact.claim}, {fact.status})" if fact.claim else "")))
    pairs += [("allowed", finding.allowed), ("means", finding.means), ("next", finding.next_step)]
    if (excused := finding.exception) is not None:
        pairs.append(("excused", f"until {excused.expires} by {clean(excused.approved_by)}: {clean(excused.reason)}"))
    return [(word, line) for word, line in pairs if line]


def told_lines(finding: Finding, report: Report) -> list[str]:
    """Return the same as lines of text.

    Args:
        finding: Any finding.
        report: What the gate decided.
    """
    return [f"{word}: {line}" for word, line in told(finding, report)]
