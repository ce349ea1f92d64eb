"""Probes: what one model shows beside the request's own records. One file a probe, each ending in ``PROBE``.

A probe measures the audited model and, in the same way, models that were retrained without the request. Only the place
of the one among the others means anything, so every number comes with the retrained models' range and with the
conformal p-value of that place. All probes are descriptive: none of them refutes a deletion or supports a verdict.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from cu_cert.errors import ConfigError, DataError, MethodError
from cu_cert.probes._types import LEAST, Part, Probe, ProbeResult, Skip

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import nn

    from cu_cert.fleet.worker import Workshop
    from cu_cert.probes._case import Case
    from cu_cert.rng import Stream

__all__ = ["Probe", "ProbeResult", "get", "names", "probe_claims", "run_probes"]

NOT_MEASURED: Final = "not measured"

Progress = Callable[[str], None]


def names() -> list[str]:
    """List the probes without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def get(name: str) -> Probe:
    """Import one probe by its name.

    Raises:
        ConfigError: There is no such probe.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"probe {name!r} is unknown; {hint}expected one of {', '.join(names())}")
    found: Probe = importlib.import_module(f"{__name__}.{name}").PROBE
    return found


def run_probes(
    workshop: "Workshop",
    subject_model: "nn.Module",
    retrained_models: "Sequence[nn.Module]",
    *,
    original: "nn.Module | None",
    rng: "Stream",
    record_weights: "npt.NDArray[np.float64] | None" = None,
    names: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> list[ProbeResult]:
    """Measure the audited model and its controls.

    Models are copied, one at a time, before anything happens to them; ``retrained_models`` may load each of them when
    it is asked for. Every probe reads all of them, some several times.

    Args:
        workshop: Recipe, training and held-out records, and the request.
        subject_model: The audited model.
        retrained_models: Models that were retrained without the request; at least :data:`LEAST`, or nothing is
            measured. The smallest p-value that k of them can show is 1 / (k + 1).
        original: The model before unlearning; without it, what an observer of both models learns is not measured.
        rng: All randomness. Equal arguments give equal results on one machine with one thread.
        record_weights: Weight of each record of the request, by ascending id, in the mean margin of the probes that ask
            what a model remembers; default equal weights. Weights fitted on other models, such as those of the audit's
            frozen score, see far more and keep the p-values exact.
        names: Probes to run, in this order; default all of them.
        progress: Called with a line for each number that is measured next, and with the reason where one is not.

    Returns:
        One result a number, in the order of the probes. Where a probe cannot work, its results say so.

    Raises:
        ConfigError: A probe has no such name.
        DataError: A model gives scores that are not finite, or the weights do not fit.
    """
    from cu_cert.probes._case import Case

    chosen = [get(name) for name in (_all() if names is None else names)]
    case = Case(workshop, subject_model, retrained_models, original, rng, record_weights)
    if case.retrained >= LEAST:
        case.require_finite()
    say = progress or _silent
    return [_measured(part, case, say) for probe in chosen for part in probe.parts]


def probe_claims(results: Sequence[ProbeResult]) -> list[dict[str, object]]:
    """Write results as metric claims, which support no verdict.

    Args:
        results: What :func:`run_probes` returned.

    Returns:
        One claim a result, with id ``m-probe-NAME``; its interval is the range of the retrained models.
    """
    from cu_cert.claims import metric_claim

    measured = sum(result.value is not None for result in results)
    claims: list[dict[str, object]] = []
    for result in results:
        name = f"probe-{result.name}"
        if result.value is None or result.null_low is None or result.null_high is None:
            # A reader must see that a number is missing, and why.
            own: dict[str, object] = {"id": f"m-{name}", "type": "metric", "kind": "probe", "name": result.title}
            claims.append(own | {"value": NOT_MEASURED, "note": f"{result.note}; {result.shows_not}"})
        else:
            note = _note(result, measured)
            band = (result.null_low, result.null_high)
            claims.append(metric_claim(name, result.title, result.value, band, note, kind="probe"))
    return claims


def _note(result: ProbeResult, measured: int) -> str:
    return (
        f"{result.note}. Between: 2.5 % to 97.5 % of {result.n} retrained models, mean {result.null_mean:.4f}. "
        f"p = {result.p}: share of all {result.n + 1} models at least this far from their median, either side (not "
        f"corrected for {measured} such numbers). Not shown: {result.shows_not}"
    )


def _all() -> list[str]:
    return names()


def _silent(line: str) -> None:
    """Take a line of progress and say nothing."""


def _measured(part: Part, case: "Case", say: Progress) -> ProbeResult:
    """Run one part; where it cannot work, say why."""
    say(part.title)
    try:
        if case.retrained < LEAST:
            raise Skip(f"{case.retrained} retrained models to compare with; expected at least {LEAST}")
        return part.run(case).result(part)
    except Skip as skip:
        reason = str(skip)
    except (ConfigError, DataError, MethodError) as error:
        # Its message may quote a record, and the reason goes into a certificate.
        reason = f"the recipe's own code cannot do this ({type(error).__name__})"
        say(f"{part.title}: {error}")
    return ProbeResult(name=part.name, title=part.title, n=case.retrained, note=reason, shows_not=part.shows_not)
