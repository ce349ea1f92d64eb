"""``python:module:factory``: records from a function of the user's."""

from pathlib import Path

from cu_cert._user_code import importable, load_object, told
from cu_cert.data._config import DataConfig
from cu_cert.data._rows import agreed_classes, assemble
from cu_cert.errors import ConfigError, DataError
from cu_cert.records import Records


def load(config: DataConfig, root: Path) -> Records:
    """Call the factory, which returns Records or (ids, x, y, classes).

    Args:
        config: The table ``[data]``.
        root: Folder of ``cu-cert.toml``, from which the module is imported.

    Raises:
        ConfigError: There is no such function, or it fails.
        DataError: What it returns are not records.
    """
    factory = load_object(config.source, "[data] source", root=root).target
    if not callable(factory):
        raise ConfigError(
            f"[data] source = {config.source!r}: is a {type(factory).__name__}; expected a function without parameters "
            "that returns (ids, x, y, classes)"
        )
    with importable(root), told(f"[data] source = {config.source!r}: calling it"):
        made = factory()
    if isinstance(made, Records):
        agreed_classes(config.source, made.classes, config.classes)
        return made
    if not isinstance(made, tuple) or len(made) != 4:
        what = f"a tuple of {len(made)}" if isinstance(made, tuple) else f"a {type(made).__name__}"
        raise DataError(f"{config.source}: returned {what}; expected Records or a tuple (ids, x, y, classes)")
    ids, x, y, classes = made
    try:
        rows, names = list(ids), [str(name) for name in classes]
    except TypeError as error:
        raise DataError(f"{config.source}: ids or classes are not a list ({error}); expected lists of text") from None
    return assemble(config.source, rows, x, y, found=names, declared=config.classes)
