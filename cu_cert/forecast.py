"""What a plan will take and what it can see, said before anything is trained."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import isqrt
from typing import Final

from cu_cert.errors import CuCertError
from cu_cert.fleet.costs import MEASURE, Costs, work_of
from cu_cert.fleet.local import cores
from cu_cert.fleet.plan import Member, fleet_plan
from cu_cert.fleet.progress import clock
from cu_cert.fleet.worker import Workshop
from cu_cert.pools import Pools
from cu_cert.release import BLOCK, filled
from cu_cert.sequential import expected_slots, is_sequential, members_until
from cu_certificates._design_sequential import betting_terms
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.fields import printed, shown
from cu_certificates.check.power import critical_guesses, power_at, smallest_references
from cu_certificates.check.tails import beta_binomial_tail
from cu_certificates.errors import UsageError
from cu_certificates.plan import Plan, default_guesses

_FILE_OVERHEAD = 4096
_SLOTS: Final = tuple(2**power for power in range(4, 13))
_MOST_CONTROLS: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The cost of a plan.

    Args:
        models: Models that the plan needs; the most, when slots are judged one after another.
        finished: How many of them are in the store, some perhaps not measured on this request yet.
        seconds: Wall time for what is left; ``None`` when no model of this recipe was ever timed.
        megabytes: Disk for the others.
        workers: Processes.
        expected: Models that are needed when there is nothing to see; ``None`` when that saves none.
    """

    models: int
    finished: int
    seconds: float | None
    megabytes: float
    workers: int
    expected: int | None = None

    def lines(self, plan: Plan) -> list[str]:
        """Say cost and resolution, one line each."""
        time = "time unknown until the first model is done" if self.seconds is None else f"about {clock(self.seconds)}"
        models = f"{self.models} models"
        if self.expected is not None:
            models = f"at most {self.models} models, about {self.expected} when there is nothing to see"
        found = [
            f"plan {plan.digest[:16]}, attempt {plan.attempt}: {models}, {self.finished} of them in the "
            f"store; {time} with {self.workers} processes, {self.megabytes:.0f} MB of disk"
        ]
        for subject in plan.subjects:
            for question in plan.questions:
                seen = plan.resolution(subject, question)
                line = (
                    f"{subject.name}, {question}: tests eps* = {shown(subject.tested_eps)}, "
                    f"can show eps up to {printed(seen.max_eps)}"
                )
                if seen.accuracy is not None:
                    line += f", sees a guessing accuracy of {printed(seen.accuracy)} with probability 0.8"
                found.append(line)
        return found


def forecast(plan: Plan, pools: Pools, workshop: Workshop, workers: int, shadows: Sequence[Member] = ()) -> Forecast:
    """Forecast a plan from what the store knows of this recipe.

    Args:
        plan: The plan.
        pools: Its models.
        workshop: What they are made with.
        workers: Processes asked for; 0 for one a processor.
        shadows: Models of random halves that the audit needs besides.
    """
    early = is_sequential(plan)
    most = {subject.name: plan.sizes.slots for subject in plan.subjects}
    work = outstanding((*shadows, *(members_until(pools, most) if early else pools.members())), workshop)
    likely = None
    if early:
        members = (*shadows, *members_until(pools, expected_slots(plan)))
        likely = outstanding(members, workshop).models
    count = min(workers or cores(), max(work.groups, 1))
    return Forecast(
        models=work.models,
        finished=work.models - work.left,
        seconds=work.seconds_with(count),
        megabytes=work.bytes / 1e6,
        workers=count,
        expected=likely,
    )


@dataclass(frozen=True, kw_only=True)
class Outstanding:
    """What is left to do for some members.

    Args:
        models: Models that there will be: members, what they start from, and the others of their cohorts.
        work: How many of them are not finished, by kind of work (``cu_cert.fleet.costs``).
        groups: Groups of which one is not finished.
        seconds: What that takes one worker; ``None`` when no model of this recipe was ever timed.
        bytes: Disk that it takes.
    """

    models: int
    work: Mapping[str, int]
    groups: int
    seconds: float | None
    bytes: int

    @property
    def left(self) -> int:
        """Models that are to be made; those that need only be measured are none of them."""
        return sum(count for kind, count in self.work.items() if kind != MEASURE)

    def seconds_with(self, workers: int) -> float | None:
        """Return what it takes so many workers."""
        return None if self.seconds is None else self.seconds / workers


def outstanding(members: Iterable[Member], workshop: Workshop) -> Outstanding:
    """Count what is left to do for some members, and forecast what it takes from what the store knows of this recipe.

    Args:
        members: Those that are wanted.
        workshop: What they are made with.
    """
    groups = {workshop.identity.key(group[0]): group for group in fleet_plan(members).groups}
    work, busy = Counter[str](), 0
    for group in groups.values():
        own = work_of(group, workshop)
        work.update(own)
        busy += bool(own)
    made = sum(count for kind, count in work.items() if kind != MEASURE)
    return Outstanding(
        models=sum(map(len, groups.values())),
        work=work,
        groups=busy,
        seconds=Costs(workshop).total(work),
        bytes=made * model_bytes(workshop) + work[MEASURE] * (_signal_bytes(workshop) + _FILE_OVERHEAD),
    )


def model_bytes(workshop: Workshop) -> int:
    """Return about how many bytes the store takes for a model of this recipe and its signals."""
    from cu_cert.rng import Stream

    model = workshop.recipe.build(workshop.train, rng=Stream.from_seed("size"))
    tensors: int = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    return tensors + _signal_bytes(workshop) + 3 * _FILE_OVERHEAD


def _signal_bytes(workshop: Workshop) -> int:
    return 9 * (len(workshop.forget) + len(workshop.held_out))


def planned_models(plan: Plan, cohort: int = 1) -> int:
    """Return the number of models that a plan will not exceed, but for coins that fall so once in a million plans.

    Args:
        plan: The plan.
        cohort: How many originals of the release train in one program, whether or not the plan needs them all; 1 where
            its originals are its own.
    """
    sizes, methods = plan.sizes, len(plan.subjects)
    total = 2 * sizes.pilots + filled(sizes.pilots, cohort)
    if "artifact" in plan.questions or plan.original == "redrawn":
        total += min(cohort, BLOCK) - 1  # the last cohort of judged originals
    if "procedure" in plan.questions:
        # A head costs one edit a subject; a head of the control, or a main head that leaves it a tail too few, another.
        total += sizes.slots + methods * _most_heads(sizes.slots)
        if is_sequential(plan):
            total += sizes.control_slots + 1  # models of its own, and an original where the first round has none
        else:
            total += _most_heads(max(sizes.slots, sizes.control_slots))
    if "artifact" in plan.questions:
        total += sizes.references + 1 + sizes.negatives
    return total


def _most_heads(coins: int) -> int:
    """Return the mean number of heads plus five standard deviations."""
    return min(coins // 2 + isqrt(25 * coins // 4) + 1, coins)


def smallest_sizes(plan: Plan) -> dict[str, int]:
    """Return the smallest sizes with which each question can refute, can fail its control and reaches its power.

    Returns:
        Sizes by their keys in ``[audit]``; a key is left out when no size will do, or its question is not asked.
    """
    alpha, found = plan.share(), {}
    halved = 1 if plan.direction == "both" else 2

    def enough(slots: int) -> bool:
        counted = default_guesses(slots) // halved
        return Fraction(1, 2**counted) <= CONTROL_TAIL and all(
            (right := critical_guesses(slots, counted, alpha, subject.tested_eps, subject.tested_delta)) is not None
            and power_at(counted, right, eps=plan.detect_eps)
            for subject in plan.subjects
        )

    # Power is a saw over the slots, because guesses are whole numbers; so a doubling is refined from far below it.
    doubled = next(filter(enough, _SLOTS), None) if "procedure" in plan.questions else None
    if is_sequential(plan):
        if (slots := _smallest_budget(plan)) is not None:
            found["slots"] = slots
    elif doubled is not None:
        found["slots"] = next(filter(enough, range(doubled // 4, doubled + 1)))
    needed = [smallest_references(alpha, subject.tested_eps, subject.tested_delta) for subject in plan.subjects]
    if "artifact" in plan.questions and None not in needed:
        found["references"] = max(size for size in needed if size is not None)
        pool = max(found["references"], plan.sizes.references)
        rank = (alpha * (pool + 1)).__floor__()
        able = (k for k in range(1, _MOST_CONTROLS) if beta_binomial_tail(k, rank, pool, k) <= CONTROL_TAIL)
        if (controls := next(able, None)) is not None:
            found["controls"] = controls
    return found


def _smallest_budget(plan: Plan) -> int | None:
    """Return the fewest slots, one after another, that reach the planned power, ``None`` when no number does."""

    def needed(slots: int) -> int | None:
        sized = replace(plan, sizes=replace(plan.sizes, slots=slots, guesses=default_guesses(slots)))
        each = [betting_terms(sized, subject).needed for subject in plan.subjects]
        return None if None in each else max(bets for bets in each if bets is not None)

    slots = next((slots for slots in _SLOTS if needed(slots) is not None), None)
    # With delta above 0 a smaller budget asks for less wealth, so what suffices is taken as the budget until it stays.
    while slots is not None and (fewer := needed(max(slots, 4))) is not None and fewer < slots:
        slots = fewer
    return slots if slots is None else max(slots, 4)


def shrink(plan: Plan, least: Mapping[str, int]) -> Plan | None:
    """Return the next smaller plan that can still refute and reaches its power; ``None`` when there is none.

    Args:
        plan: The plan.
        least: What :func:`smallest_sizes` returns.
    """
    sizes = plan.sizes
    slots, references = sizes.slots - 4, sizes.references - 6
    choices: list[Mapping[str, int]] = [
        {"slots": slots, "references": references},
        {"slots": slots},
        {"references": references},
        *({key: least[key]} for key in ("slots", "references") if key in least),
    ]
    for change in choices:
        new_slots = change.get("slots", sizes.slots)
        guesses = default_guesses(new_slots)
        control = (sizes.control_slots, sizes.control_guesses) if is_sequential(plan) else (new_slots, guesses)
        try:
            smaller = replace(
                plan,
                sizes=replace(
                    sizes,
                    slots=new_slots,
                    guesses=guesses,
                    control_slots=control[0],
                    control_guesses=control[1],
                    references=change.get("references", sizes.references),
                ),
            )
        except (UsageError, CuCertError):
            continue
        if planned_models(smaller) < planned_models(plan) and not smaller.problems() and not smaller.underpowered():
            return smaller
    return None
