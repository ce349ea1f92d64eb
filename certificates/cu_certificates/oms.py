"""OpenSSF model signing: the digest by which its signature names a model, and that signature beside ours.

A model can carry a signature of its own, ``model.sig``, by which its maker vouches for its files
(https://github.com/sigstore/model-transparency). It names the model by one digest: SHA-256 over the raw SHA-256 digests
of its files in the order of their paths. A certificate states the same digest as ``scope.model.omsRoot``, so that both
documents can be seen to speak of one model. File names are not part of that digest; only the signed list has them.
"""

from collections.abc import Collection
from contextlib import redirect_stdout
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Final

from cu_certificates._files import kind_of, sha256_of
from cu_certificates.errors import MissingFileError, UntrustedError, UsageError

EXTRA: Final = "pip install 'cu-cert[model-signing]'"
IGNORED: Final = (".git", ".gitattributes", ".github", ".gitignore")
"""What model signing leaves out by default, at the top of a model's folder."""


def file_root(digest: str) -> str:
    """Return the digest by which model signing names a model that is one file.

    Args:
        digest: SHA-256 of the file in hexadecimal.
    """
    return sha256(bytes.fromhex(digest)).hexdigest()


def model_root(model: Path, *, ignored: Collection[Path] = ()) -> str:
    """Return the digest by which model signing names a model, with its default settings (whole files, SHA-256).

    Args:
        model: A file, or a folder of files.
        ignored: Files and folders below ``model`` that are left out besides git's own, such as ``model.sig``.

    Raises:
        MissingFileError: There is nothing, or a file cannot be read.
        UsageError: It holds a symbolic link, which model signing refuses, or nothing to hash.
    """
    if kind_of(model) == "absent":
        raise MissingFileError(f"model {str(model)!r} does not exist; give the path of a file or a folder")
    _refuse_link(model)
    if kind_of(model) == "file":
        return file_root(sha256_of(model, what="model file"))
    left_out = [model / name for name in IGNORED] + list(ignored)
    files = []
    for path in model.rglob("*"):
        _refuse_link(path)
        if path.is_file() and not any(path.is_relative_to(other) for other in left_out):
            files.append(path)
    if not files:
        raise UsageError(f"model {str(model)!r}: no file in this folder; give the model's own folder")
    # By the parts of the path, as model signing sorts: "a/b" comes before "a.b", which it does not as text.
    files.sort(key=lambda path: path.relative_to(model).parts)
    return sha256(b"".join(bytes.fromhex(sha256_of(path, what="model file")) for path in files)).hexdigest()


def _refuse_link(path: Path) -> None:
    if path.is_symlink():
        raise UsageError(f"model {str(path)!r}: is a symbolic link, which model signing refuses; give the file itself")


def verify_model_signature(model: Path, signature: Path, public: Path) -> None:
    """Verify a model's own signature by a key: the signature, and that each file is the signed one.

    Args:
        model: The model, a file or a folder.
        signature: Its ``model.sig``.
        public: The public key of whoever signed, PEM.

    Raises:
        MissingFileError: A file does not exist.
        UntrustedError: The signature is not valid for this model and this key.
        UsageError: The library is not installed.
    """
    try:
        from model_signing import verifying
    except ImportError:
        raise UsageError(f"a model's own signature needs the library model-signing; install it with {EXTRA}") from None
    for path, what in ((signature, "model signature"), (public, "public key")):
        sha256_of(path, what=what)  # says what is wrong with the file, which the library does not
    if kind_of(model) == "absent":
        raise MissingFileError(f"model {str(model)!r} does not exist; give the path of a file or a folder")
    try:
        with redirect_stdout(StringIO()):  # the library prints advice to whoever signs
            checker = verifying.Config()  # type: ignore[no-untyped-call]
            checker.use_elliptic_key_verifier(public_key=public).verify(model, signature)
    except Exception as problem:  # whatever stops the library on a hostile file, it has then not verified it
        told = "".join(character if character.isprintable() else " " for character in str(problem))[:300]
        raise UntrustedError(
            "subject",
            f"model signature {str(signature)!r} is not valid for {str(model)!r} and key {str(public)!r}: "
            f"{told or type(problem).__name__}; ask the model's maker for both files and the key",
        ) from None
