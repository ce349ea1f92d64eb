"""Floor 2: numbers in, evidence out. Never imports torch.

A member announces itself by being a file: :func:`names` lists the files without importing them and :func:`get` imports
one. Each file ends in one constant, ``ATTACK``.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cu_attacks._types import Attack


def names() -> list[str]:
    """List the attacks without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def get(name: str) -> "Attack":
    """Import one attack by its name.

    Raises:
        KeyError: There is no such attack.
    """
    if name not in names():
        raise KeyError(f"attack {name!r} is unknown; expected one of {', '.join(names())}")
    attack: Attack = importlib.import_module(f"cu_attacks.{name}").ATTACK
    return attack
