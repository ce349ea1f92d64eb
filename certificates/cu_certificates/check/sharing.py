"""Models that other plans use as well must be named, and what that rests on must be listed.

No rule of a claim needs this file: it takes nothing from a claim and adds nothing to one. It can only be refused. That
a model is *not* shared cannot be shown by one certificate; two certificates that hold one model digest and do not name
each other show that the later one left it out.
"""

import re
from contextlib import suppress
from typing import Final

from .context import Context, MissingEvidence
from .fields import Node
from .strict import Rejected

EVIDENCE: Final = "shared"
ASSUMED: Final = "A21"
LIMITED: Final = "L19"
LATEST: Final = 8
"""So many plans, the last ones, are named in the certificate itself; the evidence names all."""
ROLES: Final = ("original", "retrained", "shadow")
HOLDERS: Final = ("slots", "artifact", "pilots")
"""Evidence files whose rows name models; a shadow stands in none of them."""

_MODEL: Final = re.compile(rb'"model":"([0-9a-f]{64})"')


def check_sharing(context: Context) -> None:
    """Compare what a certificate says of shared models with their evidence.

    Raises:
        Rejected: They differ, the evidence is malformed, or an assumption or limitation is left out.
    """
    listed = EVIDENCE in context.evidence_ids()
    if not context.predicate.has("sharing"):
        if listed:
            raise Rejected(f"predicate.sharing: missing, though evidence {EVIDENCE!r} is listed")
        return
    stated = context.predicate.node("sharing")
    stated.text("evidence", EVIDENCE)
    if not listed:
        raise Rejected(f"{stated.path}.evidence: evidence {EVIDENCE!r} is not listed")
    if stated.whole("plans") or stated.flag("older"):
        for key, needed in (("assumptions", ASSUMED), ("limitations", LIMITED)):
            if needed not in context.predicate.texts(key):
                raise Rejected(
                    f"{stated.path}: models are shared or older than the plan, but {key} leaves out {needed}"
                )
    with suppress(MissingEvidence):
        _compare(stated, context)


def _compare(stated: Node, context: Context) -> None:
    rows, name = context.rows(EVIDENCE), context.evidence_name(EVIDENCE)
    head = rows[0]
    head.text("kind", "release")
    head.hex("release")
    if head.flag("older") is not stated.flag("older"):
        raise Rejected(f"{stated.path}.older: {stated.flag('older')}; the evidence says otherwise")
    plans = [row for row in rows[1:] if row.text("kind", "plan", "model") == "plan"]
    models = rows[1 + len(plans) :]
    if any(row.text("kind") != "model" for row in models):
        raise Rejected(f"{name}: a plan stands behind a model; expected release, plans, models")
    digests = [row.hex("plan") for row in plans]
    if len(set(digests)) != len(digests) or context.plan_digest in digests:
        raise Rejected(f"{name}: a plan stands twice, or it is the certificate's own")
    for row in plans:
        _ascending(row, "certificates", 1, 2**53 - 1)
    used = _models(models, context, len(plans))
    if used != set(range(len(plans))):
        raise Rejected(f"{name}: names a plan with which no model is shared")
    shared = sum(bool(row.items("plans")) for row in models)
    for key, found in (("models", shared), ("plans", len(plans))):
        if stated.whole(key) != found:
            raise Rejected(f"{stated.path}.{key}: {stated.whole(key)}; the evidence names {found}")
    latest = [{key: row.value[key] for key in ("plan", "certificates")} for row in plans[-LATEST:]]
    if [dict(entry.value) for entry in stated.nodes("latest")] != latest:
        raise Rejected(f"{stated.path}.latest: not the last {len(latest)} plans of the evidence")


def _models(models: list[Node], context: Context, plans: int) -> set[int]:
    """Demand that each model is one of this certificate's, once, and return the plans that use one."""
    ids = [identifier for identifier in HOLDERS if identifier in context.evidence_ids()]
    own = {digest.decode() for identifier in ids for digest in _MODEL.findall(context.evidence(identifier))}
    used: set[int] = set()
    seen: set[str] = set()
    for row in models:
        role, digest = row.text("role", *ROLES), row.hex("model")
        row.hex("seed")
        if digest in seen:
            raise Rejected(f"{row.path}.model: stands twice")
        if role != "shadow" and digest not in own:
            raise Rejected(f"{row.path}.model: is no model of this certificate's other evidence")
        seen.add(digest)
        used |= set(_ascending(row, "plans", 0, plans - 1))
    return used


def _ascending(row: Node, key: str, low: int, high: int) -> list[int]:
    """Return a list of ascending whole numbers in [low, high]."""
    found = row.items(key)
    if any(type(number) is not int or not low <= number <= high for number in found) or found != sorted(set(found)):
        raise Rejected(f"{row.path}.{key}: expected ascending whole numbers from {low} to {high}")
    return found
