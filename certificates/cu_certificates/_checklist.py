"""The annex of the report: what a supervisory authority may ask for, and which of it the certificate holds.

Each of the 15 points is a list of parts, and each part is present, absent or not applicable by what stands in the
predicate. Nothing here judges: a point that is present is a text to read, no statement that a duty is met.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from cu_certificates._fields import field, mapping, objects, text, word, words
from cu_certificates._rows import decides
from cu_certificates._wording import Wording

State = Literal["present", "absent", "not_applicable"]
Predicate = Mapping[str, Any]
Claims = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One thing that a point of the list asks for.

    Args:
        name: What it is, in the page's language.
        state: Whether the certificate holds it.
    """

    name: str
    state: State


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of the list.

    Args:
        number: Its place, from 1.
        title: What a report must contain.
        source: Where that comes from; no legal advice.
        state: ``present`` where every part is, ``absent`` where none is, ``partial`` in between, ``not_applicable``
            where no part applies.
        said: The state in words.
        parts: What it asks for.
        section: HTML id of the section of the page that shows it.
        place: Title of that section.
    """

    number: int
    title: str
    source: str
    state: str
    said: str
    parts: tuple[Part, ...]
    section: str
    place: str

    @property
    def listed(self) -> tuple[tuple[State, str], ...]:
        """The parts by their state: what is present first."""
        states: tuple[State, ...] = ("present", "absent", "not_applicable")
        named = ((state, ", ".join(part.name for part in self.parts if part.state == state)) for state in states)
        return tuple((state, names) for state, names in named if names)


_Test = Callable[[Predicate, Claims], bool | None]
"""Whether a part is there; ``None`` where it does not apply."""


def _at(*paths: str) -> _Test:
    """Whether each of these fields is stated and not empty."""
    return lambda predicate, _: all(field(predicate, path) not in (None, "", [], {}) for path in paths)


def _claims(*types: str) -> _Test:
    return lambda _, claims: any(word(claim, "type") in types for claim in claims)


def _governs(*names: str) -> _Test:
    return _at(*(f"governance.{name}" for name in names))


def _signed(predicate: Predicate, _: Claims) -> bool:
    return field(predicate, "verdict") is not None and field(predicate, "auditor.keyid") is not None


def _intime(predicate: Predicate, _: Claims) -> bool | None:
    """Whether both dates that a deadline is judged by are stated; a request without a ground has no deadline."""
    if not words(predicate, "request.regimes"):
        return None
    return _at("request.executedAt", "request.dueAt")(predicate, [])


def _bounds(_: Predicate, claims: Claims) -> bool:
    return any(decides(claim) and field(claim, "bound") is not None for claim in claims)


def _certified(predicate: Predicate, claims: Claims) -> bool | None:
    """Whether the assumptions behind a stated guarantee are listed; a method that states none needs none."""
    if text(predicate, "unlearning.guarantee") not in ("exact", "certified"):
        return None
    return bool(words(predicate, "assumptions"))


def _per_record(_: Predicate, claims: Claims) -> bool:
    """Whether a number looks at single records rather than at averages: a rate at few false positives, or a count."""
    tails = ("m-tpr-", "m-leaks", "m-low-")
    return any(word(claim, "type") == "metric" and word(claim, "id").startswith(tails) for claim in claims)


def _worst(_: Predicate, claims: Claims) -> bool:
    """Whether a score of the artifact question looks at the worst records as well."""
    return any(word(claim, "type") in ("label-p", "eps-onerun") for claim in claims)


def _retained(_: Predicate, claims: Claims) -> bool:
    return any(word(claim, "type") == "utility" and word(claim, "set") == "retained" for claim in claims)


def _tests_made(predicate: Predicate, claims: Claims) -> bool:
    """Whether every planned test has its claim: a missing one must be seen as missing."""
    there = {word(claim, "type") for claim in claims}
    return bool(words(predicate, "plan.attacks")) and set(words(predicate, "plan.attacks")) <= there


def _failed_kept(_: Predicate, claims: Claims) -> bool:
    return any(word(claim, "type") == "control" for claim in claims)


# Number of the point -> (section of the page that shows it, its parts by the key of their name).
_POINTS: Final[tuple[tuple[str, tuple[tuple[str, _Test], ...]], ...]] = (
    (
        "scope",
        (
            ("auditor", _at("auditor.name")),
            ("independence", _at("auditor.independence")),
            ("controller", _at("controller.name")),
            ("person", _at("affirmation.name", "affirmation.role")),
            ("signature", _signed),
            ("date", _at("issuedAt")),
        ),
    ),
    (
        "scope",
        (
            ("model", _at("scope.model.digest.sha256")),
            ("deployments", _at("scope.deployments")),
            ("derivatives", _at("scope.derivatives")),
            ("excluded", _at("scope.excluded")),
        ),
    ),
    (
        "scope",
        (
            ("regime", _at("request.regimes")),
            ("kind", _at("request.scenario")),
            ("received", _at("request.receivedAt")),
            ("executed", _at("request.executedAt")),
            ("deadline", _intime),
        ),
    ),
    ("scope", (("commitment", _at("request.commitment.root")), ("count", _at("request.commitment.size")))),
    (
        "method",
        (
            ("method", _at("unlearning.method")),
            ("parameters", _at("unlearning.parameters")),
            ("guarantee", _at("unlearning.guarantee")),
            ("conditions", _certified),
        ),
    ),
    (
        "plan",
        (
            ("plan", _at("plan.digest.sha256")),
            ("tests", _at("plan.attacks")),
            ("threshold", _at("plan.testedEps")),
            ("level", _at("plan.alphaTotal")),
            ("power", _at("plan.detectEps")),
        ),
    ),
    ("results", (("bounds", _bounds), ("resolution", _claims("power")))),
    ("attacks", (("records", _per_record), ("worst", _worst))),
    ("attacks", (("utility", _claims("utility")), ("others", _retained))),
    ("controls", (("tests_made", _tests_made), ("controls", _failed_kept))),
    ("limitations", (("limitations", _at("limitations")), ("assumptions", _at("assumptions")))),
    ("verify", (("key", _at("auditor.keyid")), ("evidence", _at("evidence")), ("log", _at("log.root")))),
    (
        "governance",
        (
            ("validity", _at("expiresAt")),
            ("reaudit", _governs("reaudit")),
            ("suppression", _governs("suppression")),
            ("revocation", _governs("revocationContact")),
        ),
    ),
    (
        "governance",
        (
            ("retention", _governs("evidenceRetainedUntil")),
            ("access", _governs("evidenceAccess")),
            ("dpia", _governs("dpia")),
            ("dpo", _governs("dpoAdvice")),
        ),
    ),
    ("plain", (("plain", lambda predicate, claims: True), ("receipts", _claims("receipt")))),
)


def checklist(predicate: Predicate, claims: Iterable[Mapping[str, Any]], t: Wording) -> tuple[Point, ...]:
    """Hold a certificate against the list.

    Args:
        predicate: The predicate of the statement.
        claims: Its claims.
        t: The texts of the page's language.

    Raises:
        Rejected: A field is of the wrong kind.
    """
    listed = [dict(claim) for claim in claims]
    for path in ("controller", "affirmation", "governance", "log"):
        mapping(predicate, path)
    objects(predicate, "evidence")
    return tuple(_point(number, predicate, listed, t) for number in range(1, len(_POINTS) + 1))


def _point(number: int, predicate: Predicate, claims: Claims, t: Wording) -> Point:
    section, tests = _POINTS[number - 1]
    parts = tuple(Part(name=t.word("annex_part", key), state=_state(test(predicate, claims))) for key, test in tests)
    state = _together([part.state for part in parts])
    return Point(
        number=number,
        title=t.word("annex_title", str(number)),
        source=t.word("annex_source", str(number)),
        state=state,
        said=t.word("annex_state", state),
        parts=parts,
        section=section,
        place=t("verdict.plain") if section == "plain" else t.word("section", section),
    )


def _state(there: bool | None) -> State:
    if there is None:
        return "not_applicable"
    return "present" if there else "absent"


def _together(states: Iterable[State]) -> str:
    found = {state for state in states if state != "not_applicable"}
    if not found:
        return "not_applicable"
    return "partial" if len(found) == 2 else found.pop()
