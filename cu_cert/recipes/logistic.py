"""``logistic``: multinomial logistic regression, trained by SGD with momentum."""

from collections.abc import Mapping

from cu_cert.recipes._classifier import TrainingParams, checked
from cu_cert.recipes._dense import dense_recipe
from cu_cert.recipes._network import ClassifierRecipe


def make(options: Mapping[str, object]) -> ClassifierRecipe:
    """Make the recipe from the options of ``[training]``."""
    return dense_recipe("logistic", checked(TrainingParams, options), ())
