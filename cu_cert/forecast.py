"""What a plan will take and what it can see, said before anything is trained."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import mean

from cu_cert.errors import CuCertError
from cu_cert.fleet.local import clock, cores
from cu_cert.fleet.store import Store
from cu_cert.fleet.worker import Workshop
from cu_cert.pools import Pools
from cu_certificates.check.fields import printed, shown
from cu_certificates.errors import UsageError
from cu_certificates.plan import Plan, default_guesses

_FILE_OVERHEAD = 4096


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The cost of a plan.

    Args:
        models: Models that the plan needs.
        finished: How many of them are in the store.
        seconds: Wall time for the others; ``None`` when no model of this recipe was ever timed.
        megabytes: Disk for the others.
        workers: Processes.
    """

    models: int
    finished: int
    seconds: float | None
    megabytes: float
    workers: int

    def lines(self, plan: Plan) -> list[str]:
        """Say cost and resolution, one line each."""
        time = "time unknown until the first model is done" if self.seconds is None else f"about {clock(self.seconds)}"
        found = [
            f"plan {plan.digest[:16]}, attempt {plan.attempt}: {self.models} models, {self.finished} of them in the "
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


def forecast(plan: Plan, pools: Pools, workshop: Workshop, workers: int) -> Forecast:
    """Forecast a plan from what the store knows of this recipe.

    Args:
        plan: The plan.
        pools: Its models.
        workshop: What they are made with.
        workers: Processes asked for; 0 for one a processor.
    """
    store = Store(workshop.store)
    keys = {workshop.identity.key(one): one for member in pools.members() for one in member.lineage()}
    finished = [key for key, member in keys.items() if workshop.finished(member)]
    left = len(keys) - len(finished)
    timings = [entry.seconds for entry in map(store.entry, finished) if entry is not None and not entry.problem]
    per_model = mean(timings) if timings else store.typical_seconds(workshop.recipe.digest)
    count = min(workers or cores(), max(left, 1))
    return Forecast(
        models=len(keys),
        finished=len(finished),
        seconds=0.0 if not left else None if per_model is None else left * per_model / count,
        megabytes=left * _model_bytes(workshop) / 1e6,
        workers=count,
    )


def _model_bytes(workshop: Workshop) -> int:
    from cu_cert.rng import Stream

    model = workshop.recipe.build(workshop.train, rng=Stream.from_seed("size"))
    tensors: int = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    signals = 9 * (len(workshop.forget) + len(workshop.held_out))
    return tensors + signals + 3 * _FILE_OVERHEAD


def planned_models(plan: Plan) -> int:
    """Return the expected number of models of a plan, coins at their mean."""
    sizes, methods = plan.sizes, len(plan.subjects)
    total = 3 * sizes.pilots
    if "procedure" in plan.questions:
        total += sizes.slots + methods * sizes.slots // 2 + sizes.control_slots // 2
    if "artifact" in plan.questions:
        total += sizes.references + 1 + sizes.negatives
    return total


def shrink(plan: Plan) -> Plan | None:
    """Return the next smaller plan that can still refute and reaches its power; ``None`` when there is none."""
    sizes = plan.sizes
    slots, references = sizes.slots - 4, sizes.references - 6
    choices: list[Mapping[str, int]] = [
        {"slots": slots, "references": references},
        {"slots": slots},
        {"references": references},
    ]
    for change in choices:
        new_slots = change.get("slots", sizes.slots)
        guesses = default_guesses(new_slots)
        try:
            smaller = replace(
                plan,
                sizes=replace(
                    sizes,
                    slots=new_slots,
                    guesses=guesses,
                    control_slots=new_slots,
                    control_guesses=guesses,
                    references=change.get("references", sizes.references),
                ),
            )
        except (UsageError, CuCertError):
            continue
        if planned_models(smaller) < planned_models(plan) and not smaller.problems() and not smaller.underpowered():
            return smaller
    return None
