"""``update_leakage``: what does somebody learn who holds the model before and the model after?

The two differ because the request was taken out, so the difference of a record's margins tells whether it was in the
request (Chen et al. 2021, arXiv 2005.02205). An exact retrain leaks in this way as well: Bertran et al. 2024, arXiv
2405.20272, reconstruct a deleted record from two linear models. It is the price of releasing both models, and no
failure to unlearn; the retrained models in place of the audited one show how high that price is anyway.

The attack is LiRA's offline score (Carlini et al. 2022, arXiv 2112.03570) of the margin before minus the margin after.
Its never-in law is that of two independent models which both lack the record: mean 0 and twice the variance of one
model, so every model's distance from the mean of all, times the root of 2, stands for one draw.
"""

import numpy as np

from cu_attacks._roc import area
from cu_attacks._types import Estimate
from cu_attacks.lira import lira_offline
from cu_cert.probes._case import Case, FloatArray, together
from cu_cert.probes._types import Finding, Part, Probe, Skip
from cu_cert.records import Records
from cu_cert.signals import relative


def difference_scores(before: FloatArray, after: FloatArray) -> FloatArray:
    """Score each record by the difference of two models; higher means "was taken out".

    Args:
        before: The original's margins, shape (records,).
        after: Margins of the models that may have followed it, shape (models >= 2, records).

    Returns:
        Shape (models, records).
    """
    shadows = np.sqrt(2) * (after - after.mean(axis=0))
    scores = np.stack([lira_offline(before - one, shadows, variance="nig") for one in after])
    # A model that equals the original gives nothing but ties; the centre's last bits must not rank its records.
    return np.round(scores, 12)


def centred(margins: FloatArray, forget: Records, held_out: Records) -> FloatArray:
    """Measure every margin from the mean of the held-out records of its class; else the request's classes leak.

    Args:
        margins: On request and held-out records, in this order, shape (models, records).
        forget: The request's records.
        held_out: Never-trained records.
    """
    outside = margins[:, len(forget) :]
    inside = relative(margins, forget, held_out)
    return np.hstack([inside, relative(np.hstack([outside, outside]), held_out, held_out)])


def update_leakage(case: Case) -> Finding:
    """Area under the curve of the difference attack, request against held-out records.

    Raises:
        Skip: The original is not known, or request or held-out records are fewer than two.
    """
    if case.before is None:
        raise Skip("the model before unlearning was not given (--original)")
    forget, held_out = case.workshop.forget_records, case.workshop.held_out
    if min(len(forget), len(held_out)) < 2:
        raise Skip(f"{len(forget)} records in the request and {len(held_out)} held out; an area needs two of each")
    member = np.arange(len(forget) + len(held_out)) < len(forget)
    before = centred(case.before[None], forget, held_out)[0]
    after = centred(case.outside, forget, held_out)

    def areas(margins: FloatArray) -> list[Estimate]:
        return [area(row, member, name="AUC") for row in difference_scores(before, margins)]

    own = areas(after)[0]
    note = (
        f"margin before minus margin after as a LiRA score, {own.n[0]} records of the request against {own.n[1]} held "
        f"out; {own.level * 100:.0f} % interval over records {own.low:.4f} to {own.high:.4f}; the range of the "
        "retrained models is what an exact retrain leaks in the same way"
    )
    return together(lambda margins: np.array([found.value for found in areas(margins)]), after, note)


PROBE = Probe(
    name="update_leakage",
    paper="Chen et al. 2021, arXiv 2005.02205",
    parts=(
        Part(
            name="update-leakage",
            title="AUC of an observer of both models, before and after",
            shows_not="it is no failure to unlearn, for releasing two models leaks even after an exact retrain; an "
            "observer with more models or queries may see more",
            run=update_leakage,
        ),
    ),
)
