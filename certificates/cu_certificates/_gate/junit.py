"""The gate's report as JUnit XML: a suite for each certificate, a case for each rule; no time, no host name."""

from typing import Final
from xml.etree import ElementTree

from cu_certificates._gate.case import Finding, clean
from cu_certificates._gate.place import told_lines
from cu_certificates._gate.report import Report
from cu_certificates._gate.text import summary
from cu_certificates._policy_types import RULES

NAME: Final = "cu-cert gate"


def junit_of(report: Report) -> str:
    """Return the whole report: what blocks is a failure, or an error where nothing could be decided.

    Args:
        report: What the gate decided.
    """
    top = ElementTree.Element("testsuites", {"name": NAME})
    if report.error:
        suite = ElementTree.SubElement(top, "testsuite", {"name": clean(", ".join(report.files)) or NAME})
        case = ElementTree.SubElement(suite, "testcase", {"classname": NAME, "name": "judgement"})
        problem = ElementTree.SubElement(case, "error", {"type": "nothing-judged", "message": "nothing was judged"})
        problem.text = clean(report.error)
    else:
        groups: dict[int | None, list[Finding]] = {}
        for finding in report.findings:
            groups.setdefault(finding.certificate, []).append(finding)
        for certificate, findings in groups.items():
            name = "all certificates" if certificate is None else clean(report.files[certificate])
            suite = ElementTree.SubElement(top, "testsuite", {"name": name})
            for finding in findings:
                _case(suite, finding, report)
    for suite in top:
        _count(suite)
        ElementTree.SubElement(suite, "system-out").text = summary(report)
    _count(top)
    ElementTree.indent(top)
    return f"<?xml version='1.0' encoding='utf-8'?>\n{ElementTree.tostring(top, encoding='unicode')}\n"


def _case(suite: ElementTree.Element, finding: Finding, report: Report) -> None:
    name = f"{finding.rule} {RULES[finding.rule]}"
    case = ElementTree.SubElement(suite, "testcase", {"classname": NAME, "name": name})
    if finding.outcome == "ok":
        return
    kind = "skipped" if finding.excused else "error" if finding.outcome == "inconclusive" else "failure"
    problem = ElementTree.SubElement(case, kind, {"type": finding.rule, "message": finding.title})
    if finding.excused:
        del problem.attrib["type"]  # the common schemas know a message there and nothing else
    place = [f"policy: {finding.where}"] if finding.where else []
    problem.text = "\n".join([*told_lines(finding, report), *place])


def _count(element: ElementTree.Element) -> None:
    cases = list(element.iter("testcase"))
    element.set("tests", str(len(cases)))
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        element.set(attribute, str(sum(case.find(kind) is not None for case in cases)))
