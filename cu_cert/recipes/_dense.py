"""What ``mlp`` and ``logistic`` share: a stack of dense layers."""

from functools import partial

from torch import nn

from cu_cert.recipes._classifier import Standardize, TrainingParams
from cu_cert.recipes._network import ClassifierRecipe
from cu_cert.records import Records


def dense_recipe(name: str, params: TrainingParams, hidden: tuple[int, ...]) -> ClassifierRecipe:
    """Return the recipe of a stack of dense layers with ReLU between them.

    Args:
        name: File name of the recipe.
        params: Checked parameters.
        hidden: Widths of the hidden layers; empty for a linear model.
    """
    return ClassifierRecipe(
        name=name,
        params=params,
        cohort_size=cohort_size(hidden),
        network=partial(dense_parts, hidden=hidden),
        more={"hidden": list(hidden)},
        version=2,
    )


def cohort_size(hidden: tuple[int, ...]) -> int:
    """Return how many models one program trains best.

    Measured on digits and Fashion-MNIST, one thread: models of up to 256 units train within 2 % of their best time in
    sixteens, linear ones 10 % faster in thirty-twos; of 512 x 512 units and more, four are as fast as sixteen, since
    each model fills the cache by itself.

    Args:
        hidden: Widths of the hidden layers.
    """
    if not hidden:
        return 32
    weights = sum(first * second for first, second in zip((hidden[0], *hidden), hidden, strict=False))
    return max(4, min(16, 2**21 // weights))


def dense_parts(records: Records, *, hidden: tuple[int, ...]) -> list[nn.Module]:
    """Return fresh parts of a model for the shape and classes of ``records``."""
    width = int(records.x[:1].size) if len(records) else int(records.x.reshape(1, -1).shape[1])
    parts: list[nn.Module] = [Standardize(width)]
    for units in hidden:
        parts += [nn.Linear(width, units), nn.ReLU()]
        width = units
    return [*parts, nn.Linear(width, len(records.classes))]
