"""The entry of a model in the store, as a value and as sealed bytes."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from cu_cert.fleet.plan import Identity, Member

KINDS: Final = ("original", "retrained", "shadow", "edit", "drill")
MAX_BYTES: Final = 1 << 20


class Damaged(Exception):
    """A file of the store is not what was written; the message says in a few words what is wrong with it."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What the store knows about a finished member.

    Only the first five say something that an audit relies on; the others describe, so that a person sees what lies in
    a store, and are empty in entries of older versions.

    Args:
        model: Digest of the model's tensors; empty when the run failed.
        seconds: CPU-seconds that making it took, without its parent.
        engine: How it was trained.
        environment: Digest of the environment fingerprint.
        problem: Why the run failed; empty when it did not.
        file: SHA-256 (hex) of the bytes of its weights file; filled in by the store.
        size: Bytes of that file.
        recipe: Digest of its recipe.
        code: Digest of the program that trained it.
        kind: ``original``, ``retrained``, ``shadow``, ``edit`` or ``drill``.
        label: What the model was for when it was made.
        cohort: Address of the first model of its cohort; empty when it was trained alone.
        parent: Address of the model that a method started from; empty when there is none.
        created: When it was made, ``YYYY-MM-DDThh:mm:ssZ``; filled in by the store.
    """

    model: str
    seconds: float
    engine: str
    environment: str
    problem: str = ""
    file: str = ""
    size: int = 0
    recipe: str = ""
    code: str = ""
    kind: str = ""
    label: str = ""
    cohort: str = ""
    parent: str = ""
    created: str = ""


_TYPES: Final[dict[str, type]] = {field.name: field.type for field in fields(Entry)}  # type: ignore[misc]


def described(member: Member, identity: Identity) -> dict[str, Any]:
    """Return the descriptive fields of a member's entry, for ``Entry(..., **described(member, identity))``."""
    kind = {"all": "original", "retain": "retrained"}.get(member.records, "shadow")
    return {
        "recipe": identity.recipe,
        "code": identity.code,
        "kind": kind if member.method is None else "edit",
        "label": member.label[:200],
        "cohort": "" if member.cohort is None else identity.key(member.cohort.members()[0]),
        "parent": "" if member.parent is None else identity.key(member.parent),
    }


def entry_bytes(key: str, entry: Entry) -> bytes:
    """Write an entry with its address and a digest of both, by which damage and exchanged files are found."""
    document = asdict(entry) | {"key": key}
    return json.dumps(document | {"seal": _seal(document)}, sort_keys=True).encode()


def read_entry(data: bytes, key: str) -> Entry:
    """Read an entry; entries of older versions carry no digest, and unknown fields of newer ones are left out.

    Raises:
        Damaged: It is not the entry of this address as it was written.
    """
    if len(data) > MAX_BYTES:
        raise Damaged(f"more than {MAX_BYTES} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"no JSON: {error}") from None
    if not isinstance(document, dict):
        raise Damaged(f"holds a {type(document).__name__}, no object")
    if "seal" in document and document.pop("seal") != _seal(document):
        raise Damaged("its digest does not fit its content")
    if document.pop("key", key) != key:
        raise Damaged("it belongs to another model")
    known = {name: value for name, value in document.items() if name in _TYPES}
    for name, value in known.items():
        if type(value) is int and _TYPES[name] is float:
            known[name] = float(value)
        elif type(value) is not _TYPES[name] or (type(value) is float and not math.isfinite(value)):
            raise Damaged(f"{name} is a {type(value).__name__}, expected {_TYPES[name].__name__}")
    try:
        entry = Entry(**known)
    except TypeError:
        raise Damaged("it lacks " + ", ".join(name for name in list(_TYPES)[:4] if name not in known)) from None
    if bool(entry.model) == bool(entry.problem):
        raise Damaged("it holds neither a model nor a failed run" if not entry.model else "it holds both")
    return entry


def load_entry(path: Path, key: str) -> Entry:
    """Read the entry at a path.

    Raises:
        FileNotFoundError: There is none.
        Damaged: It is damaged.
    """
    try:
        with path.open("rb") as stream:
            return read_entry(stream.read(MAX_BYTES + 1), key)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Damaged(error.strerror or str(error)) from None


def _seal(document: dict[str, Any]) -> str:
    try:
        body = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise Damaged(str(error)) from None
    return hashlib.sha256(b"cu-cert-entry/1\0" + body).hexdigest()


def kind_of(entry: Entry) -> str:
    """Return the kind of a model; ``unknown`` for entries of older versions."""
    if entry.kind in KINDS:
        return entry.kind
    return "drill" if entry.engine == "drill" else "unknown"
