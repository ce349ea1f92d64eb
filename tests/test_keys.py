"""Keys: two kinds, never overwritten, readable by openssl, named as OpenSSH names them."""

import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from cu_certificates import keys
from cu_certificates.errors import MissingFileError, UsageError

PEM = serialization.Encoding.PEM
NEEDS_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")

# Made once with `openssl ecparam -name prime256v1 -genkey`, its fingerprint with `ssh-keygen -lf`.
KNOWN_PUBLIC = b"""-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEBpOfHKZUF2WMpYDloRID61e6HMaL
q5aoLa57PtMQdtBGBl7R2Z2qCWZndJbM4zzaTz38bZznljI+ZQDBj0X44g==
-----END PUBLIC KEY-----
"""
KNOWN_FINGERPRINT = "SHA256:xMgzB3jZtWTZPtuBgYym24HaB2sHbHAX90mK0luquDs"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of the test's own: no test may touch the user's keys."""
    folder = tmp_path / "config"
    monkeypatch.setenv("CU_CERT_CONFIG", str(folder))
    return folder


def test_a_key_is_written_for_its_owner_alone_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "new" / "audit.pem"
    key = keys.generate_key(path, passphrase=None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")
    public = tmp_path / "new" / "audit.pub.pem"
    assert public == keys.public_path_of(path)
    assert public.read_bytes().startswith(b"-----BEGIN PUBLIC KEY-----\n")
    assert keys.load_private_key(path).keyid == key.keyid == keys.fingerprint(keys.load_public_key(public))
    assert sorted(found.name for found in path.parent.iterdir()) == ["audit.pem", "audit.pub.pem"]


def test_what_a_key_signs_its_public_half_accepts() -> None:
    key = keys.ephemeral_key()
    signature = key.sign(b"data")
    key.public.verify(signature, b"data", ec.ECDSA(hashes.SHA256()))
    assert signature[0] == 0x30  # DER, not raw r||s
    assert "private" not in repr(key)


@pytest.mark.parametrize("there", ["audit.pem", "audit.pub.pem"])
def test_nothing_is_overwritten(tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_bytes(b"precious")
    with pytest.raises(UsageError, match="never overwritten"):
        keys.generate_key(tmp_path / "audit.pem", passphrase=None)
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [(there, b"precious")]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="cannot be made"):
        keys.generate_key(tmp_path / "file" / "deep" / "audit.pem", passphrase=None)


def test_the_fingerprint_is_that_of_openssh(tmp_path: Path) -> None:
    (tmp_path / "known.pub.pem").write_bytes(KNOWN_PUBLIC)
    assert keys.fingerprint(keys.load_public_key(tmp_path / "known.pub.pem")) == KNOWN_FINGERPRINT


# --- Passphrases -----------------------------------------------------------------------------------------------------


def test_a_protected_key_opens_with_its_passphrase_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit.pem"
    key = keys.generate_key(path, passphrase="gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n".encode())
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    assert max(len(line) for line in path.read_bytes().splitlines()) <= 64
    assert keys.load_private_key(path, "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n".encode()).keyid == key.keyid
    with pytest.raises(UsageError, match="--passphrase-fd"):
        keys.load_private_key(path)
    with pytest.raises(UsageError, match="wrong passphrase"):
        keys.load_private_key(path, b"grun")


def test_a_passphrase_that_is_empty_or_not_needed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="empty"):
        keys.generate_key(tmp_path / "a.pem", passphrase=b"")
    keys.generate_key(tmp_path / "b.pem", passphrase=None)
    with pytest.raises(UsageError, match="is not protected"):
        keys.load_private_key(tmp_path / "b.pem", b"secret")


@NEEDS_OPENSSL
def test_openssl_reads_a_protected_key_and_sees_its_rounds(tmp_path: Path) -> None:
    path = tmp_path / "audit.pem"
    key = keys.generate_key(path, passphrase=b"secret")
    command = ["openssl", "pkey", "-in", str(path), "-passin", "pass:secret", "-check", "-pubout"]
    read = subprocess.run(command, capture_output=True, check=True)
    (tmp_path / "again.pub.pem").write_bytes(read.stdout[read.stdout.index(b"-----BEGIN") :])
    assert keys.fingerprint(keys.load_public_key(tmp_path / "again.pub.pem")) == key.keyid
    shown = subprocess.run(["openssl", "asn1parse", "-in", str(path)], capture_output=True, check=True).stdout.decode()
    assert f":{keys.KDF_ITERATIONS:06X}\n" in shown
    for name in ("PBES2", "PBKDF2", "hmacWithSHA256", "aes-256-cbc"):
        assert name in shown


@NEEDS_OPENSSL
def test_a_key_protected_by_openssl_opens(tmp_path: Path) -> None:
    key = keys.generate_key(tmp_path / "plain.pem", passphrase=None)
    command = ["openssl", "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256", "-iter", "1000"]
    files = ["-in", str(tmp_path / "plain.pem"), "-out", str(tmp_path / "sealed.pem"), "-passout", "pass:secret"]
    subprocess.run([*command, *files], capture_output=True, check=True)
    assert keys.load_private_key(tmp_path / "sealed.pem", b"secret").keyid == key.keyid


@pytest.mark.parametrize("size", [0, 1, 127, 128, 255, 256, 70_000])
def test_der_lengths_are_minimal(size: int) -> None:
    encoded = keys._der(0x04, bytes(size))
    header = encoded[: len(encoded) - size]
    if size < 128:
        assert header == bytes([0x04, size])
    else:
        assert header[1] - 0x80 == len(header) - 2
        assert header[2] != 0
        assert int.from_bytes(header[2:], "big") == size


# --- Other kinds -----------------------------------------------------------------------------------------------------

OTHERS: dict[str, Callable[[], Any]] = {
    "RSA key of 2048 bits": lambda: rsa.generate_private_key(65537, 2048),
    "elliptic-curve key on secp384r1": lambda: ec.generate_private_key(ec.SECP384R1()),
    "elliptic-curve key on secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "key of type Ed448P": ed448.Ed448PrivateKey.generate,
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_kinds_of_keys_are_named_and_refused(tmp_path: Path, kind: str) -> None:
    key = OTHERS[kind]()
    private, public = tmp_path / "a.pem", tmp_path / "a.pub.pem"
    private.write_bytes(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(UsageError, match=f"{kind}.*; expected an ECDSA P-256 or Ed25519 key"):
        keys.load_private_key(private)
    with pytest.raises(UsageError, match=f"{kind}.*; expected an ECDSA P-256 or Ed25519 key"):
        keys.load_public_key(public)
    with pytest.raises(UsageError, match="expected an ECDSA P-256 or Ed25519 key"):
        keys.SigningKey(key)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        b"-----BEGIN PUBLIC KEY-----\n",
        b"\xff\xfe",
    ],
)
def test_files_that_hold_no_key_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.pem"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.pem"):
        keys.load_private_key(path)
    with pytest.raises(UsageError, match=r"x\.pem"):
        keys.load_public_key(path)


def test_a_private_key_in_place_of_a_public_one_names_the_right_file(tmp_path: Path) -> None:
    keys.generate_key(tmp_path / "a.pem", passphrase=None)
    with pytest.raises(UsageError, match=r"private key; give its public half, .*a\.pub\.pem"):
        keys.load_public_key(tmp_path / "a.pem")
    with pytest.raises(UsageError, match="no private key"):
        keys.load_private_key(tmp_path / "a.pub.pem")


def test_missing_files_folders_and_huge_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="does not exist"):
        keys.load_private_key(tmp_path / "none.pem")
    with pytest.raises(MissingFileError, match="is a folder"):
        keys.load_public_key(tmp_path)
    (tmp_path / "huge.pem").write_bytes(bytes(100_000))
    with pytest.raises(UsageError, match="more than"):
        keys.load_public_key(tmp_path / "huge.pem")


# --- The user's own key ----------------------------------------------------------------------------------------------


def test_the_key_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, config: Path, tmp_path: Path) -> None:
    assert keys.default_key_folder() == config
    monkeypatch.setenv("CU_CERT_CONFIG", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert keys.default_key_folder() == tmp_path / "xdg" / "cu-cert"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert keys.default_key_folder() == tmp_path / "home" / ".config" / "cu-cert"


def test_the_local_key_is_made_once(config: Path) -> None:
    first = keys.local_key()
    assert first.created
    assert first.path == config / "audit-key.pem"
    assert first.public_path == config / "audit-key.pub.pem"
    again = keys.local_key()
    assert not again.created
    assert again.key.keyid == first.key.keyid
    first.public_path.unlink()
    assert keys.local_key().key.keyid == first.key.keyid
    assert keys.fingerprint(keys.load_public_key(first.public_path)) == first.key.keyid


def test_a_public_key_of_another_key_beside_the_local_one_is_refused(config: Path, tmp_path: Path) -> None:
    local = keys.local_key()
    keys.generate_key(tmp_path / "other.pem", passphrase=None)
    local.public_path.write_bytes((tmp_path / "other.pub.pem").read_bytes())
    with pytest.raises(UsageError, match="move the wrong one away"):
        keys.local_key()


# --- Ed25519, the second algorithm -----------------------------------------------------------------------------------

BOTH_ALGORITHMS = pytest.mark.parametrize("algorithm", keys.ALGORITHMS)


@BOTH_ALGORITHMS
@pytest.mark.parametrize("passphrase", [None, b"secret"], ids=["plain", "protected"])
def test_a_key_of_either_kind_is_written_and_read_back(
    tmp_path: Path, algorithm: str, passphrase: bytes | None
) -> None:
    path = tmp_path / "k.pem"
    key = keys.generate_key(path, passphrase=passphrase, algorithm=algorithm)
    again = keys.load_private_key(path, passphrase)
    public = keys.load_public_key(keys.public_path_of(path))
    assert key.keyid == again.keyid == keys.fingerprint(public)
    assert key.algorithm == again.algorithm == keys.algorithm_of(public) == algorithm
    assert keys.public_pem(public) == keys.public_path_of(path).read_bytes()
    keys.require_signature(public, again.sign(b"data"), b"data")


def test_an_unknown_algorithm_makes_no_key(tmp_path: Path) -> None:
    for name in ("none", "hs256", "rsa", "ED25519", "ed25519 ", ""):
        with pytest.raises(UsageError, match=r"expected one of ecdsa-p256-sha256, ed25519"):
            keys.generate_key(tmp_path / "k.pem", passphrase=None, algorithm=name)
    assert not list(tmp_path.glob("k*"))


@BOTH_ALGORITHMS
def test_a_signature_is_one_keys_over_one_text(algorithm: str) -> None:
    key, other = keys.ephemeral_key(algorithm), keys.ephemeral_key(algorithm)
    signature = key.sign(b"data")
    keys.require_signature(key.public, signature, b"data")
    for public, value, data in (
        (other.public, signature, b"data"),
        (key.public, signature, b"dat"),
        (key.public, signature[:-1], b"data"),
        (key.public, signature + b"\0", b"data"),
        (key.public, b"", b"data"),
    ):
        with pytest.raises(InvalidSignature):
            keys.require_signature(public, value, data)


def test_the_kind_of_the_key_decides_the_algorithm() -> None:
    first, second = keys.ephemeral_key(keys.ECDSA_P256), keys.ephemeral_key(keys.ED25519)
    for public, value in ((first.public, second.sign(b"x")), (second.public, first.sign(b"x"))):
        with pytest.raises(InvalidSignature):
            keys.require_signature(public, value, b"x")
    with pytest.raises(UsageError, match="elliptic-curve key on secp384r1"):
        keys.require_signature(ec.generate_private_key(ec.SECP384R1()).public_key(), b"x", b"x")


# RFC 8032, section 7.1, TEST 2.
ED25519_SECRET = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
ED25519_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def test_ed25519_is_that_of_rfc_8032() -> None:
    key = keys.SigningKey(ed25519.Ed25519PrivateKey.from_private_bytes(ED25519_SECRET))
    assert key.sign(b"\x72") == ED25519_SIGNATURE
    # S + L verifies as well in a careless implementation, and would be a second spelling of one signature.
    order = 2**252 + 27742317777372353535851937790883648493
    raised = int.from_bytes(ED25519_SIGNATURE[32:], "little") + order
    with pytest.raises(InvalidSignature):
        keys.require_signature(key.public, ED25519_SIGNATURE[:32] + raised.to_bytes(32, "little"), b"\x72")


@NEEDS_OPENSSL
@BOTH_ALGORITHMS
def test_openssl_verifies_what_either_kind_signs(tmp_path: Path, algorithm: str) -> None:
    key = keys.generate_key(tmp_path / "k.pem", passphrase=b"secret", algorithm=algorithm)
    (tmp_path / "data").write_bytes(b"data")
    (tmp_path / "sig").write_bytes(key.sign(b"data"))
    if algorithm == "ed25519":
        verify = ["pkeyutl", "-verify", "-pubin", "-inkey", "k.pub.pem", "-rawin", "-in", "data", "-sigfile", "sig"]
    else:
        verify = ["dgst", "-sha256", "-verify", "k.pub.pem", "-signature", "sig", "data"]
    check = ["pkey", "-in", "k.pem", "-passin", "pass:secret", "-check", "-noout"]
    for command in (verify, check):
        found = subprocess.run(["openssl", *command], cwd=tmp_path, capture_output=True, check=False)
        assert found.returncode == 0, found.stderr
    (tmp_path / "data").write_bytes(b"date")
    assert subprocess.run(["openssl", *verify], cwd=tmp_path, capture_output=True, check=False).returncode != 0


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")
@BOTH_ALGORITHMS
def test_ssh_keygen_prints_the_same_fingerprint(tmp_path: Path, algorithm: str) -> None:
    key = keys.ephemeral_key(algorithm)
    line = key.public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    (tmp_path / "k.pub").write_bytes(line + b"\n")
    found = subprocess.run(["ssh-keygen", "-lf", str(tmp_path / "k.pub")], capture_output=True, check=True)
    assert found.stdout.split()[1].decode() == key.keyid


@BOTH_ALGORITHMS
def test_securesystemslib_verifies_what_either_kind_signs(algorithm: str) -> None:
    signer = pytest.importorskip("securesystemslib.signer")
    key = keys.ephemeral_key(algorithm)
    public = signer.SSlibKey.from_crypto(key.public, keyid=key.keyid)
    public.verify_signature(signer.Signature(key.keyid, key.sign(b"data").hex()), b"data")
    with pytest.raises(pytest.importorskip("securesystemslib.exceptions").UnverifiedSignatureError):
        public.verify_signature(signer.Signature(key.keyid, key.sign(b"data").hex()), b"date")
