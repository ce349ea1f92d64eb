"""The main job: train on digits, take a request, audit three subjects under one plan, sign, verify, gate."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cu_cert.errors import ConfigError
from cu_cert.project import find_project, init_project, load_project
from cu_cert.protocol import audit_subjects
from cu_cert.subjects import SubjectInput
from cu_cert.training import train_model
from cu_cert.unlearning import unlearn_model
from cu_certificates._files import make_folder, write_atomic
from cu_certificates.gate import GateReport, run_gate
from cu_certificates.policy import load_policy
from cu_certificates.trust import load_trust, write_trust
from cu_certificates.verify import verify

REQUEST_SIZE: Final = 50
SUBJECTS: Final = (("untouched", "identity"), ("approximate", "npo"), ("retrained", "retrain"))
MARKER: Final = "cu-cert demo folder\n"


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """One subject of the demo.

    Args:
        name: Its folder.
        method: How its model was made.
        verdict: The certificate's verdict.
        reasons: Why.
        gate: The gate's decision on the default policy.
        report: The report to open.
    """

    name: str
    method: str
    verdict: str
    reasons: tuple[str, ...]
    gate: GateReport
    report: Path


def demo(out: Path, *, quiet: bool = False, say: Callable[[str], None] = print) -> tuple[DemoResult, ...]:
    """Run the whole product once on scikit-learn's digits.

    Args:
        out: Folder for everything; made when absent, and continued when an earlier demo was cut off there.
        quiet: Show no progress bars.
        say: Receives what is done, line by line.

    Returns:
        What became of each subject.

    Raises:
        ConfigError: ``out`` holds something else.
        Interrupted: The run was stopped; the same command goes on.
    """
    _claim_folder(out)
    if not (out / "cu-cert.toml").exists():
        init_project(out)
    project = load_project(find_project(out))
    say(f"1. project file: {out / 'cu-cert.toml'} (scikit-learn's digits, built in)")

    original = out / "model.pt"
    trained = train_model(project, original)
    say(f"2. trained {original}: held-out accuracy {trained.held_out_accuracy:.4f}")

    forget = out / "ids.txt"
    _write_request(forget, trained.train_ids)
    say(f"3. deletion request: {forget} names {REQUEST_SIZE} records")

    subjects = []
    for name, method in SUBJECTS:
        folder = out / name
        make_folder(folder)
        model = folder / "model.pt"
        unlearn_model(project, original, forget, model, method=method)
        subjects.append(
            SubjectInput(model=model, out=folder, method=method, options={}, original=original, name=f"{name}.pt")
        )
    say("4. three subjects: the untouched model, one edited by npo, one retrained without the records")

    say("5. one plan and one fleet for all three:")
    audited = audit_subjects(project, subjects, forget, quiet=quiet, say=lambda line: say(f"   {line}"))
    assert audited.key is not None  # the demo always signs
    trust = out / "trust.toml"
    public = out / "auditor.pub.pem"
    shutil.copyfile(audited.key.public_path, public)
    write_trust(trust, public, not_before=datetime.now(UTC).replace(microsecond=0) - timedelta(days=1), replace=True)
    made = "a new local key" if audited.key.created else "the local key"
    say(f"6. signed with {made} {audited.key.path}")
    say(f"   fingerprint {audited.key.key.keyid}; {trust} trusts it for this demo")

    results = []
    for (name, method), issued in zip(SUBJECTS, audited.issued, strict=True):
        now = datetime.now(UTC)
        certificate = verify(issued.report, trust=load_trust(trust), model=out / name / "model.pt", now=now)
        report = run_gate(
            issued.certificate,
            policy=load_policy(out / "cu-cert.toml"),
            trust=trust,
            model=out / name / "model.pt",
            now=now,
        )
        results.append(
            DemoResult(
                name=name,
                method=method,
                verdict=certificate.verdict,
                reasons=certificate.check.reasons,
                gate=report,
                report=issued.report,
            )
        )
    for line in _summary(out, tuple(results), str(audited.plan.alpha_total)):
        say(line)
    return tuple(results)


def _claim_folder(out: Path) -> None:
    """Make the demo's folder, or accept one that an earlier demo made."""
    marker = out / ".cu-cert-demo"
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file; expected a folder")
    if out.is_dir() and any(out.iterdir()) and not marker.is_file():
        raise ConfigError(f"--out {out}: holds other files; expected a new folder, or one that an earlier demo made")
    make_folder(out)
    write_atomic(marker, MARKER.encode(), what="demo marker")


def _write_request(path: Path, ids: tuple[str, ...]) -> None:
    """Take 50 ids by a keyed hash, fixed in advance, so that neither seed nor outcome chooses them."""
    from cu_cert.rng import Stream

    order = Stream.from_seed("cu-cert demo request").order(ids)
    chosen = sorted(ids[position] for position in order[:REQUEST_SIZE])
    text = "# Records that must go: one id a line.\n" + "\n".join(chosen) + "\n"
    write_atomic(path, text.encode(), what="id list")


def _summary(out: Path, results: tuple[DemoResult, ...], alpha: str) -> list[str]:
    lines = ["", f"{'subject':12}{'made by':12}{'verdict':14}{'gate':20}report"]
    lines += [
        f"{result.name:12}{result.method:12}{result.verdict:14}{result.gate.decision:20}{result.report}"
        for result in results
    ]
    lines += ["", "Why:"]
    lines += [f"  {result.name}: {reason}" for result in results for reason in result.reasons]
    first, last, trust = results[0].report, results[-1].report.parent, out / "trust.toml"
    lines += [
        "",
        f"A false refutation of the retrained model is expected in up to a share alpha = {alpha} of all seeds and",
        "machines: an audit that never errs is one that never looks. The plan fixed the coins and seeds.",
        "",
        f"Open next:  {first}",
        f"Re-check:   cu-cert verify {first} --trust {trust} --model {first.parent / 'model.pt'}",
        f"Decide:     cu-cert gate {last / 'certificate.sigstore.json'} --policy {out / 'cu-cert.toml'} "
        f"--trust {trust} --model {last / 'model.pt'}",
    ]
    return lines


def as_json(results: tuple[DemoResult, ...]) -> str:
    """Write the results for a program."""
    return json.dumps(
        {
            "schema": "cu-cert-demo/1",
            "subjects": [
                {
                    "name": result.name,
                    "method": result.method,
                    "verdict": result.verdict,
                    "reasons": list(result.reasons),
                    "gate": result.gate.decision,
                    "gateCode": result.gate.exit_code,
                    "report": str(result.report),
                }
                for result in results
            ],
        },
        indent=2,
    )
