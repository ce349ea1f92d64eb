"""The scores that the comparison sends to other libraries, from so little training that a test can wait for it."""

from functools import lru_cache
from typing import Any

import numpy.typing as npt

from benchmarks._peers_scores import Sizes, make

SMALL = Sizes(shadows=4, epochs=1, race_shadows=4, null_audits=3, null_canaries=20)


@lru_cache(maxsize=1)
def small_scores() -> dict[str, npt.NDArray[Any]]:
    """Return the arrays; a test that changes them copies first."""
    return make(SMALL)
