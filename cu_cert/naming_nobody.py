"""Before anything is written or signed: no id of the request may stand in what will be handed on.

The names that people choose (of models, methods, folders, the controller) are known before a model is trained, so they
are looked at first; the finished certificate, page and evidence are looked at once more before the signature.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from cu_cert._tables import SigningConfig
from cu_certificates._passages import Source, strings_of, take_apart
from cu_certificates.plan import Plan
from cu_certificates.privacy import IdIndex, file_name, require_no_ids

UNTRAINED = "nothing was written, trained or signed"
UNSIGNED = "nothing was signed"


def index_of(ids: Iterable[str], what: str) -> IdIndex:
    """Return ids that stand in no list of lines, ready to be looked for.

    Args:
        ids: The ids.
        what: How their source is called; the number of an id is added.
    """
    return IdIndex({name: f"{what}, number {number}" for number, name in enumerate(ids, 1)})


def require_plan(index: IdIndex, plan: Plan, signing: SigningConfig, folders: Iterable[Path]) -> list[str]:
    """Look at everything that is fixed before models are trained.

    Args:
        index: The request's ids.
        plan: The plan.
        signing: What the certificate will say of people and offices.
        folders: Where certificates will be written.

    Returns:
        What the user should know, one line each.

    Raises:
        UsageError: A name holds an id.
    """
    said = {
        "predicate": {"auditor": {"name": signing.name}, "scope": signing.scope(), **signing.statements()},
        "signing": {"excluded": list(signing.excluded)},  # in the certificate it stands among sentences of ours
    }
    sources = [
        Source(name="plan.json", passages=tuple(strings_of(plan.to_json(), "plan.json"))),
        Source(name="cu-cert.toml", passages=tuple(strings_of(said, "the certificate"))),
        *(file_name(folder.resolve().name) for folder in folders),
    ]
    require_no_ids(index, sources, done=UNTRAINED)
    if not index.weak:
        return []
    return [
        f"{index.weak} of {len(index.listed)} ids are plain words, short or numeric: they are looked for in the names "
        "that people chose, and cannot be looked for in every text of the certificate"
    ]


def require_files(index: IdIndex, files: Mapping[str, bytes]) -> None:
    """Look at finished files before they are signed.

    Args:
        index: The request's ids.
        files: Their content by name.

    Raises:
        UsageError: One of them holds an id.
    """
    found = (source for name, data in files.items() if (source := take_apart(data, name)) is not None)
    require_no_ids(index, found, done=UNSIGNED)
