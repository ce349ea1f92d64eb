"""Where a passphrase comes from: a file descriptor, a file, a question on the terminal; never the arguments."""

from pathlib import Path

FILE_VARIABLE = "CU_CERT_PASSPHRASE_FILE"

_MAX_PASSPHRASE = 4096


def read_passphrase(descriptor: int) -> bytes:
    """Read a passphrase from an open file descriptor up to its end; one final line end is dropped.

    A descriptor, because what stands in the arguments can be read by every process of the machine.

    Args:
        descriptor: The number of the file descriptor.

    Raises:
        UsageError: It cannot be read, or what it holds is empty or far too long.
    """
    import os

    from cu_certificates.errors import UsageError

    data = b""
    try:
        while len(data) <= _MAX_PASSPHRASE and (chunk := os.read(descriptor, _MAX_PASSPHRASE + 1)):
            data += chunk
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--passphrase-fd {descriptor}: cannot be read ({error}); open it, for example with 3< FILE"
        ) from None
    return _trimmed(data, f"--passphrase-fd {descriptor}")


def _trimmed(data: bytes, where: str) -> bytes:
    from cu_certificates.errors import UsageError

    data = data.removesuffix(b"\n").removesuffix(b"\r")
    if not 0 < len(data) <= _MAX_PASSPHRASE:
        raise UsageError(f"{where}: {len(data)} bytes; expected a passphrase of 1 to {_MAX_PASSPHRASE} bytes")
    return data


def _somebody_to_ask() -> bool:
    import sys

    return sys.stdin.isatty() and sys.stderr.isatty()


def key_passphrase(key: Path, descriptor: int | None) -> bytes | None:
    """Return the passphrase of a key file: from the descriptor, else for a protected key from a file or the terminal.

    The file is the one that ``CU_CERT_PASSPHRASE_FILE`` names; the question is asked only on a terminal.

    Args:
        key: The private key's file.
        descriptor: What ``--passphrase-fd`` gave, if anything.

    Returns:
        The passphrase; ``None`` when the key is not protected or nobody can be asked.

    Raises:
        UsageError: A descriptor or file holds no passphrase.
        MissingFileError: A file cannot be read.
    """
    import os

    from cu_certificates._files import read_bytes

    if descriptor is not None:
        return read_passphrase(descriptor)
    if b"ENCRYPTED PRIVATE KEY" not in read_bytes(key, what="private key", max_bytes=64 * 1024):
        return None
    if path := os.environ.get(FILE_VARIABLE):
        found = read_bytes(Path(path), what=f"passphrase file ({FILE_VARIABLE})", max_bytes=_MAX_PASSPHRASE + 2)
        return _trimmed(found, f"{FILE_VARIABLE} {path!r}")
    if not _somebody_to_ask():
        return None
    import getpass

    return _trimmed(getpass.getpass(f"Passphrase of {key}: ").encode(), "passphrase")


def new_passphrase(descriptor: int | None, *, ask: bool) -> bytes | None:
    """Return the passphrase that a new key is to get; ``None`` for an unprotected one.

    Args:
        descriptor: What ``--passphrase-fd`` gave, if anything.
        ask: Whether to ask for it, twice, on the terminal.

    Raises:
        UsageError: Both were given, there is no terminal, or the two answers differ.
    """
    from cu_certificates.errors import UsageError

    if descriptor is not None:
        if ask:
            raise UsageError("--passphrase and --passphrase-fd: give one of the two")
        return read_passphrase(descriptor)
    if not ask:
        return None
    if not _somebody_to_ask():
        raise UsageError("--passphrase: nobody can be asked without a terminal; give --passphrase-fd N instead")
    import getpass

    first = _trimmed(getpass.getpass("Passphrase for the new key: ").encode(), "passphrase")
    if getpass.getpass("The same again: ").encode() != first:
        raise UsageError("the two passphrases differ; nothing was written, try again")
    return first
