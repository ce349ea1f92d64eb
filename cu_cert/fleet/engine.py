"""Which engine trains the models of a fleet: one at a time, or the models of a cohort in one program."""

from cu_cert.errors import ConfigError, EnvironmentProblem
from cu_cert.recipes import CohortRecipe, Recipe


def cohort_size(recipe: Recipe, engine: str) -> int:
    """Return how many models are trained in one program; 1 trains each alone.

    Args:
        recipe: The recipe.
        engine: ``auto``, ``single`` or ``vectorised``, as in ``[audit] engine``.

    Raises:
        ConfigError: The vectorised engine is demanded and the recipe has none.
    """
    if engine == "single":
        return 1
    if isinstance(recipe, CohortRecipe):
        return recipe.cohort_size
    if engine == "vectorised":
        raise ConfigError(
            f'[audit] engine = "vectorised": the recipe {recipe.name} trains one model at a time; expected "auto" or '
            '"single", or a recipe with train_cohort()'
        )
    return 1


def training_device(wanted: str) -> str:
    """Return where cohorts are trained: ``cpu``, or the name of the accelerator, on which bits depend.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda``, as in ``[audit] device``.

    Raises:
        EnvironmentProblem: An accelerator is demanded and there is none.
    """
    import torch

    there = torch.cuda.is_available()
    if wanted == "cuda" and not there:
        raise EnvironmentProblem(
            '[audit] device = "cuda": torch finds no accelerator here; expected "auto" or "cpu", or another machine'
        )
    return "cpu" if wanted == "cpu" or not there else f"cuda:{torch.cuda.get_device_name()}"
