"""``mlp``: a multi-layer perceptron with ReLU units, trained by SGD with momentum."""

from collections.abc import Mapping
from dataclasses import dataclass

from cu_cert.recipes._classifier import TrainingParams, checked, require, widths
from cu_cert.recipes._dense import dense_recipe
from cu_cert.recipes._network import ClassifierRecipe


@dataclass(frozen=True, kw_only=True)
class MlpParams(TrainingParams):
    """Parameters of ``mlp``.

    Args:
        hidden: Width of each hidden layer, at least one layer of at least one unit.
    """

    hidden: tuple[int, ...] = (128,)

    def __post_init__(self) -> None:
        super().__post_init__()
        good = bool(self.hidden) and widths(self.hidden)
        require(good, "hidden", list(self.hidden), "a list of widths of at least 1")


def make(options: Mapping[str, object]) -> ClassifierRecipe:
    """Make the recipe from the options of ``[training]``."""
    params = checked(MlpParams, options)
    return dense_recipe("mlp", params, params.hidden)
