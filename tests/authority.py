"""A time-stamping authority on this machine: certificates of any kind, answers by ``openssl ts``."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

OPENSSL = shutil.which("openssl")

CONFIG = """[tsa]
default_tsa = this
[this]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/signer.pem
signer_key = {folder}/signer.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
ess_cert_id_alg = sha256
{more}
"""


@dataclass(frozen=True)
class Authority:
    """An authority.

    Args:
        folder: Holds ``root.pem``, ``signer.pem``, their keys and ``tsa.cnf``.
    """

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"

    def answer(self, query: bytes) -> bytes:
        """Answer a query as ``openssl ts -reply`` does."""
        asked, reply = self.folder / "asked.tsq", self.folder / "reply.tsr"
        asked.write_bytes(query)
        config = ["-config", str(self.folder / "tsa.cnf")]
        openssl("ts", "-reply", *config, "-queryfile", str(asked), "-out", str(reply))
        return reply.read_bytes()

    def stamp(self, data: bytes, *options: str) -> bytes:
        """Stamp data; the query is made by openssl."""
        file, asked = self.folder / "data", self.folder / "query.tsq"
        file.write_bytes(data)
        openssl("ts", "-query", "-data", str(file), *(options or ("-sha256", "-cert")), "-out", str(asked))
        return self.answer(asked.read_bytes())

    def agrees(self, token: bytes, data: bytes) -> bool:
        """Whether ``openssl ts -verify`` accepts a token."""
        file, reply = self.folder / "data", self.folder / "verified.tsr"
        file.write_bytes(data)
        reply.write_bytes(token)
        command = ["ts", "-verify", "-data", str(file), "-in", str(reply), "-CAfile", str(self.root)]
        return openssl(*command, check=False).returncode == 0


def openssl(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[bytes]":
    if OPENSSL is None:
        pytest.skip("openssl is not installed")
    return subprocess.run([OPENSSL, *arguments], capture_output=True, timeout=60, check=check)


def make_authority(
    folder: Path,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    more: str = "",
) -> Authority:
    """Make an authority whose signer's certificate is valid from ``start`` to ``end``.

    Args:
        folder: Made here.
        start: Default: a day ago.
        end: Default: in a year.
        more: Further lines of the configuration.
    """
    folder.mkdir(parents=True)
    now = datetime.now(UTC)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, subject = (
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in ("Test root", "Test authority")
    )
    base = x509.CertificateBuilder().issuer_name(issuer)
    root = (
        base.subject_name(issuer)
        .public_key(root_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3650))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    signer = (
        base.subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start or now - timedelta(days=1))
        .not_valid_after(end or now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    for name, certificate in (("root", root), ("signer", signer)):
        (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "signer.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(CONFIG.format(folder=folder, more=more.format(folder=folder)))
    return Authority(folder)


@contextmanager
def served(authority: Authority, *, status: int = 200, body: bytes | None = None) -> Iterator[str]:
    """Serve an authority on this machine; yields its address. ``body`` replaces its answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/timestamp-query"
            answer = authority.answer(query) if body is None else body
            self.send_response(status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("no_proxy", "*")
            yield f"http://127.0.0.1:{server.server_address[1]}/tsa"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
