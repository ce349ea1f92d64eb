"""The errors of floor 1, drawn as a tree.

```
CertificateError                 root; carries the exit code of ``house.md``
├── UsageError            (2)    a file, an option or a configuration is wrong; nothing was judged
│   └── MissingFileError  (2)    a named file does not exist or cannot be read
├── UntrustedError        (4)    signature, key, subject, digest or claim is not accepted
└── PolicyError           (2)    a policy or trust file does not say what it must
```
"""

from typing import ClassVar


class CertificateError(Exception):
    """Root of floor 1. The message says what was found, where, what was expected and what to do next."""

    exit_code: ClassVar[int] = 2


class UsageError(CertificateError):
    """A file, an option or a configuration is wrong; nothing was judged."""


class MissingFileError(UsageError):
    """A named file does not exist or cannot be read."""


class PolicyError(UsageError):
    """A policy or trust file does not say what it must."""


class UntrustedError(CertificateError):
    """Verification failed; ``step`` names the check that refused.

    Args:
        step: One of ``carrier``, ``signature``, ``trust``, ``threshold``, ``time``, ``revocation``, ``subject``,
            ``evidence``, ``log``, ``claims``, ``report``, ``receipt``, ``verdict``.
        message: What was found, where, what was expected, what to do next.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, step: str, message: str) -> None:
        super().__init__(f"{step}: {message}")
        self.step = step
