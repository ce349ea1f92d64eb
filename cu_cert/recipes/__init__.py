"""Recipes: training algorithms as values. One file a kind; each ends in ``RECIPE``.

A recipe is everything that fixes a trained model but its data and its seed. It has a digest, so a model's identity is
(recipe digest, records digest, seed), and training the same three twice gives the same bits.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from cu_cert.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from cu_cert.records import IntArray, Records
    from cu_cert.rng import Stream


@runtime_checkable
class Recipe(Protocol):
    """A training algorithm as a value.

    Attributes:
        name: File name of the recipe, or ``python:module:recipe``.
        parameters: Everything that was chosen, as printable values; goes into certificates.
        digest: SHA-256 (hex) of the recipe: its name, version, parameters and, for user code, its source bytes.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def parameters(self) -> Mapping[str, object]: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102

    def build(self, records: "Records", *, rng: "Stream") -> "torch.nn.Module":
        """Return a freshly initialised model; only the shape and classes of ``records`` may be used."""
        ...

    def train(self, records: "Records", *, rng: "Stream") -> "torch.nn.Module":
        """Return a model trained on ``records`` from a fresh initialisation, in evaluation mode."""
        ...

    def logits(self, model: "torch.nn.Module", records: "Records") -> "torch.Tensor":
        """Return float32 class scores of shape (n, classes) without touching the model."""
        ...


@runtime_checkable
class CohortRecipe(Recipe, Protocol):
    """A recipe that can train many models in one program.

    Attributes:
        cohort_size: How many models one program trains best; depends on the recipe alone, never on the machine, since
            the bits of a model depend on its cohort.
    """

    @property
    def cohort_size(self) -> int: ...  # noqa: D102

    def train_cohort(
        self, records: "Records", rows: "Sequence[IntArray]", *, rngs: "Sequence[Stream]", device: str = "cpu"
    ) -> "list[torch.nn.Module]":
        """Return one model for each of ``rows``, each as :meth:`train` makes it but for the last bits.

        Model k sees ``records`` at positions ``rows[k]`` (ascending) alone, in the order and from the initialisation
        that ``rngs[k]`` gives it under :meth:`train`.

        Args:
            records: All records.
            rows: Positions of the records of each model; their numbers may differ.
            rngs: The models' streams.
            device: Where to compute; the models come back on the processor, in evaluation mode.
        """
        ...


def names() -> list[str]:
    """List the built-in recipes without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def make_recipe(name: str, options: Mapping[str, object], *, root: str | None = None) -> Recipe:
    """Make the recipe that ``[training] recipe`` names.

    Args:
        name: A built-in name (``mlp``, ``logistic``, ...) or ``python:module:recipe`` for user code.
        options: Values of the recipe's own table; unknown keys are refused by the recipe.
        root: Folder of ``cu-cert.toml``, from which user modules are imported and files of a recipe are read.

    Raises:
        ConfigError: The name or an option is wrong.
    """
    if name.startswith("python:"):
        from cu_cert.recipes._python import load_user_recipe

        return load_user_recipe(name, options, root=root)
    if name not in names():
        raise ConfigError(
            f"[training] recipe = {name!r} is unknown; expected one of {', '.join(names())} or python:module:recipe"
        )
    module = importlib.import_module(f"cu_cert.recipes.{name}")
    if hasattr(module, "make_at"):  # it reads files
        make_at: Callable[[Mapping[str, object], str | None], Recipe] = module.make_at
        return make_at(options, root)
    make: Callable[[Mapping[str, object]], Recipe] = module.make
    return make(options)
