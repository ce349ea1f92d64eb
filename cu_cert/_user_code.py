"""Code of the user: ``python:module:NAME`` imported from the project's folder, and a digest of its sources.

User code runs with the rights of whoever runs cu-cert, like any script of theirs. What this file adds: the module
really is the project's own, its errors read as one message with a line, and the bytes of every project file it imports
are known, so that a changed helper is a changed recipe.
"""

import ast
import hashlib
import importlib
import importlib.util
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cu_cert.errors import ConfigError, CuCertError

_SPELLING = re.compile(r"python:([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?::([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*))?", re.ASCII)

_OURS: Final = ("cu_cert", "cu_attacks", "cu_certificates", "cu_templates")
"""Not hashed even where the project is a clone of cu-cert: the certificate names our version on its own."""

# sys.modules would hand out a module of another project, or the old state of a changed file, under the same name.
# So user modules are known by name and file, and dropped before that happens; nobody else's module ever is.
_names: set[str] = set()
_files: set[str] = set()
_hashes: dict[Path, str] = {}


@dataclass(frozen=True)
class UserObject:
    """What ``python:module:NAME`` led to.

    Args:
        spelling: The full name.
        target: The object, or the module where NAME is omitted.
        folder: Where its files lie.
        sources: (path relative to ``folder``, SHA-256) of its module and of all project files that it imports, by
            path. Imports by computed name are not seen.
    """

    spelling: str
    target: object
    folder: Path
    sources: tuple[tuple[str, str], ...]


def load_object(spelling: str, place: str, *, root: Path | None) -> UserObject:
    """Import the object that ``python:module:NAME`` names.

    Args:
        spelling: The full name; ``:NAME`` may be left out or have dots.
        place: The option that holds it, such as ``[training] recipe``, for messages.
        root: Folder of ``cu-cert.toml``, searched first.

    Raises:
        ConfigError: The name is malformed, the module cannot be imported, or there is no such object.
    """
    parts = _SPELLING.fullmatch(spelling)
    if parts is None:
        raise ConfigError(f"{place} = {spelling!r}; expected python:module:NAME, such as python:train_code:Recipe")
    name, attributes = parts[1], parts[2]
    _drop_changed()
    with importable(root), told(f"{place} = {spelling!r}: importing {name}"):
        importlib.invalidate_caches()
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            raise ConfigError(
                f"{place} = {spelling!r}: there is no module {name} in {root or 'the module search path'}; expected "
                f"the file {name.replace('.', '/')}.py"
            )
        module = importlib.import_module(name)
    stated = getattr(module, "__file__", None)
    file = None if stated is None else Path(stated)
    own = dict(_find(name, root.resolve())).get(name) if root is not None else None
    if file is None or not file.is_file() or (own is not None and not own.samefile(file)):
        raise ConfigError(
            f"{place} = {spelling!r}: Python already has a module {name} ({file or 'built in, or a bare folder'}); "
            f"give {own or 'yours'} another name"
        )
    if root is not None and own is not None:
        folder, sources = root.resolve(), {name: own} | _sources(name, root.resolve(), only=None)
    else:
        folder = file.parents[name.count(".") + (file.name == "__init__.py")]
        sources = {name: file} | _sources(name, folder, only=name.partition(".")[0])
    digests = {member: _sha256(path) for member, path in sources.items()}
    if own is not None:
        _names.update(sources)
        _files.update(str(path) for path in sources.values())
        _hashes.update({path: digests[member] for member, path in sources.items()})
    target: object = module
    for attribute in attributes.split(".") if attributes else []:
        if not hasattr(target, attribute):
            raise ConfigError(f"{place} = {spelling!r}: {file} has no {attributes}; expected an object of this name")
        target = getattr(target, attribute)
    listed = sorted((path.relative_to(folder).as_posix(), digests[member]) for member, path in sources.items())
    return UserObject(spelling, target, folder, tuple(listed))


@contextmanager
def importable(root: Path | None) -> Iterator[None]:
    """Put ``root`` first on the module search path for a while.

    User code may import its neighbours when it runs, not only when it loads, so this surrounds its calls, too.
    Afterwards the path is as before: names of a project's files shall not hide modules from anybody else.
    """
    if root is None:
        yield
        return
    folder = root.resolve()
    entry = str(folder)
    for name in _names:
        _drop(name, unless=str(dict(_find(name, folder)).get(name)))
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # leave no __pycache__ in the user's folder
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.dont_write_bytecode = bytecode
        if entry in sys.path:
            sys.path.remove(entry)


@contextmanager
def told(doing: str) -> Iterator[None]:
    """Turn an error of user code into one message that names its file and line.

    Args:
        doing: What was going on; begins the message.
    """
    try:
        yield
    except CuCertError:
        raise
    except (Exception, SystemExit) as error:  # whatever user code raises is a fact about that code
        raise ConfigError(f"{doing} failed: {type(error).__name__}: {error}{_line_of(error)}") from error


def _line_of(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return ""  # its text names file and line already
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        # While a module is being imported it is not listed yet, but its folder comes first on the search path.
        below = (
            bool(sys.path[0])
            and frame.filename.startswith(sys.path[0] + os.sep)
            and "site-packages" not in frame.filename
        )
        if below or frame.filename in _files:
            return f" ({frame.filename}:{frame.lineno})"
    return ""


def _drop_changed() -> None:
    """Forget imported user modules when one of their files has changed since, so that digest and code agree."""
    if all(file.is_file() and _sha256(file) == digest for file, digest in _hashes.items()):
        return
    for name in _names:
        _drop(name)
    _hashes.clear()


def _drop(name: str, unless: str = "") -> None:
    file = getattr(sys.modules.get(name), "__file__", None)
    if file in _files and file != unless:
        del sys.modules[name]


def _sources(name: str, folder: Path, *, only: str | None) -> dict[str, Path]:
    """Return module name -> file for a module and everything in ``folder`` that it imports, directly or not.

    Args:
        name: The module to begin with.
        folder: Where to look.
        only: Follow only this top-level package; ``None`` = all in ``folder``.

    Raises:
        ConfigError: One of the files is not Python.
    """
    found: dict[str, Path] = {}
    waiting = [name]
    while waiting:
        wanted = waiting.pop()
        top = wanted.partition(".")[0]
        if top in _OURS or (only is not None and top != only):
            continue
        for member, file in _find(wanted, folder):
            if member not in found:
                found[member] = file
                waiting += _imports(member, file)
    return found


def _find(name: str, folder: Path) -> list[tuple[str, Path]]:
    """Return (module name, file) for each part of a dotted name that is a file below ``folder``, outermost first."""
    files: list[tuple[str, Path]] = []
    parts = name.split(".")
    for depth, part in enumerate(parts, start=1):
        member = ".".join(parts[:depth])
        package, plain = folder / part / "__init__.py", folder / f"{part}.py"
        if package.is_file():
            files.append((member, package))
        elif plain.is_file():
            return [*files, (member, plain)]
        elif not (folder / part).is_dir():
            break
        folder = folder / part
    return files


def _imports(member: str, file: Path) -> list[str]:
    """List the names that a module imports anywhere in its text, functions included."""
    try:
        tree = ast.parse(file.read_bytes(), filename=str(file))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        raise ConfigError(f"{file}:{line}: is not Python ({error}); mend it, since the project imports it") from None
    package = member if file.name == "__init__.py" else member.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            names += [base] if base else []
            # What follows "import" may be a module, too; where it is not, _find() ends at the module that holds it.
            names += [f"{base}.{alias.name}".lstrip(".") for alias in node.names if alias.name != "*"]
    return names


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
