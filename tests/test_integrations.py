"""The integrations, each run as its runner would run it, each with the light install."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from gate_files import Made, made_in
from light_install import REQUIREMENTS, ROOT, digest, require_online, shell, wheel_in
from ruamel.yaml import YAML

ACTION = ROOT / "integrations" / "github" / "action.yml"
GITLAB = ROOT / "integrations" / "gitlab" / "cu-cert-gate.yml"
HOOKS = ROOT / ".pre-commit-hooks.yaml"


def read(file: Path) -> Any:
    return YAML(typ="safe").load(file)


def valued(text: str, inputs: dict[str, str]) -> str:
    """Put values in as GitHub does before it starts a step."""
    values = {f"inputs.{key}": value for key, value in inputs.items()} | {"github.action_path": str(ACTION.parent)}
    return re.sub(r"\$\{\{ ([a-z0-9_.-]+) \}\}", lambda match: values[match[1]], text)


def step(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in read(ACTION)["runs"]["steps"] if one["name"] == name)
    return found


def inputs(**given: str) -> dict[str, str]:
    declared = read(ACTION)["inputs"]
    assert not {key.replace("_", "-") for key in given} - set(declared)
    stated = {key: entry.get("default", "") for key, entry in declared.items()}
    return stated | {key.replace("_", "-"): value for key, value in given.items()}


def run_step(name: str, folder: Path, given: dict[str, str], **runner: str) -> "subprocess.CompletedProcess[str]":
    one = step(name)
    environment = {key: valued(value, given) for key, value in one["env"].items()}
    return shell(one["run"], folder, **environment, **runner)


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs that the action's own first step installs."""
    temporary = tmp_path_factory.mktemp("runner")
    wheel = wheel_in(tmp_path_factory.getbasetemp())
    paths = temporary / "path"
    given = inputs(package=str(wheel), package_sha256=digest(wheel))
    require_online(
        run_step("Install cu-cert without torch", temporary, given, RUNNER_TEMP=str(temporary), GITHUB_PATH=str(paths))
    )
    (programs,) = paths.read_text().splitlines()
    return Path(programs)


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Made:
    return made_in(tmp_path_factory.getbasetemp(), tmp_path)


def on_path(programs: Path) -> dict[str, str]:
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}


def test_the_light_install_holds_no_numerical_library(light: Path) -> None:
    found = subprocess.run([light / "python", "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    names = {entry["name"].lower() for entry in json.loads(found.stdout)}
    assert "cu-cert" in names
    assert not names & {"torch", "numpy", "scipy", "opacus", "statsmodels", "scikit-learn"}


def test_pip_refuses_a_wheel_with_another_hash(
    light: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    wheel = wheel_in(tmp_path_factory.getbasetemp())
    (tmp_path / "nothing.txt").write_text("")
    os.symlink(light.parent, tmp_path / "cu-cert")  # an environment is there already; making another takes seconds
    script = step("Install cu-cert without torch")["run"]
    made_before = "\n".join(line for line in script.splitlines() if "-m venv" not in line)
    assert made_before != script
    found = shell(
        made_before,
        tmp_path,
        RUNNER_TEMP=str(tmp_path),
        GITHUB_PATH=str(tmp_path / "path"),
        PACKAGE=str(wheel),
        PACKAGE_SHA256="0" * 64,
        REQUIREMENTS=str(tmp_path / "nothing.txt"),
        BESIDE="",
    )
    assert found.returncode != 0
    assert "DO NOT MATCH THE HASHES" in found.stderr
    assert not (tmp_path / "path").exists(), "later steps must not find a program"


def test_the_requirements_pin_every_file_and_nothing_heavy() -> None:
    text = REQUIREMENTS.read_text()
    names = re.findall(r"(?m)^([a-z0-9-]+)==[0-9][^ ]*( ; [^\\]*)? \\$", text)
    assert {"cryptography", "jinja2", "typer"} <= {name for name, _ in names}
    assert not {"torch", "numpy", "scipy", "cu-cert"} & {name for name, _ in names}
    for block in re.split(r"(?m)^(?=[a-z])", text)[1:]:
        assert "--hash=sha256:" in block


def gate_step(made: Made, light: Path, **given: str) -> tuple["subprocess.CompletedProcess[str]", dict[str, str], str]:
    """Run the action's gate; returns the run, its outputs and its summary."""
    stated = inputs(policy="cu-cert.toml", trust="trust.toml", model="model.pt", package_sha256="0" * 64, **given)
    output, summary = made.folder / "output", made.folder / "summary.md"
    found = run_step(
        "Gate", made.folder, stated, GITHUB_OUTPUT=str(output), GITHUB_STEP_SUMMARY=str(summary), **on_path(light)
    )
    outputs = dict(line.split("=", 1) for line in output.read_text().splitlines()) if output.exists() else {}
    return found, outputs, summary.read_text() if summary.exists() else ""


def test_the_action_lets_a_satisfied_policy_go_on(made: Made, light: Path) -> None:
    found, outputs, summary = gate_step(made, light, certificates="clean/certificate.sigstore.json\n")
    assert found.returncode == 0, found.stderr
    assert (outputs["decision"], outputs["exit-code"], outputs["verdict"]) == ("policy satisfied", "0", "NOT_REFUTED")
    assert re.fullmatch(r"[0-9a-f]{64}", outputs["certificate-digest"])
    assert summary.startswith("## cu-cert gate: policy satisfied\n")
    assert "::error" not in found.stdout
    reports = {path.name for path in (made.folder / "cu-cert-gate").iterdir()}
    assert reports == {"gate.sarif", "gate.xml", "gate.json"}


def test_the_action_stops_the_job_and_leaves_its_reports(made: Made, light: Path) -> None:
    files = "clean/certificate.sigstore.json\n\nleak/certificate.sigstore.json"
    found, outputs, summary = gate_step(made, light, certificates=files)
    assert found.returncode == 1
    assert outputs["decision"] == "policy violated"
    assert "| CU102 verdict | FAIL |" in summary
    assert "::error file=cu-cert.toml,line=4,title=CU101 eps lower bound exceeds policy::" in found.stdout
    sarif = json.loads((made.folder / "cu-cert-gate" / "gate.sarif").read_text())
    uris = [one["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for one in sarif["runs"][0]["results"]]
    assert set(uris) == {"cu-cert.toml"}
    reported = gate_step(made, light, certificates=files, exit_zero="true")
    assert reported[0].returncode == 0
    assert reported[1]["exit-code"] == "1", "the decision stays what it is"


def test_the_action_writes_reports_also_when_nothing_was_judged(made: Made, light: Path) -> None:
    (made.folder / "cu-cert.toml").write_text("schema = 1\n[policy.requires]\n")
    found, outputs, summary = gate_step(made, light, certificates="clean/certificate.sigstore.json")
    assert found.returncode == 2
    assert outputs == {"decision": "nothing was judged", "exit-code": "2", "verdict": "", "certificate-digest": ""}
    assert "Nothing was judged" in summary
    assert "::error title=cu-cert gate::Nothing was judged" in found.stdout
    document = json.loads((made.folder / "cu-cert-gate" / "gate.json").read_text())
    assert document["exitCode"] == 2


def test_no_input_of_the_action_is_a_command(made: Made, light: Path) -> None:
    evil = '"; touch owned; echo "$(touch owned)`touch owned`'
    found, *_ = gate_step(made, light, certificates=f"{evil}\n-h\n", reports="r", exit_zero=evil)
    assert found.returncode == 2
    assert not (made.folder / "owned").exists()
    scripts = [one["run"] for one in read(ACTION)["runs"]["steps"] if "run" in one]
    assert len(scripts) == 2
    assert not any("${{" in script for script in scripts)


def test_the_action_pins_what_it_uses_and_keeps_reports_of_a_failed_job() -> None:
    used = [one for one in read(ACTION)["runs"]["steps"] if "uses" in one]
    assert len(used) == 2
    for one in used:
        assert re.fullmatch(r"[a-z-]+/[a-z-]+(/[a-z-]+)?@[0-9a-f]{40}", one["uses"])
        assert "always()" in one["if"]


SCHEMAS = [(ACTION, "vendor.github-actions"), (GITLAB, "vendor.gitlab-ci")]


@pytest.mark.parametrize(("file", "schema"), SCHEMAS, ids=lambda value: getattr(value, "stem", None))
def test_the_files_have_the_form_that_their_services_publish(file: Path, schema: str) -> None:
    more = ["--data-transform", "gitlab-ci"] if "gitlab" in schema else []
    program = Path(sys.executable).parent / "check-jsonschema"
    found = subprocess.run([program, "--builtin-schema", schema, *more, file], capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_the_gitlab_job_runs_and_its_exit_code_decides(
    made: Made, light: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    job = read(GITLAB)[".cu-cert-gate"]
    wheel = wheel_in(tmp_path_factory.getbasetemp())
    # The environment of the action is the one that these lines would make; installing it twice shows nothing new.
    os.symlink(light.parent, made.folder / ".cu-cert-venv")
    lines = [line for line in job["script"] if "-m venv" not in line]
    assert len(lines) == len(job["script"]) - 1
    variables = {key: str(value) for key, value in job["variables"].items()} | {
        "CU_CERT_PACKAGE": str(wheel),
        "CU_CERT_PACKAGE_SHA256": digest(wheel),
        "CU_CERT_REQUIREMENTS": str(REQUIREMENTS),
        "CI_JOB_URL": "https://gitlab.example/g/p/-/jobs/17",
    }
    codes = {"clean": 0, "leak": 1, "forged": 4}
    (made.folder / "forged").mkdir()
    forged = made.clean.read_bytes().replace(b'"keyid":"SHA256:', b'"keyid":"SHA256:A', 1)
    (made.folder / "forged" / "certificate.sigstore.json").write_bytes(forged)
    for name, code in codes.items():
        certificate = {"CU_CERT_CERTIFICATES": f"{name}/certificate.sigstore.json"}
        found = shell("\n".join(lines), made.folder, **variables | certificate)
        if found.returncode != code:
            require_online(found)
        assert found.returncode == code, found.stderr
        reports = made.folder / "cu-cert-gate"
        issues = json.loads((reports / "codequality.json").read_text())
        assert bool(issues) is (code != 0)
        links = json.loads((reports / "annotations.json").read_text())["cu-cert"]
        page = f"https://gitlab.example/g/p/-/jobs/17/artifacts/file/{name}/report.html"
        assert [link["external_link"]["url"] for link in links] == ([page] if name != "forged" else [])
    assert job["allow_failure"] == {"exit_codes": [3]}
    stated = {path for group in job["artifacts"]["reports"].values() for path in [group]}
    assert {Path(path).name for path in stated} <= {path.name for path in reports.iterdir()}


def test_the_pre_commit_hook_runs_as_pre_commit_runs_it(made: Made, light: Path) -> None:
    (hook,) = read(HOOKS)
    for name, good in (("clean", True), ("leak", True), ("forged", False)):
        assert re.search(hook["files"], f"{name}/certificate.sigstore.json")
        if not good:
            (made.folder / name).mkdir()
            (made.folder / name / "certificate.sigstore.json").write_bytes(made.clean.read_bytes()[:-40])
    assert re.search(hook["files"], "cu-cert.toml")
    assert not re.search(hook["files"], "not-cu-cert.toml")
    tools, repository = made.folder / "tools", made.folder
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    tools.mkdir()
    (tools / HOOKS.name).write_bytes(HOOKS.read_bytes())
    for folder in (tools, repository):
        subprocess.run([*git, "init", "-q"], cwd=folder, check=True)
    subprocess.run([*git, "add", "."], cwd=tools, check=True)
    subprocess.run([*git, "commit", "-q", "-m", "hook"], cwd=tools, check=True)
    (repository / ".gitignore").write_text("tools/\n")
    head = subprocess.run([*git, "rev-parse", "HEAD"], cwd=tools, check=True, capture_output=True, text=True)
    (repository / ".pre-commit-config.yaml").write_text(
        f"repos:\n- repo: {tools}\n  rev: {head.stdout.strip()}\n  hooks:\n"
        f"  - id: {hook['id']}\n    args: [--trust, {made.trust}]\n"
    )
    program = Path(sys.executable).parent / "pre-commit"
    environment = {**os.environ, **on_path(light), "PRE_COMMIT_HOME": str(made.folder / "cache")}

    def commit(*files: str) -> "subprocess.CompletedProcess[str]":
        arguments = [program, "run", "--verbose", "--files", *files]
        return subprocess.run(arguments, cwd=repository, env=environment, capture_output=True, text=True)

    good = commit("clean/certificate.sigstore.json", "leak/certificate.sigstore.json", "cu-cert.toml", "model.pt")
    assert good.returncode == 0, good.stdout
    assert "signature valid, stated verdict NOT_REFUTED" in good.stdout
    assert "signature valid, stated verdict REFUTED" in good.stdout
    assert "policy readable; 2 demands" in good.stdout
    bad = commit("forged/certificate.sigstore.json")
    assert bad.returncode == 1
    assert "exit code: 4" in bad.stdout
    (repository / "cu-cert.toml").write_text("schema = 1\n[policy.require]\nmax_ages = '9d'\n")
    bad = commit("cu-cert.toml")
    assert "exit code: 2" in bad.stdout
    assert "'max_age'" in bad.stdout
