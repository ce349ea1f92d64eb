"""What ``cu-cert drill`` reads and prints."""

import textwrap
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from cu_attacks.onerun import OneRun
from cu_cert._drill_lab import CONTROLS
from cu_cert.drilling import DrillResult, DrillSubject
from cu_cert.errors import ConfigError

if TYPE_CHECKING:
    from cu_cert.drill_certificate import CertifiedDrill


def level(text: str) -> Fraction:
    """Read the value of ``--alpha``, a decimal or a fraction.

    Raises:
        ConfigError: It is neither.
    """
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise ConfigError(f"--alpha {text}: expected a decimal or a fraction, such as 0.05 or 1/20") from None


def drill_json(done: DrillResult) -> dict[str, Any]:
    """Return the outcome for a program; what stands at the top is the method's."""
    design, seen = done.design, done.resolution
    resolution = {
        "eps_request_max": float(seen.max_request),
        "eps_record_max": float(seen.max_record),
        "right_to_refute": seen.critical,
        "accuracy_80": float(seen.accuracy),
        "detect_eps": float(seen.detect_eps),
        "reached": seen.reached,
    }
    return {
        "schema": "cu-cert-drill/1",
        "method": design.method,
        "parameters": dict(design.parameters),
        **_subject_json(done.method),
        "resolution": resolution,
        "subjects": [_named_json(subject, resolution) for subject in done.subjects],
        "canaries": design.canaries,
        "candidates": design.candidates,
        "included": done.included,
        "references": design.references,
        "alpha": str(design.alpha),
        "alpha_per_side": str(design.side_alpha),
        "tested_eps": float(design.tested_eps),
        "tested_delta": float(design.tested_delta),
        "seed": design.seed,
        "negative_control": {
            "retrains": CONTROLS,
            "right": done.control,
            "guesses": seen.guesses,
            "failed": done.control_failed,
        },
        "positive_control": {"refuted": done.original_refuted},
        "total_cpu_seconds": round(done.total_cpu_seconds, 3),
        "shows_not": done.shows_not,
    }


def _named_json(subject: DrillSubject, resolution: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": subject.name,
        **_subject_json(subject),
        "resolution": resolution,
        "sides": {
            "remembering": _side_json(subject.remembering),
            "over-forgetting": _side_json(subject.over_forgetting),
        },
        "kinds": {kind: {"right": right, "guesses": of} for kind, (right, of) in subject.strata.items()},
    }


def _subject_json(subject: DrillSubject) -> dict[str, Any]:
    return {
        "verdict": subject.verdict,
        "reason": subject.reason,
        "side": subject.side,
        **_side_json(subject.decisive),
        "held_out_accuracy": round(subject.accuracy, 4),
        "cpu_seconds": round(subject.cpu_seconds, 3),
    }


def _side_json(side: OneRun) -> dict[str, Any]:
    return {
        "eps_request_lower": float(side.request_bound),
        "eps_record_lower": float(side.record_bound),
        "right": side.right,
        "guesses": side.guesses,
    }


_HEAD = ("model", "right guesses", "for the whole request", "for one record", "accuracy", "verdict", "CPU s")


def certified_json(done: "CertifiedDrill") -> dict[str, Any]:
    """Return the outcome of a drill with its certificate."""
    issued = done.issued
    certificate: dict[str, Any] = {
        "plan": done.plan.digest,
        "certificate": str(issued.certificate),
        "report": str(issued.report),
        "signed": done.key is not None,
        "stated": issued.result.stated,
        "derived": issued.result.derived,
        "reasons": list(issued.result.reasons),
    }
    if done.key is not None:
        certificate |= {"keyid": done.key.key.keyid, "publicKey": str(done.key.public_path)}
    found = drill_json(done.result)
    del found["seed"]  # it stands in the evidence, and nowhere else
    return found | {"issued": certificate}


def certified_lines(done: "CertifiedDrill") -> list[str]:
    """Return the outcome of a drill with its certificate; the verdict is the last line."""
    from cu_cert.cli._audit_text import issued_lines

    head = f"plan {done.plan.digest[:16]}, attempt {done.plan.attempt}: fixed and written down before the coins"
    return [head, *drill_lines(done.result, verdict=False), *issued_lines(done.issued, done.key)]


def drill_lines(done: DrillResult, *, verdict: bool = True) -> list[str]:
    """Return the outcome for a person; the verdict is the last line.

    Args:
        done: The drill.
        verdict: Whether reason and verdict are told; where there is a certificate, it tells them.
    """
    design, seen = done.design, done.resolution
    table = [_HEAD, *(_row(subject, design.method) for subject in done.subjects)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    control = "told the coins, so no guess counts" if done.control_failed else "as chance has it"
    notes = {
        "controls": f"original {'' if done.original_refuted else 'not '}refuted; retrained models: {done.control} of "
        f"{seen.guesses} right, {control}",
        "resolution": f"eps* = {float(design.tested_eps):g} is refuted from {seen.critical} right guesses on (in 4 of "
        f"5 drills at a true accuracy of {float(seen.accuracy):.3f}); all right would show "
        f"{float(seen.max_request):.4f} for the whole request and {float(seen.max_record):.4f} for one record",
        "not shown": done.shows_not,
        **({"reason": done.method.reason, "verdict": done.verdict} if verdict else {}),
    }
    return [
        f"drill of {design.method}: {design.candidates} {design.canaries} candidates, "
        f"{done.included} of them trained on and then unlearned",
        f"({design.references} reference models, {done.total_cpu_seconds:.1f} CPU-seconds in all)",
        "",
        *("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table),
        "",
        *_kinds(done),
        *(line for name, text in notes.items() for line in _wrapped(name, text)),
    ]


def _wrapped(name: str, text: str) -> list[str]:
    return textwrap.wrap(text, 108, initial_indent=f"{name:12}", subsequent_indent=" " * 12)


def _row(subject: DrillSubject, method: str) -> tuple[str, ...]:
    side = subject.decisive
    reversed_ = " (over-forgotten)" if subject.side == "over-forgetting" and side.request_bound else ""
    return (
        method if subject.name == "method" else subject.name,
        f"{side.right} of {side.guesses}{reversed_}",
        f"eps >= {float(side.request_bound):.4f}",
        f"eps >= {float(side.record_bound):.4f}",
        f"{subject.accuracy:.4f}",
        subject.verdict,
        f"{subject.cpu_seconds:.2f}",
    )


def _kinds(done: DrillResult) -> list[str]:
    """Return one line for each kind of a mixed drill; counts only, for the bounds are those of all kinds together."""
    kinds = list(done.method.strata)
    if len(kinds) < 2:
        return []
    lines = []
    for kind in kinds:
        counts = ", ".join(
            f"{done.design.method if subject.name == 'method' else subject.name} {right} of {of}"
            for subject in done.subjects
            for right, of in [subject.strata[kind]]
        )
        lines.append(f"{kind:12}{counts} right{' (should be near half)' if kind == 'typical' else ''}")
    return lines
