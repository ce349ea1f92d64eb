"""A pytest plugin: a certificate as a fixture, and demands on it as a marker.

    pytest --cu-cert audit-out/certificate.sigstore.json --cu-cert-trust trust.toml --cu-cert-model model.pt

``unlearning_certificate`` is the certificate once it was verified; a test reads its claims. A test that is marked with
``@pytest.mark.unlearning(verdict=["NOT_REFUTED"], detect_eps_max="2")`` fails unless the gate finds those demands met;
the keys are those of ``[policy.require]``. Without ``--cu-cert`` both are skipped, and nothing of cu-cert is loaded.

This module is loaded by every pytest of an environment that holds cu-cert, so it imports nothing of ours and changes
nothing unless it is used; ``-p no:cu_cert`` turns it off.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from cu_certificates.verify import Certificate

_OPTIONS = {
    "--cu-cert": "Certificate (or report.html) that the fixture unlearning_certificate verifies.",
    "--cu-cert-trust": "The keys you trust. Default: trust.toml in your configuration folder.",
    "--cu-cert-model": "The model that the certificate must be about; it is hashed, never loaded.",
    "--cu-cert-evidence": "Folder with plan.json and the evidence files. Default: the certificate's own folder.",
}
_MARKER = (
    "unlearning(**require): fail unless the certificate meets these demands, as in [policy.require] of cu-cert.toml"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options; each is a file or folder."""
    group = parser.getgroup("cu-cert", "unlearning certificates")
    for option, text in _OPTIONS.items():
        group.addoption(option, metavar="FILE", default=None, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Announce the marker, so that ``--strict-markers`` knows it."""
    config.addinivalue_line("markers", _MARKER)


def _given(config: pytest.Config, option: str) -> Path | None:
    stated = config.getoption(option)
    return None if stated is None else Path(config.invocation_params.dir, stated)


def _required(config: pytest.Config) -> Path:
    file = _given(config, "--cu-cert")
    if file is None:
        pytest.skip("no certificate was given; name one with --cu-cert FILE")
    return file


@pytest.fixture(scope="session")
def unlearning_certificate(pytestconfig: pytest.Config) -> "Certificate":
    """The certificate of ``--cu-cert``, once signature, trust, time, subject, evidence and claims were accepted.

    A certificate that is not trusted fails each test that asks for it; without ``--cu-cert`` they are skipped.
    """
    file = _required(pytestconfig)
    from datetime import UTC, datetime

    from cu_certificates.errors import CertificateError
    from cu_certificates.trust import reader_trust
    from cu_certificates.verify import verify

    try:
        return verify(
            file,
            trust=reader_trust(_given(pytestconfig, "--cu-cert-trust")),
            model=_given(pytestconfig, "--cu-cert-model"),
            evidence=_given(pytestconfig, "--cu-cert-evidence"),
            now=datetime.now(UTC),
        )
    except CertificateError as error:
        pytest.fail(f"{file}: {error}", pytrace=False)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Hold the certificate against the demands of the marker before the test's own body runs.

    The demands of all markers of a test, nearest first, are put together; the nearest one wins.
    """
    marks = list(item.iter_markers("unlearning"))
    if marks:
        _judge(item, {key: value for mark in reversed(marks) for key, value in mark.kwargs.items()}, marks[0].args)


def _judge(item: pytest.Item, require: dict[str, object], stray: tuple[object, ...]) -> None:
    file, model = _required(item.config), _given(item.config, "--cu-cert-model")
    from datetime import UTC, datetime

    from cu_certificates.errors import CertificateError
    from cu_certificates.gate import run_gate
    from cu_certificates.policy import policy_of

    if stray:
        pytest.fail('unlearning: demands are named, as in unlearning(detect_eps_max="2")', pytrace=False)
    if model is None:
        pytest.fail("unlearning: the demands are not bound to a model; name it with --cu-cert-model", pytrace=False)
    try:
        report = run_gate(
            file,
            policy=policy_of(require, item.path.name, item.path.parent),
            trust=_given(item.config, "--cu-cert-trust"),
            model=model,
            evidence=_given(item.config, "--cu-cert-evidence"),
            now=datetime.now(UTC),
        )
    except CertificateError as error:
        pytest.fail(f"unlearning: nothing was judged: {error}", pytrace=False)
    if report.exit_code:
        pytest.fail(report.to_text(), pytrace=False)
