"""Keys: ECDSA P-256 with SHA-256, the one kind that every public verifier accepts, and Ed25519 as the second.

A key is named by its OpenSSH fingerprint ``SHA256:...``, which ``ssh-keygen -lf`` prints as well. Private keys are
PKCS#8 PEM files with mode 0600 and are never overwritten. Which algorithm a signature is checked with follows from the
key that the reader trusts, never from what is signed.
"""

import base64
import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, padding, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from cu_certificates._files import kind_of, make_folder, read_bytes, write_new
from cu_certificates.errors import MissingFileError, UsageError

PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey
"""A key that may sign a cu-cert document; :func:`algorithm_of` tells its one algorithm."""
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

ECDSA_P256: Final = "ecdsa-p256-sha256"
ED25519: Final = "ed25519"
ALGORITHMS: Final = (ECDSA_P256, ED25519)
ALGORITHM: Final = ECDSA_P256
"""What a new key gets unless its owner asks for the other; every verifier that was tried accepts it."""
KDF_ITERATIONS: Final = 600_000
"""cryptography's own BestAvailableEncryption stops at 2048, which a graphics card tries in no time."""

_CURVE: Final = "secp256r1"
_MAX_PEM: Final = 64 * 1024
_LOCAL_NAME: Final = "audit-key.pem"

# Object identifiers, DER-encoded: PBES2, PBKDF2, hmacWithSHA256 and aes256-CBC (RFC 8018, RFC 3565).
_OID_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")
_OID_PBKDF2: Final = bytes.fromhex("06092a864886f70d01050c")
_OID_HMAC_SHA256: Final = bytes.fromhex("06082a864886f70d0209")
_OID_AES256_CBC: Final = bytes.fromhex("060960864801650304012a")
_SEQUENCE, _OCTETS, _INTEGER, _NULL = 0x30, 0x04, 0x02, bytes.fromhex("0500")


def _kind(key: object) -> str:
    match key:
        case rsa.RSAPublicKey() | rsa.RSAPrivateKey():
            return f"an RSA key of {key.key_size} bits"
        case ec.EllipticCurvePublicKey() | ec.EllipticCurvePrivateKey():
            return f"an elliptic-curve key on {key.curve.name}"
        case ed25519.Ed25519PublicKey() | ed25519.Ed25519PrivateKey():
            return "an Ed25519 key"
        case _:
            return f"a key of type {type(key).__name__}"


def _refuse(where: str, key: object) -> UsageError:
    return UsageError(
        f"{where}: {_kind(key)}; expected an ECDSA P-256 or Ed25519 key (make one with 'cu-cert key generate')"
    )


def _public(where: str, key: object) -> PublicKey:
    match key:
        case ed25519.Ed25519PublicKey():
            return key
        case ec.EllipticCurvePublicKey() if key.curve.name == _CURVE:
            return key
    raise _refuse(where, key)


def _private(where: str, key: object) -> PrivateKey:
    match key:
        case ed25519.Ed25519PrivateKey():
            return key
        case ec.EllipticCurvePrivateKey() if key.curve.name == _CURVE:
            return key
    raise _refuse(where, key)


def algorithm_of(public: PublicKey) -> str:
    """Return the only algorithm that this key signs with: ``ecdsa-p256-sha256`` or ``ed25519``.

    Args:
        public: The key.

    Raises:
        UsageError: The key is of another kind, for example on another curve.
    """
    return ED25519 if isinstance(_public("public key", public), ed25519.Ed25519PublicKey) else ECDSA_P256


def require_signature(public: PublicKey, signature: bytes, data: bytes) -> None:
    """Return if ``signature`` is this key's over ``data``.

    Args:
        public: The key; its kind decides the algorithm.
        signature: DER for ECDSA, 64 bytes for Ed25519.
        data: What was signed.

    Raises:
        InvalidSignature: (of ``cryptography``) It is not.
        UsageError: The key is of a kind that is not accepted.
    """
    algorithm_of(public)
    if isinstance(public, ed25519.Ed25519PublicKey):
        public.verify(signature, data)
    else:
        public.verify(signature, data, ec.ECDSA(hashes.SHA256()))


def fingerprint(public: PublicKey) -> str:
    """Return the OpenSSH fingerprint of a public key, ``SHA256:`` and unpadded base64.

    Args:
        public: The key.
    """
    wire = public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).split(b" ")[1]
    digest = hashlib.sha256(base64.b64decode(wire)).digest()
    return "SHA256:" + base64.b64encode(digest).rstrip(b"=").decode("ascii")


@dataclass(frozen=True)
class SigningKey:
    """A private key that signs.

    Args:
        private: An ECDSA P-256 or an Ed25519 private key.

    Raises:
        UsageError: The key is of another kind.
    """

    private: PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        _private("signing key", self.private)

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return self.private.public_key()

    @property
    def keyid(self) -> str:
        """The OpenSSH fingerprint of the public half."""
        return fingerprint(self.public)

    @property
    def algorithm(self) -> str:
        """The algorithm that the key signs with."""
        return algorithm_of(self.public)

    def sign(self, data: bytes) -> bytes:
        """Return the signature over ``data``: DER-encoded ECDSA over its SHA-256, or the 64 bytes of Ed25519.

        Args:
            data: What is signed.
        """
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(data)
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))


@dataclass(frozen=True, kw_only=True)
class LocalKey:
    """This user's own audit key.

    Args:
        key: The key.
        path: The private key's file.
        public_path: The public key's file, to hand to readers.
        created: Whether the key was made by this call.
    """

    key: SigningKey
    path: Path
    public_path: Path
    created: bool


def public_path_of(path: Path) -> Path:
    """Return where the public half of the private key at ``path`` is kept: ``NAME.pub.pem`` beside it.

    Args:
        path: The private key's file.
    """
    return path.parent / ((path.stem if path.suffix == ".pem" else path.name) + ".pub.pem")


def default_key_folder() -> Path:
    """Return the user's folder for keys and ``trust.toml``.

    It is ``$CU_CERT_CONFIG``, else ``$XDG_CONFIG_HOME/cu-cert``, else ``~/.config/cu-cert``.

    Raises:
        UsageError: There is no home folder.
    """
    if own := os.environ.get("CU_CERT_CONFIG"):
        return Path(own)
    # The XDG rules say that a relative path is to be ignored.
    if (shared := os.environ.get("XDG_CONFIG_HOME")) and Path(shared).is_absolute():
        return Path(shared) / "cu-cert"
    try:
        return Path.home() / ".config" / "cu-cert"
    except RuntimeError:
        raise UsageError("no home folder was found; set CU_CERT_CONFIG to the folder for keys") from None


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    length = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def _encrypted_pem(plain: bytes, passphrase: bytes) -> bytes:
    """Return EncryptedPrivateKeyInfo (RFC 5958) under PBES2 (RFC 8018 section 6.2) as PEM."""
    salt, vector = os.urandom(16), os.urandom(16)
    secret = hashlib.pbkdf2_hmac("sha256", passphrase, salt, KDF_ITERATIONS, dklen=32)
    padder = padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES(secret), modes.CBC(vector)).encryptor()
    sealed = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
    # One spare bit keeps the INTEGER positive.
    rounds = KDF_ITERATIONS.to_bytes(KDF_ITERATIONS.bit_length() // 8 + 1, "big")
    prf = _der(_SEQUENCE, _OID_HMAC_SHA256, _NULL)
    kdf = _der(_SEQUENCE, _OID_PBKDF2, _der(_SEQUENCE, _der(_OCTETS, salt), _der(_INTEGER, rounds), prf))
    scheme = _der(_SEQUENCE, _OID_AES256_CBC, _der(_OCTETS, vector))
    algorithm = _der(_SEQUENCE, _OID_PBES2, _der(_SEQUENCE, kdf, scheme))
    text = base64.b64encode(_der(_SEQUENCE, algorithm, _der(_OCTETS, sealed)))
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return b"\n".join([b"-----BEGIN ENCRYPTED PRIVATE KEY-----", *lines, b"-----END ENCRYPTED PRIVATE KEY-----", b""])


def _private_pem(key: SigningKey, passphrase: bytes | None) -> bytes:
    encoding = serialization.Encoding.PEM if passphrase is None else serialization.Encoding.DER
    plain = key.private.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return plain if passphrase is None else _encrypted_pem(plain, passphrase)


def public_pem(public: PublicKey) -> bytes:
    """Return a public key as the PEM file that readers get (SubjectPublicKeyInfo).

    Args:
        public: The key.
    """
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def ephemeral_key(algorithm: str = ALGORITHM) -> SigningKey:
    """Return a fresh key that exists only in memory.

    Args:
        algorithm: One of ``ALGORITHMS``.

    Raises:
        UsageError: The algorithm is another.
    """
    if algorithm not in ALGORITHMS:
        raise UsageError(f"algorithm {algorithm!r:.80}; expected one of {', '.join(ALGORITHMS)}")
    if algorithm == ED25519:
        return SigningKey(ed25519.Ed25519PrivateKey.generate())
    return SigningKey(ec.generate_private_key(ec.SECP256R1()))


def generate_key(path: Path, *, passphrase: bytes | None, algorithm: str = ALGORITHM) -> SigningKey:
    """Make a key and write it to ``path`` (mode 0600), its public half to ``NAME.pub.pem`` beside it.

    Args:
        path: The new file; nothing is overwritten.
        passphrase: Protects the file (PBES2: PBKDF2-HMAC-SHA256 with 600 000 rounds, AES-256-CBC); ``None`` for an
            unprotected file.
        algorithm: One of ``ALGORITHMS``.

    Returns:
        The key.

    Raises:
        UsageError: A file exists already, the folder cannot be written, the passphrase is empty, or the algorithm is
            unknown.
    """
    if passphrase == b"":
        raise UsageError(f"key {str(path)!r}: the passphrase is empty; give one, or none at all")
    key = ephemeral_key(algorithm)
    public = public_path_of(path)
    if kind_of(public) != "absent":
        raise UsageError(f"public key {str(public)!r} exists already and is never overwritten; give another path")
    make_folder(path.parent, private=True)
    write_new(path, _private_pem(key, passphrase), what="private key", mode=0o600)
    write_new(public, public_pem(key.public), what="public key")
    return key


def load_private_key(path: Path, passphrase: bytes | None = None) -> SigningKey:
    """Read a private key.

    Args:
        path: A PKCS#8 PEM file.
        passphrase: The passphrase of a protected file, else ``None``.

    Raises:
        MissingFileError: The file cannot be read.
        UsageError: It is no private key of an accepted kind, or the passphrase is absent, wrong or not needed.
    """
    where = f"private key {str(path)!r}"
    data = read_bytes(path, what="private key", max_bytes=_MAX_PEM)
    if b"PRIVATE KEY-----" not in data:
        raise UsageError(f"{where}: no private key in PEM form; expected a file made by 'cu-cert key generate'")
    try:
        key = serialization.load_pem_private_key(data, passphrase)
    except TypeError:
        found, hint = ("is", "give it with --passphrase-fd") if passphrase is None else ("is not", "give none")
        raise UsageError(f"{where}: {found} protected by a passphrase; {hint}") from None
    except (ValueError, UnsupportedAlgorithm) as error:
        cause = "wrong passphrase, or a damaged file" if passphrase is not None else f"damaged file ({error})"
        raise UsageError(f"{where}: cannot be opened: {cause}") from None
    return SigningKey(_private(where, key))


def load_public_key(path: Path) -> PublicKey:
    """Read a public key.

    Args:
        path: A PEM file with a SubjectPublicKeyInfo.

    Raises:
        MissingFileError: The file cannot be read.
        UsageError: It is no public key of an accepted kind.
    """
    where = f"public key {str(path)!r}"
    data = read_bytes(path, what="public key", max_bytes=_MAX_PEM)
    if b"PRIVATE KEY-----" in data:
        raise UsageError(f"{where}: this file holds a private key; give its public half, {str(public_path_of(path))!r}")
    return parse_public_key(data, where)


def parse_public_key(data: bytes, where: str) -> PublicKey:
    """Read a public key from the bytes of a PEM file.

    Args:
        data: A SubjectPublicKeyInfo in PEM form.
        where: Where the bytes come from, for messages.

    Raises:
        UsageError: They are no public key of an accepted kind.
    """
    try:
        key = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise UsageError(f"{where}: no public key in PEM form (BEGIN PUBLIC KEY); expected one") from None
    return _public(where, key)


def local_key(passphrase: bytes | None = None) -> LocalKey:
    """Return this user's audit key ``audit-key.pem``; make it on first use.

    Args:
        passphrase: The passphrase of the existing key, or the one that a new key is to get.

    Raises:
        UsageError: The key cannot be made or opened, or the public key beside it belongs to another key.
    """
    path = default_key_folder() / _LOCAL_NAME
    public = public_path_of(path)
    if kind_of(path) == "absent":
        key = generate_key(path, passphrase=passphrase)
        return LocalKey(key=key, path=path, public_path=public, created=True)
    key = load_private_key(path, passphrase)
    try:
        beside = load_public_key(public)
    except MissingFileError:
        write_new(public, public_pem(key.public), what="public key")
    else:
        if fingerprint(beside) != key.keyid:
            raise UsageError(
                f"public key {str(public)!r} is {fingerprint(beside)}, but the private key beside it is {key.keyid}; "
                "move the wrong one away"
            )
    return LocalKey(key=key, path=path, public_path=public, created=False)
