"""``npo``: negative preference optimisation on the records to forget, cross-entropy on the others.

Zhang, Lin, Bai, Mei 2024, Negative Preference Optimization, arXiv:2404.05868. A classifier's answer is its label, so
the log-probability of an answer is that of one label.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cu_cert.engine.edit import Edit, edit_method
from cu_cert.engine.region import full
from cu_cert.engine.schedule import sgd_schedule
from cu_cert.engine.subject import Batch, Subject
from cu_cert.engine.term import Loss, Reference, Term, cross_entropy
from cu_cert.methods import UnlearningMethod
from cu_cert.methods._params import SgdParams, require_positive, require_weight

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class NpoParams(SgdParams):
    """Parameters of ``npo``: those of SGD, and three of its own.

    The defaults were set by margins and accuracy, not by any audit; what they do on digits stands in
    ``docs/methods.md``.

    Args:
        beta: Inverse temperature, above 0. Towards 0 the loss becomes gradient ascent; the larger, the sooner a record
            stops pushing once it is less likely than before.
        forget_weight: Weight of the NPO term, at least 0.
        retain_weight: Weight of the cross-entropy on the retain set, at least 0.
    """

    learning_rate: float = 0.01
    beta: float = 1.0
    forget_weight: float = 1.0
    retain_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("beta", self.beta)
        require_weight("forget_weight", self.forget_weight)
        require_weight("retain_weight", self.retain_weight)


def npo_loss(beta: float) -> Loss:
    """Return the NPO loss, L_NPO of the paper.

    L(θ) = -(2/β) E[ log σ( -β log(π_θ(y|x) / π_ref(y|x)) ) ], π_ref = the model before unlearning. It is bounded below
    by 0, and its gradient is that of ascent on the cross-entropy with each record weighted by
    2 π_θ^β / (π_θ^β + π_ref^β).
    """

    def loss(out: "torch.Tensor", batch: Batch, reference: Reference) -> "torch.Tensor":
        from torch.nn.functional import cross_entropy as nll
        from torch.nn.functional import logsigmoid

        ratio = nll(reference(batch), batch.y, reduction="none") - nll(out, batch.y, reduction="none")
        return -(2 / beta) * logsigmoid(-beta * ratio).mean()

    return loss


def npo(subject: Subject, params: NpoParams) -> Edit:
    """Minimise NPO on the forget stream and cross-entropy on the retain stream."""
    return Edit(
        terms=(
            Term(stream="forget", loss=npo_loss(params.beta), weight=params.forget_weight, role="forget"),
            Term(stream="retain", loss=cross_entropy, weight=params.retain_weight, role="retain"),
        ),
        region=full(subject),
        schedule=sgd_schedule(params),
    )


METHOD: UnlearningMethod = edit_method(
    "npo",
    npo,
    NpoParams,
    needs={"forget", "retain"},
    paper="Zhang et al. 2024, arXiv:2404.05868 (loss L_NPO), with cross-entropy on the retain set",
    summary="pushes the records to forget below their old likelihood, boundedly, and trains on the others",
)
