"""Search for input that makes the checker do anything but answer: a crash, an error of another kind, a long wait.

python -m benchmarks.fuzz_checker [FOLDER] [--seconds N] [--seed N] [--out FOLDER] [--atheris] [--json]

FOLDER holds ``certificate.sigstore.json``, ``report.html``, ``plan.json`` and ``evidence/``; without it a small one is
made. Bytes are changed blindly, JSON is changed where it means something, and the digests of changed files are written
anew, so that the rules behind them are reached. With ``--atheris`` coverage chooses the input (pip install atheris).
"""

import argparse
import hashlib
import importlib
import importlib.util
import json
import math
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from benchmarks._fuzz_mutate import changed_bytes, changed_value

PATIENCE: Final = 20.0
"""Seconds after which a single input counts as one that makes a reader wait."""


class Waited(Exception):
    """An input took longer than :data:`PATIENCE`."""


@dataclass(frozen=True)
class Seeds:
    """A valid certificate, from which changed ones are made.

    Args:
        statement: The signed statement.
        files: Plan and evidence by name.
        bundle: The bundle file.
        report: The report file.
    """

    statement: dict[str, Any]
    files: Mapping[str, bytes]
    bundle: bytes
    report: bytes

    @property
    def payload(self) -> bytes:
        """The statement's bytes."""
        return _canonical(self.statement)


def seeds_from(folder: Path) -> Seeds:
    """Read a certificate's folder."""
    from cu_certificates.check.carrier import load_any

    bundle = (folder / "certificate.sigstore.json").read_bytes()
    names = ["plan.json", *sorted(f"evidence/{path.name}" for path in (folder / "evidence").iterdir())]
    return Seeds(
        statement=json.loads(load_any(bundle)[0].payload),
        files={name: (folder / name).read_bytes() for name in names},
        bundle=bundle,
        report=(folder / "report.html").read_bytes(),
    )


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


# --- Targets ---------------------------------------------------------------------------------------------------------


def _parse(_seeds: Seeds, data: bytes) -> None:
    from cu_certificates.check.strict import parse

    parse(data)


def _carrier(_seeds: Seeds, data: bytes) -> None:
    from cu_certificates.check.carrier import load_any

    load_any(data)


def _payload(seeds: Seeds, data: bytes) -> None:
    from cu_certificates.check.checker import check_payload

    check_payload(data, seeds.files.get)


def _file(name: str) -> Callable[[Seeds, bytes], None]:
    """Return a target for one file: it is exchanged and its digest signed again, as a dishonest signer would."""

    def run(seeds: Seeds, data: bytes) -> None:
        from cu_certificates.check.checker import check_payload

        statement = json.loads(_canonical(seeds.statement))
        predicate, digest = statement["predicate"], {"sha256": hashlib.sha256(data).hexdigest()}
        for entry in predicate["evidence"]:
            if entry["name"] == name:
                entry["digest"] = digest
        if name == "plan.json":
            predicate["plan"]["digest"] = digest
            _say_the_same(predicate, data)
        check_payload(_canonical(statement), {**seeds.files, name: data}.get)

    return run


def _say_the_same(predicate: dict[str, Any], plan: bytes) -> None:
    """Let the certificate state what its changed plan states, so that more than the comparison is reached."""
    try:
        stated = json.loads(plan)
        first = stated["subjects"][0]
        predicate["plan"] |= {key: stated[key] for key in predicate["plan"] if key in stated}
        predicate["plan"] |= {key: first[key] for key in ("testedEps", "testedDelta") if key in first}
        predicate["unlearning"] |= {key: first[key] for key in predicate["unlearning"] if key in first}
    except (ValueError, LookupError, TypeError, AttributeError):
        return  # no plan that could be repeated


@dataclass(frozen=True)
class Target:
    """Something that reads hostile bytes.

    Args:
        name: How it is called in the outcome.
        valid: Bytes that it accepts.
        run: Reads bytes; may raise ``Rejected`` and nothing else.
        lines: Whether the bytes are JSON lines; ``None`` when they are no JSON.
    """

    name: str
    valid: bytes
    run: Callable[[Seeds, bytes], None]
    lines: bool | None = False


def targets_of(seeds: Seeds) -> list[Target]:
    """Return everything that reads bytes of a certificate."""
    return [
        Target("parse", seeds.payload, _parse),
        Target("bundle", seeds.bundle, _carrier),
        Target("report", seeds.report, _carrier, None),
        Target("payload", seeds.payload, _payload),
        *(Target(name, data, _file(name), name.endswith(".jsonl")) for name, data in seeds.files.items()),
    ]


def changed(target: Target, rng: random.Random) -> bytes:
    """Return a changed copy of a target's valid bytes."""
    if target.lines is None or rng.randrange(3) == 0:
        return changed_bytes(target.valid, rng)
    if not target.lines:
        return _canonical(changed_value(json.loads(target.valid), rng))
    rows = target.valid.splitlines()
    for _ in range(rng.choice((1, 1, 3))):
        place = rng.randrange(len(rows)) if rng.randrange(2) else 0  # the first line opens the seed
        rows[place : place + 1] = [
            _canonical(changed_value(json.loads(rows[place]), rng)),
            *([rows[place]] if rng.randrange(8) == 0 else []),
        ]
    return b"".join(row + b"\n" for row in rows)


# --- Running ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """An input that was not answered.

    Args:
        target: What read it.
        what: The error, or that it took too long.
        data: The input.
    """

    target: str
    what: str
    data: bytes = field(repr=False)


def attempt(seeds: Seeds, target: Target, data: bytes) -> str:
    """Feed one input to one target.

    Returns:
        ``answered`` or ``refused``.

    Raises:
        Exception: Anything that the target raised besides ``Rejected``: a fault.
    """
    from cu_certificates.check.strict import Rejected

    with _patience():
        try:
            target.run(seeds, data)
        except Rejected as refusal:
            str(refusal).encode("utf-8", "backslashreplace")
            return "refused"
    return "answered"


@contextmanager
def _patience() -> Iterator[None]:
    """Interrupt what takes too long, where the system has an alarm clock and this is the main thread."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Waited(f"no answer within {PATIENCE:g} seconds")

    try:
        before = signal.signal(signal.SIGALRM, ring)
    except (AttributeError, ValueError):
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Outcome:
    """What a search found.

    Args:
        inputs: How many inputs were tried.
        counts: Inputs by target and answer.
        faults: Inputs that were not answered, one for each target and place in the code.
    """

    inputs: int
    counts: Mapping[str, int]
    faults: Sequence[Fault]

    def to_json(self) -> dict[str, object]:
        """Return the outcome for a program."""
        return {
            "schema": "cu-cert-fuzz/1",
            "inputs": self.inputs,
            "counts": dict(sorted(self.counts.items())),
            "faults": [{"target": fault.target, "what": fault.what, "sha256": _digest(fault)} for fault in self.faults],
        }


def _digest(fault: Fault) -> str:
    return hashlib.sha256(fault.data).hexdigest()


def fuzz(seeds: Seeds, *, seed: int, seconds: float = float("inf"), inputs: float = float("inf")) -> Outcome:
    """Try changed inputs in turn on every target.

    Args:
        seeds: A valid certificate.
        seed: Of the changes; the same seed tries the same inputs.
        seconds: When to stop.
        inputs: After how many inputs to stop.
    """
    rng, targets = random.Random(seed), targets_of(seeds)
    counts: Counter[str] = Counter()
    faults: dict[tuple[str, str], Fault] = {}
    start, tried = time.monotonic(), 0
    while tried < inputs and time.monotonic() - start < seconds:
        target = targets[tried % len(targets)]
        data, tried = changed(target, rng), tried + 1
        try:
            counts[f"{target.name}: {attempt(seeds, target, data)}"] += 1
        except Exception as error:
            counts[f"{target.name}: FAULT"] += 1
            frame = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
            faults.setdefault(
                (target.name, f"{type(error)}{frame.filename}{frame.lineno}"), Fault(target.name, what, data)
            )
    return Outcome(tried, counts, tuple(faults.values()))


def _guided(seeds: Seeds, seconds: float, corpus: Path) -> None:
    """Let atheris choose the input by coverage; it ends the process, with an error after a fault."""
    atheris = importlib.import_module("atheris")
    for name in [name for name in sys.modules if name.startswith("cu_certificates.check")]:
        del sys.modules[name]  # imported again below, so that their branches are counted
    with atheris.instrument_imports(include=["cu_certificates.check"]):
        importlib.import_module("cu_certificates.check.checker")
    targets = targets_of(seeds)
    for number, target in enumerate(targets):
        (corpus / f"{number:02d}").write_bytes(bytes([number]) + target.valid)

    def one(data: bytes) -> None:
        if data:
            attempt(seeds, targets[data[0] % len(targets)], data[1:])

    def mutated(data: bytes, most: int, number: int) -> bytes:
        rng = random.Random(number)
        known = targets[(data[0] if data else 0) % len(targets)]
        if rng.randrange(2):
            return bytes(atheris.Mutate(data, most))
        return (data[:1] or b"\0") + changed(known, rng)[: most - 1]

    limits = [f"-max_total_time={math.ceil(seconds)}", "-max_len=200000", f"-timeout={PATIENCE:.0f}"]
    atheris.Setup([sys.argv[0], *limits, str(corpus)], one, custom_mutator=mutated)
    atheris.Fuzz()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the search; returns 0 when every input was answered, 1 when one was not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_checker", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="folder of a certificate (default: a small one is made)")
    parser.add_argument("--seconds", type=float, default=60, help="how long (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the changes (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write inputs that were not answered into this folder")
    parser.add_argument("--atheris", action="store_true", help="let coverage choose the input")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    if options.atheris and importlib.util.find_spec("atheris") is None:
        parser.error("--atheris: the package is not installed; pip install atheris")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder
        if folder is None:
            from benchmarks.startup import make_certificate

            make_certificate(Path(scratch))
            folder = Path(scratch) / "out"
        seeds = seeds_from(folder)
        if options.atheris:
            corpus = Path(scratch) / "corpus"
            corpus.mkdir()
            _guided(seeds, options.seconds, corpus)
        outcome = fuzz(seeds, seed=options.seed, seconds=options.seconds)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        for fault in outcome.faults:
            (options.out / f"{fault.target.replace('/', '-')}-{_digest(fault)[:16]}").write_bytes(fault.data)
    if options.json:
        print(json.dumps(outcome.to_json(), indent=2))
    else:
        print(f"{outcome.inputs} inputs")
        for name, count in sorted(outcome.counts.items()):
            print(f"{count:8}  {name}")
        for fault in outcome.faults:
            print(f"FAULT     {fault.target}: {fault.what}")
    return int(bool(outcome.faults))


if __name__ == "__main__":
    sys.exit(main())
