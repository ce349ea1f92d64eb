"""The plan as the rules use it: every value that decides a verdict, in range and in agreement with the certificate.

Whoever writes a plan may be dishonest, so nothing in it is used before it was compared: a guess for more slots than
there are, a level for a question that was not asked, or a guarantee tested at another eps than it states would each
look like an audit and be none.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from .fields import Node
from .request import padded_from
from .strict import Rejected, canonical

FITTED: Final = ("combined", "mean", "likelihood", "discriminant", "worst")
"""Scores of a whole model that are fitted on pilots."""

SCORES: Final = (*FITTED, "calibrated", "margin", "lira-offline")
"""How a score comes about: fitted on pilots, fitted on a calibration half, or fixed (the last on named references)."""


@dataclass(frozen=True)
class Design:
    """One way to answer a question.

    Args:
        attack: The claim type of its test.
        evidence: Id of the evidence file in which it judges.
        scores: The scores by which it may judge.
        conclusive: Whether it may end in "not refuted"; a design without retrained models may not.
        drawn: Whether its coins decide on what the audited model is trained. Such a plan comes before the model.
        about: What the request was, where the certificate's is no one's; added to the reason of "not refuted".
    """

    attack: str
    evidence: str
    scores: tuple[str, ...] = FITTED
    conclusive: bool = True
    drawn: bool = False
    about: str = ""


DESIGNS: Final[dict[str, dict[str, Design]]] = {
    "procedure": {
        "coins": Design("eps-coinflip", "slots"),
        "sequential": Design("eps-sequential", "slots", ("combined",)),
        "pools": Design("eps-lower", "pools", (*FITTED, "calibrated")),
        "onerun": Design(
            "eps-onerun", "onerun", ("lira-offline",), drawn=True, about="for records drawn as those of this run were"
        ),
    },
    "artifact": {
        "references": Design("conformal-p", "artifact"),
        "labels": Design("label-p", "labels", ("margin",), conclusive=False),
    },
}
"""The designs of each question; a plan that names none has the first."""

QUESTIONS: Final = tuple(DESIGNS)

LEVELS: Final = {
    "exact": ("EXACT_BITWISE", "EXACT_IN_LAW", "NUMERIC_EXACT"),
    "certified": ("CERTIFIED",),
    "none": ("EMPIRICAL",),
}
"""The finer levels that belong to what a method states."""

MAX_SLOTS: Final = 4096
"""More slots than this are refused: each is a trained model, and a hostile number would only cost the reader time."""


@dataclass(frozen=True, kw_only=True)
class Coins:
    """Sizes of the procedure question.

    Args:
        slots: N.
        guesses: r as planned.
        counted: Guesses that are made: r, or r / 2 when only one direction is stated.
        control_guesses: r0 of the negative control, as planned.
        control_counted: Guesses that are made there.
        forward: Whether the guarantee is stated in one direction only.
    """

    slots: int
    guesses: int
    counted: int
    control_guesses: int
    control_counted: int
    forward: bool

    @property
    def direction(self) -> str:
        """How the direction is written."""
        return "forward" if self.forward else "both"


def design_name(plan: Node, question: str) -> str:
    """Return the name of the design that a plan gives to a question."""
    known = DESIGNS[question]
    if not plan.has(question) or not plan.node(question).has("design"):
        return next(iter(known))
    return plan.node(question).text("design", *known)


def design_of(plan: Node, question: str) -> Design:
    """Return the design that a plan gives to a question."""
    return DESIGNS[question][design_name(plan, question)]


def planned_model(plan: Node, entry: Node) -> str | None:
    """Return the digest that a plan gives to a subject's model; ``None`` where the plan had to come before the model.

    Raises:
        Rejected: A plan whose coins decide on what a model is trained names that model, or asks for anything else.
    """
    questions = plan.texts("questions")
    if not any(design_of(plan, question).drawn for question in questions):
        return entry.digest("model")
    if entry.has("model"):
        raise Rejected(f"{entry.path}.model: named, but the plan's own coins decide on what this model is trained")
    if len(questions) != 1 or len(plan.nodes("subjects")) != 1:
        raise Rejected("plan: its coins decide on what the model is trained; expected one question about one subject")
    return None


def same(first: object, second: object) -> bool:
    """Whether two JSON values are equal; Python's ``==`` would take ``true`` for 1."""
    return canonical(first) == canonical(second)


def require_plan(plan: Node, stated: Node) -> None:
    """Demand that plan and certificate agree, and that questions, tests and levels belong together.

    Args:
        plan: ``plan.json``.
        stated: What the certificate says of it.

    Raises:
        Rejected: They do not.
    """
    plan.text("kind", "cu-cert-plan/1")
    for key in ("questions", "alphaTotal", "alphaSplit", "detectEps", "seedCommitment", "attempt", "attacks"):
        if not plan.has(key):
            raise Rejected(f"{plan.path}.{key}: missing")
        if not stated.has(key) or not same(stated.value[key], plan.value[key]):
            raise Rejected(f"{stated.path}.{key}: differs from plan.json")
    questions, split = plan.texts("questions"), plan.node("alphaSplit")
    if not questions or len(set(questions)) != len(questions) or not set(questions) <= set(QUESTIONS):
        raise Rejected(f"plan.questions: {questions}; expected some of {', '.join(QUESTIONS)}, each once")
    expected = [design_of(plan, question).attack for question in questions]
    if plan.texts("attacks") != expected:
        raise Rejected(f"plan.attacks: {plan.texts('attacks')}; the questions need {expected}")
    if set(split.value) != set(questions):
        raise Rejected(f"plan.alphaSplit: shares for {sorted(split.value)}; the questions are {sorted(questions)}")
    total, shares = plan.level("alphaTotal"), sum((split.level(question) for question in questions), Fraction(0))
    if shares > total:
        raise Rejected(f"plan.alphaSplit: the shares sum to {shares}; alphaTotal is {total}")
    plan.whole("attempt", 1)
    plan.digest("seedCommitment")
    plan.number("detectEps")
    subjects = plan.nodes("subjects")
    for what, found in (
        ("model", [planned_model(plan, entry) for entry in subjects]),
        ("name", [entry.text("name") for entry in subjects if entry.has("name")]),
    ):
        if len(set(found)) != len(found):
            raise Rejected(f"plan.subjects: one {what} stands twice; expected one entry, with one guarantee under test")


def require_subject(entry: Node) -> None:
    """Demand that a subject is tested against what its method states.

    Raises:
        Rejected: It is not.
    """
    guarantee = entry.text("guarantee", *LEVELS)
    eps, delta = entry.number("testedEps"), entry.number("testedDelta", high=Fraction(1))
    if guarantee == "exact" and (eps or delta):
        raise Rejected(f"{entry.path}: states an exact guarantee but is not tested at (0, 0)")


def require_setting(plan: Node, entry: Node, predicate: Node) -> None:
    """Demand that the plan speaks of this certificate's model, data, recipe and request, in the one known setting.

    Args:
        plan: ``plan.json``.
        entry: The subject's entry in it.
        predicate: The certificate.

    Raises:
        Rejected: A value differs, or this checker does not know what it would mean.
    """
    scope, request = predicate.node("scope"), predicate.node("request").node("commitment")
    plan.text("reference", "retrain", "retrain+noop")
    plan.text("original", "redrawn", "fixed")
    score = plan.node("score")
    name = score.text("name", *SCORES)
    score.whole("version", 1, 1)
    for question in plan.texts("questions"):
        known = design_of(plan, question).scores
        if name not in known:
            raise Rejected(f"{score.path}.name: {name!r}; the planned designs need {' or '.join(known)}")
    if name in FITTED:
        score.whole("pilots", 2, MAX_SLOTS)
    if plan.node("request").whole("size", 1) != request.whole("size"):
        raise Rejected(f"{request.path}.size: differs from plan.json")
    # The plan's range is the certificate's: whether a size is padded is not for the certificate alone to say.
    if padded_from(plan.node("request")) != padded_from(request):
        raise Rejected(f"{request.path}.padded: differs from plan.json")
    for key in ("data", "recipe"):
        if plan.digest(key) != scope.node(key).digest():
            raise Rejected(f"{scope.path}.{key}.digest: differs from plan.json")
    if entry.text("name") != scope.node("model").text("name"):
        raise Rejected(f"{scope.path}.model.name: differs from the subject's entry in plan.json")
    entry.text("level", *LEVELS[entry.text("guarantee")])
    entry.node("parameters")
    if entry.value.get("method", "") is not None:
        entry.text("method")


def read_coins(plan: Node, entry: Node) -> Coins:
    """Return the sizes of the procedure question's coin-flip slots.

    Raises:
        Rejected: No audit of these sizes could be what it seems to be.
    """
    entry.text("method")
    procedure = plan.node("procedure")
    forward = procedure.text("direction", "both", "forward") == "forward"
    if forward and entry.text("guarantee") != "certified":
        raise Rejected(
            f"{procedure.path}.direction: forward, but only a certified guarantee can be stated in one direction"
        )
    sizes = []
    for slots_key, guesses_key in (("slots", "guesses"), ("controlSlots", "controlGuesses")):
        slots = procedure.whole(slots_key, 2, MAX_SLOTS)
        guesses = procedure.whole(guesses_key, 2)
        if guesses % 2 or guesses > slots:
            raise Rejected(
                f"{procedure.path}.{guesses_key}: {guesses} over {slots} slots; expected an even number up to {slots}"
            )
        sizes += [slots, guesses]
    slots, guesses, _, control = sizes
    share = 2 if forward else 1
    return Coins(
        slots=slots,
        guesses=guesses,
        counted=guesses // share,
        control_guesses=control,
        control_counted=control // share,
        forward=forward,
    )
