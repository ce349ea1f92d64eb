"""The gate's report for GitLab: a code-quality report, and a link from the job to the signed report."""

import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Final
from urllib.parse import quote

from cu_certificates._gate.case import Finding, clean
from cu_certificates._gate.place import fingerprints, line_of, repository_path, told_lines
from cu_certificates._gate.report import Report

JOB: Final = "CI_JOB_URL"
PAGE: Final = "report.html"

_URL: Final = re.compile(r"https?://[A-Za-z0-9._~:/%-]{1,500}", re.ASCII)


def quality_of(report: Report, folder: Path) -> str:
    """Return a code-quality report: one issue for each finding that is not ok.

    Args:
        report: What the gate decided.
        folder: The top of the repository, to which the policy's location is relative.
    """
    path = clean(repository_path(report.policy_file, folder))
    shown = [finding for finding in report.worst_first if finding.outcome != "ok"]
    issues = [
        {
            "check_name": finding.rule,
            "description": "; ".join([finding.title, *told_lines(finding, report)]),
            "fingerprint": fingerprint,
            "severity": _severity(finding),
            "location": {"path": path, "lines": {"begin": line_of(finding)}},
        }
        for finding, fingerprint in fingerprints(report, shown)
    ]
    if report.error:
        issues.append(
            {
                "check_name": "cu-cert-gate",
                "description": f"Nothing was judged: {clean(report.error)}",
                "fingerprint": "0" * 64,
                "severity": "blocker",
                "location": {"path": path, "lines": {"begin": 1}},
            }
        )
    return json.dumps(issues, indent=2, ensure_ascii=True) + "\n"


def _severity(finding: Finding) -> str:
    if finding.excused:
        return "info"
    return {"untrusted": "blocker", "violated": "critical"}.get(finding.outcome, "major")


def links_of(report: Report, environment: Mapping[str, str], folder: Path) -> str:
    """Return an annotations report that links the job to each signed report among its artifacts.

    Args:
        report: What the gate decided.
        environment: The process's environment variables; without ``CI_JOB_URL`` there is nothing to link to.
        folder: The top of the repository, where artifacts are collected.
    """
    job = environment.get(JOB, "")
    links = []
    for name in report.files if _URL.fullmatch(job) else ():
        path = PurePath(repository_path(name, folder))
        page = path if path.suffix == ".html" else path.with_name(PAGE)
        if not page.is_absolute() and ".." not in page.parts and (folder / page).is_file():
            url = f"{job}/artifacts/file/{quote(page.as_posix(), safe='/', errors='replace')}"
            links.append({"external_link": {"label": "Report of the unlearning audit", "url": url}})
    return json.dumps({"cu-cert": links}, indent=2, ensure_ascii=True) + "\n"
