"""A padded request: which numbers would give its true size away, and what a certificate says in their place.

A number over single records moves in steps of one record: a rate of 3/12 says that there are twelve, the width of an
interval says so too, and so does the scale of a distance over records. So where the size is padded the certificate
keeps what was measured on whole models and on held-out records, and leaves out the rest. The list below names what
stays; a kind of claim that it does not know is refused, not passed on.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from cu_cert.errors import DataError
from cu_cert.rng import Stream
from cu_certificates.plan import Plan

if TYPE_CHECKING:
    from cu_cert.claims import Claim
    from cu_cert.issue import Findings

SIZE_WITHHELD: Final = "L18"
"""The limitation of a certificate whose request is padded."""

OF_MODELS: Final = (
    "model-digest",
    "split",
    "eps-coinflip",
    "eps-sequential",
    "eps-lower",
    "eps-group",
    "conformal-p",
    "control",
    "power",
    "band",
    "mu-lower",
    "eps-bayes",
)
"""Claim types whose numbers count models."""

OF_SETS: Final = ("count", "cp", "utility")
"""Claim types about rows of evidence, in which a padded request leaves no row of its own."""

METRICS: Final = ("m-equivalence", "m-utility-retrained")
"""Descriptive numbers over models or held-out records."""

PLOTS: Final = ("procedure", "artifact", "eps")

BY_RECORD: Final = ("labels",)
"""Evidence with a row for each record of the request."""


def withheld(plan: Plan) -> tuple[str, ...]:
    """Return the limitation that a plan brings with it when it pads the request."""
    return () if plan.request_least is None else (SIZE_WITHHELD,)


def utility_sets(
    held_out: npt.NDArray[np.bool_],
    retained: npt.NDArray[np.bool_],
    request: npt.NDArray[np.bool_],
    *,
    plan: Plan,
    trained: int,
    rng: Stream,
) -> dict[str, npt.NDArray[np.bool_]]:
    """Return right answers by set of records, as the certificate may count them.

    Args:
        held_out: Whether each held-out record is classified rightly.
        retained: The same of each training record that stays.
        request: The same of each record of the request.
        plan: The plan; where it pads the request, the request's set is left out, and of the retained records a random
            sample is counted, as many as the stated size leaves.
        trained: Number of training records.
        rng: Draws the sample.
    """
    if plan.request_least is None:
        return {"held-out": held_out, "retained": retained, "request": request}
    chosen = rng.numpy().choice(len(retained), trained - plan.request_size, replace=False)
    return {"held-out": held_out, "retained": retained[chosen]}


def without_size(findings: "Findings", plan: Plan) -> "Findings":
    """Leave out what would give the true size of a padded request away; nothing where it is not padded.

    Args:
        findings: What was measured.
        plan: The plan.

    Raises:
        DataError: A claim or an evidence file is of a kind of which this module does not know what it reveals.
    """
    if plan.request_least is None:
        return findings
    for name, kind, _, _ in findings.evidence:
        if kind in BY_RECORD:
            raise DataError(f"[audit] pad_request: evidence {name!r} has a row for each record; set pad_request = 0")
    return replace(
        findings,
        claims=[claim for claim in findings.claims if _stays(claim)],
        plots={name: plot for name, plot in findings.plots.items() if name in PLOTS},
    )


def _stays(claim: "Claim") -> bool:
    kind = str(claim["type"])
    if kind == "metric":
        return claim["id"] in METRICS
    if kind in OF_SETS and "request" in _names(claim):
        raise DataError(f"[audit] pad_request: claim {claim['id']!r} counts the request's records; set pad_request = 0")
    if kind not in (*OF_MODELS, *OF_SETS):
        raise DataError(
            f"[audit] pad_request: a claim of type {kind!r} may give the size of the request away; set pad_request = 0 "
            "in cu-cert.toml"
        )
    return True


def _names(claim: Mapping[str, object]) -> set[object]:
    return {claim.get("group"), claim.get("set")}
