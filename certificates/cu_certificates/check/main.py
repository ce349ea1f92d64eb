"""``cu-cert-check``: the checker as a program of its own; standard library only."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from .carrier import load_any
from .checker import check_payload
from .receipt import MAX_RECEIPT, SAYS, check_receipt
from .result import CheckResult
from .strict import MAX_BYTES, Rejected

NO_SIGNATURE = (
    "No signature was checked: the standard library has no public-key cryptography. Use `cu-cert verify` for that."
)


def evidence_reader(folder: Path) -> Callable[[str], bytes | None]:
    """Return a function that reads an evidence file below ``folder``; ``None`` when it is absent.

    Raises:
        Rejected: (from the returned function) A name leads out of the folder, or the file cannot be read.
    """

    def read(name: str) -> bytes | None:
        parts = name.split("/")
        if not name or any(part in ("", ".", "..") for part in parts) or "\\" in name or "\0" in name:
            raise Rejected(f"evidence name {name!r}: expected a plain path below the certificate's folder")
        path = folder.joinpath(*parts)
        try:
            if path.stat().st_size > 16 * MAX_BYTES:
                raise Rejected(f"{name}: {path.stat().st_size} bytes; expected at most {16 * MAX_BYTES}")
            return path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Rejected(f"{name}: cannot be read: {error.strerror}") from None

    return read


def check_file(file: Path, evidence: Path | None = None) -> CheckResult:
    """Check the claims of a bundle, a report or a draft, with the evidence beside it.

    Args:
        file: ``certificate.sigstore.json``, ``report.html`` or an unsigned ``certificate.draft.json``.
        evidence: Folder that holds ``plan.json`` and ``evidence/``; default: the folder of ``file``.

    Raises:
        Rejected: The document is malformed or evidence was altered.
    """
    data = file.read_bytes()
    if data.lstrip()[:1] == b"{" and b'"_type"' in data[:2048]:
        payload = data.rstrip(b"\n")
    else:
        payload = load_any(data)[0].payload
    return check_payload(payload, evidence_reader(evidence or file.parent))


def plain(text: str) -> str:
    """Replace what could move a cursor or start a line: a certificate is hostile input until proved otherwise."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)


def lines_of(result: CheckResult) -> list[str]:
    """Write a result for a person, one line a claim."""
    lines = [f"{status:10}  {name:22}  {detail}" for status, name, detail in result.lines()]
    lines += [f"reason      {reason}" for reason in result.reasons]
    stated = result.stated or "none (unsigned draft)"
    lines.append(f"verdict derived from the claims: {result.derived}; stated: {stated}")
    return [plain(line) for line in lines]


def to_json(result: CheckResult) -> dict[str, object]:
    """Write a result for a program."""
    return {
        "schema": "cu-cert-check/1",
        "signatureChecked": False,
        "claims": [vars(claim) for claim in result.claims],
        "stated": result.stated,
        "derived": result.derived,
        "reasons": list(result.reasons),
        "missing": list(result.missing),
        "accepted": accepted(result),
    }


def accepted(result: CheckResult) -> bool:
    """Whether nothing was rejected and the stated verdict is the one that follows."""
    return not result.rejected and not result.missing and result.stated in (None, result.derived)


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns 0 when every claim or a receipt follows, 4 when not, 2 when a file is missing."""
    parser = argparse.ArgumentParser(prog="cu-cert-check", description="Re-derive the claims of a certificate.")
    parser.add_argument(
        "file", type=Path, nargs="?", help="certificate.sigstore.json, report.html or certificate.draft.json"
    )
    parser.add_argument("--evidence", type=Path, help="folder with plan.json and evidence/ (default: beside FILE)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--receipt", type=Path, help="check a receipt; FILE is then the certificate that it names, and may be left out"
    )
    parser.add_argument("--id", help="with --receipt: the id (others may read what stands on a command line)")
    parser.add_argument("--id-file", help="with --receipt: a file that holds the id alone; - for standard input")
    options = parser.parse_args(arguments)
    if options.receipt is not None:
        if (options.id is None) == (options.id_file is None):
            parser.error("--receipt needs the id, once: --id-file FILE, or --id ID")
        return run_receipt(options.receipt, options.id, options.id_file, options.file, as_json=options.json)
    if options.file is None:
        parser.error("the following arguments are required: file")
    return run(options.file, options.evidence, as_json=options.json)


def run_receipt(receipt: Path, identifier: str | None, id_file: str | None, file: Path | None, *, as_json: bool) -> int:
    """Check a receipt, print the outcome, return the exit code.

    Args:
        receipt: The receipt.
        identifier: The id, or ``None`` to read it.
        id_file: The file that holds it, ``-`` for standard input.
        file: The certificate that the receipt names, if it is at hand.
        as_json: Whether to print one JSON object.
    """
    schema = {"schema": "cu-cert-check-receipt/1", "signatureChecked": False}
    try:
        if identifier is None:
            data = sys.stdin.buffer.read(MAX_RECEIPT) if id_file == "-" else Path(str(id_file)).read_bytes()
            identifier = data.decode("utf-8-sig").strip()
        steps = check_receipt(receipt, identifier, file)
    except (Rejected, OSError, UnicodeDecodeError) as problem:
        told = (
            f"{problem.filename}: {problem.strerror}; give its path" if isinstance(problem, OSError) else str(problem)
        )
        if as_json:
            print(json.dumps({**schema, "accepted": False, "error": told}))
        else:
            print(NO_SIGNATURE)
            print(f"cu-cert-check: {plain(told)}", file=sys.stderr)
        return 4 if isinstance(problem, Rejected) else 2
    if as_json:
        print(json.dumps({**schema, "accepted": True, "steps": steps, "says": SAYS if file else None}, indent=2))
    else:
        print(NO_SIGNATURE, *(plain(f"{step:12}  {state:11}  {detail}") for step, state, detail in steps), sep="\n")
        print(SAYS if file else "The receipt holds in itself; give the certificate to see what it is about.")
    return 0


def run(file: Path, evidence: Path | None, *, as_json: bool) -> int:
    """Check one file, print the outcome, return the exit code."""
    try:
        result = check_file(file, evidence)
    except (Rejected, OSError) as problem:
        code = 4 if isinstance(problem, Rejected) else 2
        if isinstance(problem, OSError):
            problem = OSError(f"{file}: cannot be read ({problem.strerror}); give a certificate, a report or a draft")
        if as_json:
            print(json.dumps({"schema": "cu-cert-check/1", "accepted": False, "error": str(problem)}))
        else:
            print(NO_SIGNATURE)
            print(f"cu-cert-check: {plain(str(problem))}", file=sys.stderr)
        return code
    if as_json:
        print(json.dumps(to_json(result), indent=2))
    else:
        print(NO_SIGNATURE, *lines_of(result), sep="\n")
    return 0 if accepted(result) else 4


if __name__ == "__main__":
    sys.exit(main())
