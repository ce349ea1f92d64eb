"""``identity``: no unlearning. The model comes back as it is.

It is the method of the audit's positive control: an audit that cannot tell this model from a retrain can see nothing.
"""

from cu_cert.methods import Task, UnlearningMethod, Work
from cu_cert.methods._params import NoParams


def identity(task: Task) -> Work:
    """Return the copy of the original, unchanged."""
    return Work(model=task.original)


METHOD: UnlearningMethod = UnlearningMethod(
    name="identity",
    kind="approximate",
    guarantee="none",
    level="EMPIRICAL",
    needs=frozenset({"original"}),
    paper="none; the positive control of the audit",
    summary="no unlearning: returns the model as it is",
    params_type=NoParams,
    work=identity,
)
