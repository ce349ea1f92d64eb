"""``logistic``: multinomial logistic regression, trained by SGD with momentum."""

from collections.abc import Mapping

from cu_cert.recipes._classifier import ClassifierRecipe, TrainingParams, checked


def make(options: Mapping[str, object]) -> ClassifierRecipe:
    """Make the recipe from the options of ``[training]``."""
    return ClassifierRecipe("logistic", checked(TrainingParams, options), ())
