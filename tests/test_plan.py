"""The plan: sizes and what they can see, problems said before anything is trained, bytes that never change."""

import json
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest

from cu_certificates.check.design import QUESTIONS, require_plan
from cu_certificates.check.fields import Node
from cu_certificates.check.strict import canonical, parse
from cu_certificates.errors import UsageError
from cu_certificates.plan import Plan, Sizes, Subject, default_guesses

SUBJECT = Subject(
    name="model.pt",
    model="7a" * 32,
    method="npo",
    parameters={"steps": 200, "beta": "0.1"},
    guarantee="none",
    level="EMPIRICAL",
    tested_eps=Fraction(1, 2),
    tested_delta=Fraction(0),
)
EXACT = replace(
    SUBJECT, name="exact.pt", model="7b" * 32, guarantee="exact", level="EXACT_IN_LAW", tested_eps=Fraction(0)
)
CERTIFIED = replace(SUBJECT, name="certified.pt", model="7c" * 32, guarantee="certified", level="CERTIFIED")
SIZES = Sizes(slots=64, guesses=48, control_slots=64, control_guesses=48, references=120, negatives=8, pilots=16)
PLAN = Plan(
    subjects=(SUBJECT,),
    questions=QUESTIONS,
    alpha_total=Fraction(1, 20),
    detect_eps=Fraction(2),
    sizes=SIZES,
    request_root="0c" * 32,
    request_size=50,
    recipe="aa" * 32,
    data="bb" * 32,
    seed_commitment="cc" * 32,
)


def sized(**changes: Any) -> Plan:
    return replace(PLAN, sizes=replace(SIZES, **changes))


# --- Bytes -----------------------------------------------------------------------------------------------------------


def test_the_bytes_are_fixed() -> None:
    """A change here changes P and with it every coin: it needs a new ``kind``."""
    assert PLAN.to_bytes() == canonical(PLAN.to_json())
    assert parse(PLAN.to_bytes()) == PLAN.to_json()
    assert PLAN.digest == "5e369076561e4d77cd3765a42f338f213fa63a63f0841230e2b9da1db6b2c15d"


def test_the_bytes_do_not_depend_on_the_order_of_parameters() -> None:
    turned = replace(SUBJECT, parameters=dict(reversed(list(SUBJECT.parameters.items()))))
    assert replace(PLAN, subjects=(turned,)).digest == PLAN.digest


def test_every_choice_is_in_the_bytes() -> None:
    changed = [
        replace(PLAN, **{name: value})
        for name, value in {
            "subjects": (replace(SUBJECT, tested_eps=Fraction(1)),),
            "questions": ("artifact",),
            "alpha_total": Fraction(1, 10),
            "detect_eps": Fraction(3),
            "request_root": "0d" * 32,
            "request_size": 51,
            "recipe": "ab" * 32,
            "data": "bc" * 32,
            "seed_commitment": "cd" * 32,
            "attempt": 2,
        }.items()
    ]
    changed += [sized(**{name: getattr(SIZES, name) + 2}) for name in SIZES.__dataclass_fields__ if name != "guesses"]
    changed.append(sized(guesses=46))
    assert len({plan.digest for plan in [PLAN, *changed]}) == len(changed) + 1
    assert PLAN.with_seed("ee" * 32).to_json()["seedCommitment"] == {"sha256": "ee" * 32}


def test_the_checker_accepts_what_a_plan_writes() -> None:
    for plan in (PLAN, replace(PLAN, subjects=(SUBJECT, EXACT)), replace(PLAN, questions=("artifact",))):
        node = Node(json.loads(plan.to_bytes()), "plan")
        require_plan(node, node)


# --- Sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("slots", "guesses"), [(8, 6), (16, 12), (32, 24), (64, 48), (128, 96), (256, 192), (33, 24)])
def test_default_guesses(slots: int, guesses: int) -> None:
    assert default_guesses(slots) == guesses


@pytest.mark.parametrize(("alpha", "size"), [("1/20", 32), ("1/40", 65), ("1/80", 131)])
def test_the_smallest_artifact_audit(alpha: str, size: int) -> None:
    plan = replace(sized(references=size), questions=("artifact",), alpha_total=Fraction(alpha))
    found = plan.resolution(SUBJECT, "artifact")
    assert (found.smallest, found.reached, found.possible) == (size, True, True)
    assert found.max_eps > Fraction(1, 2)
    assert not plan.problems()
    less = replace(plan, sizes=replace(plan.sizes, references=size - 1))
    assert not less.resolution(SUBJECT, "artifact").possible
    assert f"expected at least {size} references" in " ".join(less.problems())
    assert less.underpowered() == less.problems()


def test_the_share_of_alpha_decides_what_can_be_seen() -> None:
    assert PLAN.share() == Fraction(1, 40)
    assert replace(PLAN, questions=("procedure",)).share() == Fraction(1, 20)
    found = PLAN.resolution(SUBJECT, "procedure")
    assert found.critical == 37
    assert found.max_eps == Fraction(25272, 10_000)
    assert found.reached
    assert found.accuracy is not None
    assert Fraction(8, 10) < found.accuracy < Fraction(82, 100)
    strict = PLAN.resolution(EXACT, "procedure")
    assert strict.critical is not None
    assert strict.critical < found.critical


def test_only_half_of_the_guesses_count_in_one_direction() -> None:
    plan = replace(PLAN, subjects=(CERTIFIED,), direction="forward", questions=("procedure",))
    assert plan.to_json()["procedure"]["direction"] == "forward"
    assert plan.resolution(CERTIFIED, "procedure").max_eps < PLAN.resolution(CERTIFIED, "procedure").max_eps


# --- What is said before anything is trained -------------------------------------------------------------------------


def test_sizes_that_could_never_refute_are_problems() -> None:
    assert PLAN.problems() == []
    small = sized(slots=8, guesses=6)
    assert len(small.problems()) == 1
    assert "even if all are right; plan more slots" in small.problems()[0]
    assert "more alpha" in " ".join(
        replace(PLAN, subjects=(replace(CERTIFIED, tested_delta=Fraction(1, 10)),), questions=("artifact",)).problems()
    )


def test_controls_that_could_never_fail_are_problems() -> None:
    assert "6 guesses in the negative control" in sized(control_slots=8, control_guesses=6).problems()[0]
    assert sized(control_slots=8, control_guesses=8).problems() == []
    assert "1 negative controls; so few can never fail" in sized(negatives=1).problems()[0]
    assert sized(negatives=2).problems() == []
    forward = replace(sized(control_slots=16, control_guesses=12), subjects=(CERTIFIED,), direction="forward")
    assert "6 guesses in the negative control" in " ".join(forward.problems())


def test_power_that_is_not_reached_is_said_for_each_subject() -> None:
    assert PLAN.underpowered() == []
    weak = replace(sized(slots=24, guesses=18), subjects=(SUBJECT, EXACT))
    assert weak.problems() == []
    assert [line.split(":")[0] for line in weak.underpowered()] == ["model.pt, procedure"]
    assert "24 slots do not exceed eps* = 1/2" in weak.underpowered()[0]
    assert replace(weak, detect_eps=Fraction(1, 2)).underpowered() != weak.underpowered()


# --- What cannot be planned ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"questions": ()}, "expected some of"),
        ({"questions": ("artifact", "artifact")}, "each once"),
        ({"questions": ("artifact", "one run")}, "expected some of"),
        ({"alpha_total": Fraction(0)}, "strictly between"),
        ({"alpha_total": Fraction(1)}, "strictly between"),
        ({"attempt": 0}, "attempt 0"),
        ({"request_size": 0}, "0 ids"),
        ({"detect_eps": Fraction(1001)}, "detect_eps 1001"),
        ({"subjects": ()}, "at least one"),
        ({"subjects": (SUBJECT, replace(SUBJECT, tested_eps=Fraction(5)))}, "1 different names"),
        ({"subjects": (SUBJECT, replace(SUBJECT, name="again.pt"))}, "1 different files"),
        ({"direction": "sideways"}, "'both', or 'forward'"),
        ({"direction": "forward"}, "'both', or 'forward'"),
        ({"subjects": (SUBJECT, CERTIFIED), "direction": "forward"}, "'both', or 'forward'"),
        ({"subjects": (replace(SUBJECT, method=None),)}, "needs to know the method"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(PLAN, **change)


def test_an_unknown_method_leaves_the_artifact_question() -> None:
    plan = replace(PLAN, subjects=(replace(SUBJECT, method=None),), questions=("artifact",))
    assert plan.problems() == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guarantee": "exact"}, "at level 'EMPIRICAL'"),
        ({"level": "EXACT_BITWISE"}, "at level 'EXACT_BITWISE'"),
        ({"guarantee": "perfect"}, "guarantee 'perfect'"),
        ({"tested_eps": Fraction(-1)}, "eps -1"),
        ({"tested_delta": Fraction(1)}, "delta 1"),
        ({"guarantee": "exact", "level": "EXACT_IN_LAW"}, "not tested at|expected 0 and 0"),
    ],
)
def test_a_subject_is_tested_against_what_it_states(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(SUBJECT, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guesses": 47}, "expected an even number"),
        ({"guesses": 0}, "from 2 to 64"),
        ({"guesses": 66}, "from 2 to 64"),
        ({"control_guesses": 66}, "from 2 to 64"),
        ({"references": 0}, "at least 1, 1 and 2"),
        ({"negatives": 0}, "at least 1, 1 and 2"),
        ({"pilots": 1}, "at least 1, 1 and 2"),
        ({"slots": 5000}, "at most 4096"),
    ],
)
def test_sizes_are_checked(change: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replace(SIZES, **change)
