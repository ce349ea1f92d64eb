"""docs/gate.md: its commands run, its files have the form that their services publish, its example policy is read."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from gate_files import Made, made_in
from light_install import ROOT, SOURCES, declared_plugin

from cu_certificates._forbidden import forbidden_in
from cu_certificates.policy import load_policy

PAGE = ROOT / "docs" / "gate.md"
TEXT = PAGE.read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", TEXT)


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Made:
    """The folder that the page speaks of."""
    made = made_in(tmp_path_factory.getbasetemp(), tmp_path)
    (made.folder / "clean").rename(made.folder / "audit-out")
    programs = made.folder / "programs"
    programs.mkdir()
    path = os.pathsep.join([str(declared_plugin(made.folder)), *SOURCES])
    for name, module in (("cu-cert", "cu_cert"), ("pytest", "pytest")):
        (programs / name).write_text(f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    return made


def shell(script: str, made: Made) -> "subprocess.CompletedProcess[str]":
    own = {key: value for key, value in os.environ.items() if not key.startswith(("CU_CERT_", "PYTEST_", "GITHUB_"))}
    path = f"{made.folder / 'programs'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        cwd=made.folder,
        env=own | {"PATH": path, "CU_CERT_CONFIG": str(made.folder / "config")},
        capture_output=True,
        text=True,
    )


def test_every_command_of_the_page_runs(made: Made) -> None:
    (policy,) = [block for block in blocks("toml") if "forget_root" in block]
    (made.folder / "policy.toml").write_text(policy)
    requests, certificates, tests = (made.folder / name for name in ("requests", "certificates", "tests"))
    for folder in (requests, certificates, tests):
        folder.mkdir()
    import base64
    import json

    bundle = (made.folder / "audit-out" / "certificate.sigstore.json").read_bytes()
    payload = json.loads(base64.b64decode(json.loads(bundle)["dsseEnvelope"]["payload"]))
    (requests / "2026-11.root").write_text(payload["predicate"]["request"]["commitment"]["root"] + "\n")
    (certificates / "november.sigstore.json").write_bytes(bundle)
    (certificates / "report.html").write_bytes((made.folder / "audit-out" / "report.html").read_bytes())
    (example,) = blocks("python")
    (tests / "test_release.py").write_text(example)
    run = [block for block in blocks("sh") if not block.startswith("pip install")]
    assert len(run) == len(blocks("sh")) - 1
    for block in run:
        found = shell(block, made)
        assert found.returncode == 0, (block, found.stdout[-2000:], found.stderr)
    for name in ("gate.json", "gate.sarif", "gate.xml", "gate.md", "gate.sigstore.json"):
        assert (made.folder / name).is_file()


def test_the_install_line_is_the_one_of_the_read_me() -> None:
    (line,) = [block for block in blocks("sh") if block.startswith("pip install")]
    told = " ".join((ROOT / "README.md").read_text().split())
    assert line.strip() in told


def test_the_policies_of_the_page_can_be_read(tmp_path: Path) -> None:
    policy, exception = blocks("toml")
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "a.root").write_text("0" * 64)
    (tmp_path / "policy.toml").write_text(policy + exception)
    found = load_policy(tmp_path / "policy.toml")
    assert len(found.forget_roots) == 1
    assert found.exceptions[0].rule == "CU105"


SCHEMAS = ("vendor.github-workflows", "vendor.gitlab-ci", "pre-commit")


def test_the_workflow_files_have_the_form_that_their_services_publish(tmp_path: Path) -> None:
    found = blocks("yaml")
    assert len(found) == len(SCHEMAS)
    for number, (block, schema) in enumerate(zip(found, SCHEMAS, strict=True)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        programs = Path(sys.executable).parent
        if schema == "pre-commit":
            command = [programs / "pre-commit", "validate-config", file]
        else:
            more = ["--data-transform", "gitlab-ci"] if "gitlab" in schema else []
            command = [programs / "check-jsonschema", "--builtin-schema", schema, *more, file]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_names_in_the_page_exist() -> None:
    from ruamel.yaml import YAML

    read = YAML(typ="safe").load
    action = read(ROOT / "integrations" / "github" / "action.yml")
    workflow = read(blocks("yaml")[0])
    given = workflow["jobs"]["gate"]["steps"][1]["with"]
    assert set(given) <= set(action["inputs"])
    required = {name for name, entry in action["inputs"].items() if entry.get("required")}
    assert required <= set(given)
    for output in action["outputs"]:
        assert f"`{output}`" in TEXT
    job = read(ROOT / "integrations" / "gitlab" / "cu-cert-gate.yml")[".cu-cert-gate"]
    assert set(read(blocks("yaml")[1])["gate"]["variables"]) <= set(job["variables"])
    (hook,) = read(ROOT / ".pre-commit-hooks.yaml")
    assert hook["id"] in TEXT
    for target in re.findall(r"\]\((rules/[^)#]+|rules)\)", TEXT):
        assert (PAGE.parent / target).exists(), target
    from cu_certificates._gate.output import FORMATS

    for name in FORMATS:
        assert f"| `{name}` |" in TEXT


def test_the_page_claims_no_more_than_an_audit_can_show() -> None:
    said = re.sub(r"(?ms)^```.*?^```$", "", TEXT)
    assert [one.words for one in forbidden_in(said, ["en"])] == []
