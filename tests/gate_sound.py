"""Whether a report has the form that its service reads, by roads of their own: schemas, parsers, the runner's rules."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import jsonschema
from markdown_it import MarkdownIt
from sarif_subset import SARIF

from cu_certificates._gate.github import SHOWN
from cu_certificates.gate import GateReport
from cu_certificates.policy import RULES


def sarif_is_sound(text: str) -> None:
    document = json.loads(text)
    jsonschema.validate(document, SARIF, cls=jsonschema.Draft202012Validator)
    run = document["runs"][0]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(RULES)
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        # [text](target) would be a link and {0} a placeholder to a reader of SARIF messages.
        assert not re.search(r"[\[\]{}]", result["message"]["text"])


def junit_is_sound(text: str, report: GateReport) -> None:
    top = ElementTree.fromstring(text)  # characters that XML cannot hold would stop it
    assert top.tag == "testsuites"
    kinds = {"testsuites", "testsuite", "testcase", "failure", "error", "skipped", "system-out"}
    assert {element.tag for element in top.iter()} <= kinds
    cases = list(top.iter("testcase"))
    assert int(top.attrib["tests"]) == len(cases)
    for attribute, kind in (("failures", "failure"), ("errors", "error")):
        assert int(top.attrib[attribute]) == len(list(top.iter(kind)))
    assert {case.attrib["classname"] for case in cases} == {"cu-cert gate"}
    blocking = len(list(top.iter("failure"))) + len(list(top.iter("error")))
    assert bool(blocking) is (report.exit_code != 0)
    assert not re.search("(?i)timestamp=|hostname=|time=", text)


def runner_reads(line: str) -> tuple[str, dict[str, str], str]:
    """Read a workflow command as the runner does (actions/runner, ActionCommand.cs), by another road than ours."""
    line = line.lstrip()
    assert line.startswith("::")
    end = line.index("::", 2)
    kind, _, stated = line[2:end].partition(" ")
    marks = {"%0D": "\r", "%0A": "\n", "%25": "%"}
    more = marks | {"%3A": ":", "%2C": ","}

    def unescape(text: str, known: dict[str, str]) -> str:
        return re.sub("|".join(known), lambda match: known[match[0]], text)

    properties = dict(pair.split("=", 1) for pair in stated.split(",") if pair)
    return kind, {key: unescape(value, more) for key, value in properties.items()}, unescape(line[end + 2 :], marks)


def github_is_sound(text: str) -> None:
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("::error ")]) <= SHOWN + 1
    for line in lines:
        kind, properties, _ = runner_reads(line)
        assert kind in ("error", "warning")
        assert set(properties) <= {"file", "line", "title"}
        assert re.fullmatch(r"cu-cert gate|CU[0-9]{3} [a-z' ]+", properties["title"])
        assert properties.get("line", "1").isdigit()


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        assert not [key for key, _ in attrs if key not in ("start",)], (tag, attrs)


def markdown_is_sound(text: str) -> None:
    """Render as GitHub would (CommonMark with tables, HTML let through) and look for anything but plain structure."""
    tags = Tags()
    tags.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(text))
    assert set(tags.found) <= {
        "h2", "h3", "ol", "ul", "li", "p", "code", "table", "thead", "tbody", "tr", "th", "td"
    }, tags.found  # fmt: skip
    assert tags.found.count("h2") == 1
    assert tags.found.count("td") % 4 == 0
