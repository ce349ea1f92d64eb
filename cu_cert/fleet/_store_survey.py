"""Everything that lies in a store, seen without changing it: models, leftovers of runs that were cut, damaged files."""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cu_cert.fleet._store_entry import Damaged, Entry, load_entry
from cu_cert.fleet._store_files import DAMAGED, MODEL_FILE, TEMPORARY, TIMING, require_format

_FOLDER: Final = re.compile(r"[0-9a-f]{2}")
_ASIDE: Final = re.compile(rf"{MODEL_FILE.pattern}\.[0-9a-f]{{8}}")


@dataclass(frozen=True)
class Item:
    """One model as it lies in the store.

    Args:
        key: Its address.
        entry: Its entry, ``None`` when that is missing or damaged.
        sizes: Bytes of each of its files, by path.
        used: When it was last used, seconds since 1970.
    """

    key: str
    entry: Entry | None
    sizes: Mapping[Path, int]
    used: float

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(self.sizes.values())

    @property
    def weights(self) -> dict[Path, int]:
        """Its weights file, if it is there."""
        return {path: size for path, size in self.sizes.items() if path.suffix == ".pt"}


@dataclass(frozen=True)
class Survey:
    """Everything that lies in a store.

    Args:
        root: The store.
        items: Its models, and files without an entry.
        leftovers: Bytes of temporary files of runs that were cut, by path.
        damaged: Bytes of files that were moved aside, by path.
        ages: When each of the leftovers was written, seconds since 1970.
    """

    root: Path
    items: tuple[Item, ...]
    leftovers: Mapping[Path, int]
    damaged: Mapping[Path, int]
    ages: Mapping[Path, float] = field(repr=False)

    @property
    def size(self) -> int:
        """Bytes of everything."""
        return sum(item.size for item in self.items) + sum(self.leftovers.values()) + sum(self.damaged.values())


def survey(root: Path) -> Survey:
    """Look at everything in a store; nothing is changed, and no use is noted.

    Raises:
        DataError: It is the store of a newer version.
    """
    require_format(root)
    files: dict[str, dict[Path, os.stat_result]] = {}
    leftovers: dict[Path, os.stat_result] = {}
    for folder in _folders(root):
        for path, facts in _plain_files(folder):
            found = MODEL_FILE.fullmatch(path.name)
            if found and path.name[:2] == folder.name:
                files.setdefault(found[1], {})[path] = facts
            elif TEMPORARY.fullmatch(path.name):
                leftovers[path] = facts
    for folder in (root, root / TIMING):
        leftovers |= {path: facts for path, facts in _plain_files(folder) if TEMPORARY.fullmatch(path.name)}
    aside = {path: facts.st_size for path, facts in _plain_files(root / DAMAGED) if _ASIDE.fullmatch(path.name)}
    return Survey(
        root=root,
        items=tuple(_item(root, key, files[key]) for key in sorted(files)),
        leftovers={path: facts.st_size for path, facts in leftovers.items()},
        damaged=aside,
        ages={path: facts.st_mtime for path, facts in leftovers.items()},
    )


def _item(root: Path, key: str, files: Mapping[Path, os.stat_result]) -> Item:
    path, entry = root / key[:2] / f"{key}.json", None
    with contextlib.suppress(FileNotFoundError, Damaged):
        entry = load_entry(path, key)
    used = files[path].st_mtime if path in files else max(facts.st_mtime for facts in files.values())
    return Item(key, entry, {path: facts.st_size for path, facts in files.items()}, used)


def _folders(root: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(root) as names:
        yield from sorted(
            root / one.name for one in names if _FOLDER.fullmatch(one.name) and one.is_dir(follow_symlinks=False)
        )


def _plain_files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield plain files, never what a link points at, which may lie anywhere."""
    if folder.is_symlink():
        return
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as names:
        for one in names:
            if one.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    yield folder / one.name, one.stat(follow_symlinks=False)
