"""``cu-cert gate`` on signed files: exit codes, reports after every ending, its statement, what it loads."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fake_evidence import LEAK
from gate_files import SIMPLE, Made, ending, forged, inconclusive, made_in
from light_install import SOURCES

from cu_cert.cli.main import run
from cu_certificates._gate.output import FORMATS

WRITTEN = [name for name in FORMATS if name != "github"]


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "CI_JOB_URL"):
        monkeypatch.delenv(name, raising=False)
    made = made_in(tmp_path_factory.getbasetemp(), tmp_path)
    monkeypatch.chdir(made.folder)
    return made


CODES = (0, 1, 2, 3, 4)


@pytest.mark.parametrize("code", CODES)
def test_every_report_is_written_before_any_exit(made: Made, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    certificate, policy = ending(made, code)
    made.policy.write_text(policy)
    reports = made.folder / "reports"
    reports.mkdir()
    asked = [part for name in WRITTEN for part in ("--format", f"{name}={reports / name}")]
    assert run(made.gate(certificate, *asked)) == code
    assert {path.name for path in reports.iterdir()} == set(WRITTEN)
    document = json.loads((reports / "json").read_text())
    assert document["exitCode"] == code
    sarif = json.loads((reports / "sarif").read_text())["runs"][0]
    assert sarif["invocations"][0] == {
        "executionSuccessful": code != 2,
        "exitCode": code,
        **({"toolExecutionNotifications": sarif["invocations"][0]["toolExecutionNotifications"]} if code == 2 else {}),
    }
    top = ElementTree.fromstring((reports / "junit").read_text())
    assert (int(top.attrib["failures"]) + int(top.attrib["errors"]) > 0) is (code != 0)
    assert bool(json.loads((reports / "gitlab").read_text())) is (code != 0)
    assert document["decision"] in (reports / "markdown").read_text().splitlines()[0]
    said = capsys.readouterr()
    assert ("'max_age'" in said.err) is (code == 2)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", FORMATS)
def test_exit_zero_reports_in_every_format_and_hides_no_error(
    made: Made, name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    certificate, policy = ending(made, code)
    made.policy.write_text(policy)
    assert run(made.gate(certificate, "--format", name, "--exit-zero")) == (2 if code == 2 else 0)
    shown = capsys.readouterr().out
    if code == 1 and name != "gitlab-annotations":
        assert "CU102" in shown, "the decision is told all the same"
    if code == 2:
        assert shown.startswith("::error title=cu-cert gate::Nothing was judged: " if name == "github" else "")
        assert name == "github" or shown == ""


def test_the_decision_of_several_certificates_is_the_worst(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    def together(*certificates: Path) -> int:
        first, *rest = certificates
        return run(made.gate(first, *map(str, rest)))

    assert together(made.clean, made.clean) == 0
    assert together(made.clean, inconclusive(made)) == 3
    assert together(inconclusive(made), made.leak, made.clean) == 1
    capsys.readouterr()
    assert together(made.leak, forged(made), inconclusive(made)) == 4
    text = capsys.readouterr().out
    assert "(leak" not in text.splitlines()[0]
    assert f"({made.leak})" in text
    assert text.splitlines()[-1].startswith("Checks: 2/3 signatures ok")
    assert run(made.gate(made.clean, "gone.json")) == 2


def test_every_closed_batch_needs_its_certificate(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    requests = made.folder / "requests"
    requests.mkdir()
    roots = {"2026-10": "1a" * 32, "2026-11": "2b" * 32}
    files = [made.write(f"cert-{name}", root=root) for name, root in roots.items()]
    for name, root in roots.items():
        (requests / f"{name}.root").write_text(root + "\n")
    made.policy.write_text(SIMPLE + 'forget_root = "from:requests/*.root"\n')
    assert run(made.gate(files[0], str(files[1]))) == 0
    assert run(made.gate(files[0], "--json")) == 1
    out = capsys.readouterr().out
    document = json.loads(out[out.index("{") :])
    (found,) = [one for one in document["findings"] if one["outcome"] != "ok"]
    assert (found["rule"], found["certificate"]) == ("CU301", None)
    assert "2026-11.root" in found["found"][0]["text"]
    assert [one["requestRoot"] for one in document["certificates"]] == ["1a" * 32]
    refuted = made.write("refuted", root=roots["2026-11"], means=LEAK)
    assert run(made.gate(files[0], str(refuted))) == 1


def test_the_signed_report_and_personal_data(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    made.policy.write_text(SIMPLE + "report = true\nprivacy_lint = true\n")
    assert run(made.gate(made.clean)) == 0
    page = made.clean.with_name("report.html")
    assert run(made.gate(page)) == 0
    good = page.read_bytes()
    page.write_bytes((made.folder / "leak" / "report.html").read_bytes())
    assert run(made.gate(made.clean)) == 1
    assert "carries another certificate" in capsys.readouterr().out
    page.write_bytes(good.replace(b"<body", b"<body title='x'", 1))
    assert run(made.gate(made.clean)) == 1
    assert "the signer stated sha256:" in capsys.readouterr().out
    page.write_text("<p>hello</p>")
    assert run(made.gate(made.clean)) == 1
    page.unlink()
    assert run(made.gate(made.clean)) == 3
    named = made.write("named", limitations=["ask jane.doe@example.org"])
    assert run(made.gate(named)) == 1
    text = capsys.readouterr().out
    assert "CU502 FAIL  looks like personal data" in text
    assert "jane.doe" not in text


def test_a_countersignature_that_the_policy_demands(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    from datetime import UTC, datetime, timedelta

    from cu_certificates.keys import generate_key, public_path_of
    from cu_certificates.trust import add_key

    made.policy.write_text(SIMPLE + "signatures = { auditor = 1, controller = 1 }\n")
    assert run(made.gate(made.clean)) == 4
    assert "CU003 FAIL  signatures are missing" in capsys.readouterr().out
    key = made.folder / "controller.pem"
    generate_key(key, passphrase=None)
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    add_key(made.trust, public_path_of(key), not_before=yesterday, roles=("controller",))
    signed = ["countersign", str(made.clean), "--key", str(key), "--trust", str(made.trust), "--yes"]
    assert run(signed) == 0
    assert run(made.gate(made.clean.with_name("certificate.dsse.json"))) == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the time-stamping authority is openssl's")
def test_a_time_stamp_that_the_policy_demands(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rfc3161_client", reason="the extra cu-cert[timestamp]")
    from authority import make_authority

    made.policy.write_text(SIMPLE + "timestamp = true\n")
    authority = make_authority(made.folder / "authority")
    made.trust.write_text(made.trust.read_text() + f"\n[time]\ntsa_roots = ['{authority.root}']\n")
    assert run(made.gate(made.clean)) == 4
    assert "CU004 FAIL  no trusted time stamp" in capsys.readouterr().out
    signature = json.loads(made.clean.read_bytes())["dsseEnvelope"]["signatures"][0]["sig"]
    made.clean.with_name("certificate.tsr").write_bytes(authority.stamp(base64.b64decode(signature)))
    assert run(made.gate(made.clean)) == 0
    assert "CU004 ok    time stamp accepted: signed no later than 20" in capsys.readouterr().out


def test_an_output_that_cannot_be_written_is_an_error_and_the_others_stand(made: Made) -> None:
    asked = ("--format", "json=no/gate.json", "--format", f"sarif={made.folder / 'gate.sarif'}")
    assert run(made.gate(made.leak, *asked)) == 2
    assert json.loads((made.folder / "gate.sarif").read_text())["runs"][0]["invocations"][0]["exitCode"] == 1


def test_options_that_make_no_sense(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    for options, told in [
        (("--format", "sarf"), "'sarif'"),
        (("--statement", "x"), "--statement and --key"),
        (("--key", str(made.gate_key)), "--statement and --key"),
        (("--model-digest", "0" * 64), "give one of them"),
    ]:
        assert run(made.gate(made.clean, *options)) == 2
        assert told in capsys.readouterr().err


# --- speed ------------------------------------------------------------------------------------------------------------

OFFLINE = """
import socket, sys
def refuse(*args, **more):
    raise AssertionError("the gate used the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
from cu_cert.cli.main import run
code = run(sys.argv[1:])
heavy = ("torch", "numpy", "scipy", "jinja2", "opacus", "sklearn", "statsmodels", "rich", "urllib.request")
print("LOADED", sorted(name for name in heavy if name in sys.modules))
sys.exit(code)
"""


def test_the_gate_loads_nothing_heavy_and_uses_no_network(made: Made) -> None:
    asked = [part for name in WRITTEN for part in ("--format", f"{name}={made.folder / name}")]
    path = os.pathsep.join(SOURCES)
    found = subprocess.run(
        [sys.executable, "-c", OFFLINE, *made.gate(made.clean, *asked)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": path, "PATH": "/usr/bin"},
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "LOADED []"
