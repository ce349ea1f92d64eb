"""``retrain``: train from a fresh initialisation on the records that remain.

What it states, precisely. Over its randomness, the returned model has the law of a model trained without the forgotten
records, because it is such a model: EXACT_IN_LAW. Run with the stream of one particular retrain (equal recipe digest,
records, stream, software, processor and thread count) it is that retrain bit for bit; this is a fact about two
fingerprints that agree, which a replay can show, and no property of the method alone, so the level stays EXACT_IN_LAW.
A recipe that carries knowledge of the forgotten records (a pretrained part, a vocabulary, a tuned learning rate)
carries it into every retrain; the method cannot see this.
"""

from cu_cert.methods import Task, UnlearningMethod, Work
from cu_cert.methods._params import NoParams


def retrain(task: Task) -> Work:
    """Train on the retain set; every run is checked afterwards to share no memory with the old model."""
    return Work(model=task.recipe.train(task.retain, rng=task.rng))


METHOD: UnlearningMethod = UnlearningMethod(
    name="retrain",
    kind="exact",
    guarantee="exact",
    level="EXACT_IN_LAW",
    needs=frozenset({"retain", "recipe"}),
    paper="Bourtoule et al. 2021, Machine Unlearning, arXiv:1912.03817 (the reference that it defines)",
    summary="trains afresh on the records that remain",
    params_type=NoParams,
    work=retrain,
)
