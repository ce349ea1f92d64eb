"""``finetune``: go on training on the records that remain, and hope that the others fade.

The weakest baseline of every comparison: it never reads the records to forget.
"""

from dataclasses import dataclass

from cu_cert.engine.edit import Edit, edit_method
from cu_cert.engine.region import full
from cu_cert.engine.schedule import sgd_schedule
from cu_cert.engine.subject import Subject
from cu_cert.engine.term import Term, cross_entropy
from cu_cert.methods import UnlearningMethod
from cu_cert.methods._params import SgdParams


@dataclass(frozen=True, kw_only=True)
class FinetuneParams(SgdParams):
    """Parameters of ``finetune``: those of SGD.

    Five to ten epochs are common for this baseline; the step is half of the built-in recipes'.
    """


def finetune(subject: Subject, params: FinetuneParams) -> Edit:
    """Minimise the cross-entropy on the retain stream."""
    return Edit(
        terms=(Term(stream="retain", loss=cross_entropy, role="retain"),),
        region=full(subject),
        schedule=sgd_schedule(params),
    )


METHOD: UnlearningMethod = edit_method(
    "finetune",
    finetune,
    FinetuneParams,
    needs={"retain"},
    paper="Golatkar et al. 2020, arXiv:1911.04933 (fine-tuning baseline)",
    summary="goes on training on the records that remain",
)
