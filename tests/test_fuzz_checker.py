"""The checker under changed input: an answer or a refusal, and soon; and the fuzzer finds the faults that there are."""

import json
import random
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import SLOW
from fake_certificate import fake
from fake_evidence import CLEAN, LEAK, Knobs
from fake_sequential import fake_sequential, sequential_knobs
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_folder import SKELETON
from test_beside_mutations import base
from test_strict import VALUES

from benchmarks import fuzz_checker
from benchmarks._fuzz_mutate import changed_bytes, changed_value
from benchmarks.fuzz_checker import Seeds, Target, attempt, changed, fuzz, main, seeds_from, targets_of
from cu_certificates.check import rules
from cu_certificates.check.carrier import join_report
from cu_certificates.check.checker import check_payload
from cu_certificates.check.strict import Rejected, canonical
from cu_certificates.envelope import sign
from cu_certificates.keys import ephemeral_key

ROUNDS = 4000 if SLOW else 150
SECONDS = 5000
"""Milliseconds that one input may take; the slowest here takes a fiftieth of that."""

EXAMPLES = settings(deadline=SECONDS, max_examples=2000 if SLOW else 50, derandomize=True)
SEEDS = st.integers(0, 2**64 - 1)


@cache
def seeds(kind: str = "beside") -> Seeds:
    """A certificate of each design that fakes can play, signed."""
    found = {
        "beside": base,
        "both": lambda: fake(Knobs(means=CLEAN)).state(),
        "delta": lambda: fake(Knobs(means=LEAK, guarantee="certified", method="newton", tested_delta="1/50")).state(),
        "sequential": lambda: fake_sequential(sequential_knobs(means=LEAK)).state(),
    }[kind]()
    bundle = sign(found.payload, ephemeral_key())
    return Seeds(json.loads(found.payload), found.files, bundle, join_report(SKELETON, bundle))


def target(name: str, kind: str = "beside") -> Target:
    return next(one for one in targets_of(seeds(kind)) if one.name == name)


NAMES = ["parse", "bundle", "report", "payload", "plan.json", "evidence/slots.jsonl", "evidence/distances.jsonl",
         "evidence/pilots.jsonl", "evidence/utility.jsonl"]  # fmt: skip


def test_nothing_that_is_read_is_left_out() -> None:
    assert {one.name for one in targets_of(seeds())} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_what_was_not_changed_is_answered(name: str) -> None:
    assert attempt(seeds(), target(name), target(name).valid) == "answered"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["beside", "both", "delta", "sequential"])
def test_changed_input_is_answered_or_refused(kind: str) -> None:
    outcome = fuzz(seeds(kind), seed=1, inputs=ROUNDS)
    assert not outcome.faults, [(fault.target, fault.what) for fault in outcome.faults]
    assert outcome.inputs == ROUNDS
    answers = {name.rsplit(": ", 1)[1] for name in outcome.counts}
    assert answers == {"answered", "refused"}  # neither is everything refused at the door, nor does everything pass


@EXAMPLES
@given(SEEDS)
def test_changed_bytes_of_a_bundle_or_a_report(seed: int) -> None:
    rng = random.Random(seed)
    for name in ("bundle", "report"):
        attempt(seeds(), target(name), changed(target(name), rng))


@EXAMPLES
@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()), SEEDS)
def test_any_bytes_in_any_place(data: bytes, seed: int) -> None:
    """Bytes that no mutation of a valid file would give."""
    for name in ("parse", "bundle", "payload", "plan.json", NAMES[seed % len(NAMES)]):
        attempt(seeds(), target(name), data)
    name = "evidence/distances.jsonl"
    attempt(seeds(), target(name), target(name).valid + data + b"\n")


@EXAMPLES
@given(VALUES, SEEDS)
def test_any_value_in_any_claim(value: Any, seed: int) -> None:
    statement = json.loads(json.dumps(seeds().statement))
    claims, rng = statement["predicate"]["claims"], random.Random(seed)
    claim = rng.choice(claims)
    claim[rng.choice(sorted(claim))] = value
    try:
        check_payload(canonical(statement), seeds().files.get)
    except Rejected:
        return


@pytest.mark.parametrize("absent", ["plan.json", "evidence/slots.jsonl", "evidence/distances.jsonl"])
def test_absent_files_are_told_and_never_raised(absent: str) -> None:
    """MissingEvidence stays within the checker, whatever else was changed."""
    rng, files = random.Random(5), {name: data for name, data in seeds().files.items() if name != absent}
    for _ in range(40 if SLOW else 10):
        statement = changed_value(seeds().statement, rng)
        try:
            result = check_payload(canonical(statement), files.get)
        except Rejected:
            continue
        assert absent in result.missing or absent not in str(statement["predicate"]["evidence"])


# --- The fuzzer itself -----------------------------------------------------------------------------------------------


def test_a_planted_fault_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that trusts its fields to be there, and to be words."""

    def trusting(claim: Any, _context: Any) -> Any:
        return "proved", " ".join(claim.value[key].upper() for key in ("from", "side", "alpha", "bound"))

    monkeypatch.setitem(rules.RULES, "cp", trusting)
    assert attempt(seeds(), target("payload"), seeds().payload) == "answered"
    outcome = fuzz(seeds(), seed=2, inputs=600)
    assert outcome.faults
    assert {fault.what.split(":")[0] for fault in outcome.faults} <= {"KeyError", "AttributeError"}
    assert any("test_fuzz_checker.py" in fault.what for fault in outcome.faults)
    fault = outcome.faults[0]
    with pytest.raises((KeyError, AttributeError)):
        attempt(seeds(), target(fault.target), fault.data)


def test_an_endless_wait_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(_claim: Any, _context: Any) -> Any:
        while True:
            pass

    monkeypatch.setitem(rules.RULES, "metric", endless)
    monkeypatch.setattr(fuzz_checker, "PATIENCE", 0.2)
    with pytest.raises(fuzz_checker.Waited, match=r"no answer within 0\.2 seconds"):
        attempt(seeds(), target("payload"), seeds().payload)


def test_the_same_seed_tries_the_same_inputs() -> None:
    first, second = (fuzz(seeds(), seed=3, inputs=40) for _ in range(2))
    assert first == second
    assert fuzz(seeds(), seed=4, inputs=40).counts != first.counts
    rngs = random.Random(6), random.Random(6)
    assert changed_bytes(b"some bytes", rngs[0]) == changed_bytes(b"some bytes", rngs[1])


def test_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, found = tmp_path / "certificate", seeds()
    for name, data in {**found.files, "certificate.sigstore.json": found.bundle, "report.html": found.report}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    assert seeds_from(folder).statement == found.statement
    assert main([str(folder), "--seconds", "0.4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == "cu-cert-fuzz/1"
    assert document["inputs"] > 0
    assert document["faults"] == []
    monkeypatch.setitem(rules.RULES, "metric", lambda claim, context: 1 / 0)
    assert main([str(folder), "--seconds", "0.4", "--out", str(tmp_path / "faults")]) == 1
    assert "FAULT" in capsys.readouterr().out
    assert list((tmp_path / "faults").iterdir())


def test_coverage_is_asked_for_only_where_it_can_be_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SystemExit) as caught:
        main([str(tmp_path), "--atheris"])
    assert caught.value.code == 2
    assert "pip install atheris" in capsys.readouterr().err


# --- Sizes that only cost time ---------------------------------------------------------------------------------------


def test_parsers_take_time_in_step_with_the_input() -> None:
    """Depth, many keys, long strings, long numbers, many marks of a report: what made other parsers slow."""
    many = {f"k{number}": number for number in range(20_000)}
    shapes = [
        b"[" * 1_000_000,
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b"[" + b"0," * 500_000 + b"0]",
        canonical(many),
        b'"' + b"\\u0061" * 200_000 + b'"',
        b"1" * 4_000_000,
        b"<" + b'<script type="application/vnd.dev.sigstore.bundle' * 20_000,
        b"<head>\n" * 100_000,
    ]
    for data in shapes:
        for name in ("parse", "bundle"):
            attempt(seeds(), target(name), data)


def test_a_claim_list_and_a_fraction_have_limits() -> None:
    statement = json.loads(json.dumps(seeds().statement))
    metric = next(claim for claim in statement["predicate"]["claims"] if claim["type"] == "metric")
    statement["predicate"]["claims"] += [metric | {"id": f"m-{number}"} for number in range(10_000)]
    with pytest.raises(Rejected, match="expected at most 10000"):
        check_payload(canonical(statement), seeds().files.get)
    long = replace(seeds(), statement=json.loads(json.dumps(seeds().statement)))
    theorem = next(claim for claim in long.statement["predicate"]["claims"] if claim["type"] == "dp-bound")
    theorem["delta"] = str(Fraction(1, 10**17 + 1))
    assert check_payload(long.payload, long.files.get).rejected
