"""What the report says of its subject: the model, the request, the data, who answers for them, and what is left out."""

import re
from collections.abc import Mapping
from typing import Any, Final

from cu_certificates._fields import NOT_STATED, field, mapping, text, words
from cu_certificates._page_verdict import treated_by
from cu_certificates._wording import Wording, language_of

_ISO: Final = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")


def scope(predicate: Mapping[str, Any], t: Wording) -> dict[str, Any]:
    """Return the subject and the scope of an audit.

    Args:
        predicate: The predicate of the statement.
        t: The texts of the page's language.

    Raises:
        Rejected: A field is of the wrong kind.
    """
    own = language_of(predicate)

    def listed(path: str) -> tuple[str, ...]:
        return tuple(t.free(said, own) for said in words(predicate, path))

    return {
        "digest": text(predicate, "scope.model.digest.sha256"),
        "oms": text(predicate, "scope.model.omsRoot.sha256") if mapping(predicate, "scope.model.omsRoot") else "",
        "access": t.word("access_model", text(predicate, "scope.model.access")),
        "lead": _lead(predicate, t),
        "request": _request(predicate, t),
        "root": text(predicate, "request.commitment.root"),
        "scheme": text(predicate, "request.commitment.scheme"),
        "missing": text(predicate, "request.allowedMissing"),
        "regimes": tuple(
            t.named("regime", name) or t.foreign(name, own) for name in words(predicate, "request.regimes")
        ),
        "received": _day(predicate, "request.receivedAt", t),
        "executed": _day(predicate, "request.executedAt", t),
        "due": _due(predicate, t),
        "data": t(
            "scope.data_text",
            source=text(predicate, "scope.data.source"),
            records=text(predicate, "scope.data.records"),
            trained=text(predicate, "scope.data.trained"),
            held_out=text(predicate, "scope.data.heldOut"),
        ),
        "data_digest": text(predicate, "scope.data.digest.sha256"),
        "deployments": listed("scope.deployments"),
        "derivatives": listed("scope.derivatives"),
        "excluded": listed("scope.excluded"),
        "controller": _controller(predicate, t),
        "affirmed": _affirmed(predicate, t),
        "affirmation": t.free(text(predicate, "affirmation.text"), own) if _has(predicate, "affirmation.text") else "",
    }


def _has(predicate: Mapping[str, Any], path: str) -> bool:
    return field(predicate, path) is not None


def _day(predicate: Mapping[str, Any], path: str, t: Wording) -> str:
    return t.date(text(predicate, path)) if _has(predicate, path) else ""


def _due(predicate: Mapping[str, Any], t: Wording) -> str:
    """Return the deadline, and whether the stated day of execution lies before it."""
    day = _day(predicate, "request.dueAt", t)
    due, done = text(predicate, "request.dueAt"), text(predicate, "request.executedAt")
    if not (_ISO.fullmatch(due) and _ISO.fullmatch(done)):
        return day
    return t("scope.due_met", day=day) if done <= due else t("scope.due_missed", day=day)


def _padded(predicate: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return the ends of the range that a padded number stands for; ``None`` where the number is not padded."""
    if not mapping(predicate, "request.commitment.padded"):
        return None
    low, high = (text(predicate, f"request.commitment.padded.{end}") for end in ("from", "to"))
    return low, high


def _lead(predicate: Mapping[str, Any], t: Wording) -> str:
    name = text(predicate, "scope.model.name")
    model, treated = t("word.model_file") if name == NOT_STATED else name, treated_by(predicate, t)
    size = text(predicate, "request.commitment.size")
    if (padded := _padded(predicate)) is not None:
        return t("page.lead_range", model=model, treated=treated, low=padded[0], high=padded[1])
    if "eps-onerun" in words(predicate, "plan.attacks"):
        return t("page.lead_drill", model=model, treated=treated, size=size)
    if size == "1":
        return t("page.lead_one", model=model, treated=treated)
    return t("page.lead_other", model=model, treated=treated, size=size)


def _request(predicate: Mapping[str, Any], t: Wording) -> str:
    size, kind = text(predicate, "request.commitment.size"), t.word("scenario", text(predicate, "request.scenario"))
    if (padded := _padded(predicate)) is not None:
        return t("scope.request_range", low=padded[0], high=padded[1], kind=kind)
    return t("scope.request_one", kind=kind) if size == "1" else t("scope.request_other", size=size, kind=kind)


def _controller(predicate: Mapping[str, Any], t: Wording) -> str:
    name = text(predicate, "controller.name")
    if not _has(predicate, "controller.contact"):
        return name
    return t("scope.contact", name=name, contact=text(predicate, "controller.contact"))


def _affirmed(predicate: Mapping[str, Any], t: Wording) -> str:
    if not mapping(predicate, "affirmation"):
        return ""
    return t("scope.affirmation", name=text(predicate, "affirmation.name"), role=text(predicate, "affirmation.role"))


def governance(predicate: Mapping[str, Any], t: Wording) -> dict[str, str]:
    """Return what the controller states about validity, evidence and responsibilities; what is missing is empty.

    Args:
        predicate: The predicate of the statement.
        t: The texts of the page's language.
    """
    own = language_of(predicate)

    def said(name: str) -> str:
        path = f"governance.{name}"
        return t.free(t.date(text(predicate, path)), own) if _has(predicate, path) else NOT_STATED

    return {
        "reaudit": said("reaudit"),
        "suppression": said("suppression"),
        "revocation": said("revocationContact"),
        "retained": _day(predicate, "governance.evidenceRetainedUntil", t) or NOT_STATED,
        "access": said("evidenceAccess"),
        "dpia": said("dpia"),
        "dpo": said("dpoAdvice"),
    }
