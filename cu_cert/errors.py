"""The errors of floor 3, drawn as a tree.

```
CuCertError                root; carries the exit code of ``house.md``
├── ConfigError      (2)   cu-cert.toml, an option or a recipe is wrong
├── DataError        (2)   a data source, an id list or a model file is wrong
├── MethodError      (2)   an unlearning method is unknown, lacks what it needs, or did nothing
├── EnvironmentProblem (2) a folder is read-only, a disk is full, an extra is missing
└── Interrupted    (130)   stopped by the user; everything finished is kept and resumes
```
"""

from typing import ClassVar


class CuCertError(Exception):
    """Root of floor 3. The message says what was found, where, what was expected and what to do next."""

    exit_code: ClassVar[int] = 2


class ConfigError(CuCertError):
    """A project file, an option or a recipe is wrong."""


class DataError(CuCertError):
    """A data source, an id list or a model file is wrong."""


class MethodError(CuCertError):
    """An unlearning method is unknown, lacks what it needs, or did nothing."""


class EnvironmentProblem(CuCertError):
    """A folder is read-only, a disk is full, or an optional part is not installed."""


class Interrupted(CuCertError):
    """The user stopped the run; finished work is kept and the same command resumes."""

    exit_code: ClassVar[int] = 130
