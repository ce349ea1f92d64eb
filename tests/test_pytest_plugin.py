"""The pytest plugin: loaded by its entry point, harmless when unused, and failing where the certificate does."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from gate_files import Made, made_in
from light_install import ROOT, SOURCES, declared_plugin

TESTS = """
import pytest

def test_reads(unlearning_certificate):
    assert unlearning_certificate.verdict == "NOT_REFUTED"
    assert unlearning_certificate.predicate["scope"]["model"]["name"] == "model.pt"

@pytest.mark.unlearning(verdict=["NOT_REFUTED"], eps_lower_max={"value": "0.50", "delta": "0", "alpha": "1/20"})
def test_meets():
    pass

@pytest.mark.unlearning(detect_eps_max="1/10")
def test_wants_more_power():
    raise AssertionError("the body must not run")

def test_other():
    pass
"""


@pytest.fixture
def made(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Made:
    made = made_in(tmp_path_factory.getbasetemp(), tmp_path)
    declared_plugin(made.folder)
    (made.folder / "tests").mkdir()
    (made.folder / "tests" / "test_model.py").write_text(TESTS)
    return made


def run(made: Made, *arguments: str) -> "subprocess.CompletedProcess[str]":
    own = {key: value for key, value in os.environ.items() if not key.startswith(("CU_CERT_", "PYTEST_"))}
    path = os.pathsep.join([str(made.folder / "site"), *SOURCES])
    alone = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "--strict-markers", *alone, "tests", *arguments],
        cwd=made.folder,
        env=own | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def given(made: Made, name: str) -> list[str]:
    return ["--cu-cert", f"{name}/certificate.sigstore.json", "--cu-cert-trust", "trust.toml"]


def test_fixture_and_marker(made: Made) -> None:
    found = run(made, *given(made, "clean"), "--cu-cert-model", "model.pt", "--junitxml", "junit.xml")
    assert found.returncode == 1, found.stdout
    for name in ("test_reads", "test_meets", "test_other"):
        assert f"PASSED tests/test_model.py::{name}" in found.stdout
    assert "FAILED tests/test_model.py::test_wants_more_power" in found.stdout
    assert "CU103 INCONCLUSIVE the audit could not have seen enough" in found.stdout
    assert "the body must not run" not in found.stdout
    assert 'failures="1"' in (made.folder / "junit.xml").read_text()
    chosen = run(made, *given(made, "clean"), "--cu-cert-model", "model.pt", "-k", "not wants_more_power")
    assert chosen.returncode == 0


def test_a_refuted_or_foreign_certificate_fails(made: Made) -> None:
    found = run(made, *given(made, "leak"), "--cu-cert-model", "model.pt")
    assert "FAILED tests/test_model.py::test_meets" in found.stdout
    assert "CU102 FAIL  the unlearning claim is refuted" in found.stdout
    (made.folder / "other.pt").write_bytes(b"other")
    found = run(made, *given(made, "clean"), "--cu-cert-model", "other.pt")
    assert "ERROR tests/test_model.py::test_reads" in found.stdout
    assert "subject: " in found.stdout
    assert "CU001 FAIL  certificate not accepted" in found.stdout


def test_without_a_certificate_both_are_skipped_and_nothing_of_ours_is_loaded(made: Made) -> None:
    (made.folder / "tests" / "conftest.py").write_text(
        "def pytest_sessionfinish():\n    import sys\n"
        "    print('LOADED', sorted(n for n in sys.modules if n.startswith('cu_') or n in ('torch', 'numpy')))\n"
    )
    found = run(made)
    assert found.returncode == 0, found.stdout
    assert "1 passed, 3 skipped" in found.stdout
    assert "no certificate was given" in found.stdout
    assert "LOADED ['cu_cert', 'cu_cert.pytest_plugin']" in found.stdout


def test_the_distribution_declares_it() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    assert declared == {"cu_cert": "cu_cert.pytest_plugin"}


def test_it_can_be_turned_off(made: Made) -> None:
    (made.folder / "tests" / "test_model.py").write_text("def test_other():\n    pass\n")
    found = run(made, "-p", "no:cu_cert", "--cu-cert", "x")
    assert "unrecognized arguments: --cu-cert" in found.stderr
    assert run(made, "-p", "no:cu_cert").returncode == 0


def test_a_misspelt_demand_is_no_demand(made: Made) -> None:
    misuse = {
        'detect_eps="2"': "unknown key 'detect_eps'",
        "detect_eps_max=2": "in quotation marks",
        '"2"': "demands are named",
    }
    tests = "".join(
        f"@pytest.mark.unlearning({demand})\ndef test_{number}():\n    pass\n" for number, demand in enumerate(misuse)
    )
    (made.folder / "tests" / "test_model.py").write_text(f"import pytest\n\n{tests}")
    found = run(made, *given(made, "clean"), "--cu-cert-model", "model.pt")
    assert f"{len(misuse)} failed" in found.stdout
    for told in misuse.values():
        assert told in found.stdout


def test_demands_must_be_bound_to_a_model(made: Made) -> None:
    found = run(made, *given(made, "clean"), "-k", "meets")
    assert found.returncode == 1
    assert "not bound to a model" in found.stdout


def test_demands_of_class_and_test_are_put_together(made: Made) -> None:
    (made.folder / "tests" / "test_model.py").write_text(
        "import pytest\n\n@pytest.mark.unlearning(detect_eps_max='1/10', verdict=['NOT_REFUTED'])\nclass TestIt:\n"
        "    @pytest.mark.unlearning(detect_eps_max='9')\n    def test_near(self):\n        pass\n"
        "    def test_far(self):\n        pass\n"
    )
    found = run(made, *given(made, "clean"), "--cu-cert-model", "model.pt")
    assert "PASSED tests/test_model.py::TestIt::test_near" in found.stdout
    assert "FAILED tests/test_model.py::TestIt::test_far" in found.stdout
