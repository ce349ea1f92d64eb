"""OpenSSF model signing: our digest of a model is the library's; a model's own signature is verified beside ours."""

import base64
import json
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest
from drafts import NOW, issue, key_and_trust, predicate_and_files
from fake_evidence import digest as fake_digest

from cu_cert.cli.main import run
from cu_certificates._log_lines import instant
from cu_certificates.check.strict import canonical
from cu_certificates.errors import MissingFileError, UntrustedError, UsageError
from cu_certificates.keys import generate_key, load_private_key, public_path_of
from cu_certificates.oms import file_root, model_root, verify_model_signature


@pytest.fixture(scope="module")
def signing() -> ModuleType:
    module: ModuleType = pytest.importorskip("model_signing.signing", reason="the extra model-signing is not installed")
    return module


def sign(signing: ModuleType, model: Path, key: Path) -> Path:
    """Sign a model as its maker does, with the library."""
    signature = key.parent / f"{model.name}.sig"
    signing.Config().use_elliptic_key_signer(private_key=key).sign(model, signature)
    return signature


def named(signature: Path) -> str:
    """The digest by which a model's signature names it."""
    payload = json.loads(base64.b64decode(json.loads(signature.read_text())["dsseEnvelope"]["payload"]))
    found: str = payload["subject"][0]["digest"]["sha256"]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of several files, whose order by text is not the one by folders; git's files are left out at the top."""
    model = tmp_path / "model"
    for name in ("a.b", "a/b", "a/z/deep.bin", "B", "z", "a/.gitignore", ".gitignore", ".git/config", ".github/x/y"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text(f"content of {name}")
    (model / "empty").mkdir()
    return model


@pytest.fixture
def key(tmp_path: Path) -> Path:
    generate_key(tmp_path / "maker.pem", passphrase=None)
    return tmp_path / "maker.pem"


def test_a_files_root_is_the_hash_of_its_hash(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"weights")
    once = sha256(b"weights")
    assert model_root(tmp_path / "m.pt") == file_root(once.hexdigest()) == sha256(once.digest()).hexdigest()


def test_the_library_names_models_as_we_do(signing: ModuleType, folder: Path, key: Path) -> None:
    (folder.parent / "m.pt").write_bytes(b"weights")
    for model in (folder, folder.parent / "m.pt"):
        signature = sign(signing, model, key)
        assert named(signature) == model_root(model)
        verify_model_signature(model, signature, public_path_of(key))
    before = model_root(folder)
    (folder / "model.sig").write_text("beside the model")
    assert model_root(folder) != before
    assert model_root(folder, ignored=[folder / "model.sig"]) == before
    (folder / ".git" / "config").write_text("changed")
    assert model_root(folder, ignored=[folder / "model.sig"]) == before


def test_names_are_not_in_the_root(folder: Path) -> None:
    """Files that trade places change it, one that is renamed in its place does not: only the signed list has names."""
    before = model_root(folder)
    (folder / "z").rename(folder / "y")
    assert model_root(folder) == before
    (folder / "y").rename(folder / "A")
    assert model_root(folder) != before


def test_links_and_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "bare").mkdir()
    with pytest.raises(UsageError, match="symbolic link"):
        model_root(tmp_path / "link")
    with pytest.raises(UsageError, match="no file in this folder"):
        model_root(tmp_path / "bare")
    with pytest.raises(MissingFileError, match="does not exist"):
        model_root(tmp_path / "absent")
    (folder / "a" / "link").symlink_to(folder / "B")
    with pytest.raises(UsageError, match=r"a/link.* symbolic link"):
        model_root(folder)


def test_another_model_key_or_file_is_refused(signing: ModuleType, folder: Path, key: Path, tmp_path: Path) -> None:
    signature, public = sign(signing, folder, key), public_path_of(key)
    generate_key(tmp_path / "other.pem", passphrase=None)
    with pytest.raises(UntrustedError, match="Key mismatch") as caught:
        verify_model_signature(folder, signature, public_path_of(tmp_path / "other.pem"))
    assert (caught.value.step, caught.value.exit_code) == ("subject", 4)
    for content in ("", "{}", signature.read_text().replace('"sig"', '"signature"')):
        (tmp_path / "bad.sig").write_text(content)
        with pytest.raises(UntrustedError, match="is not valid for"):
            verify_model_signature(folder, tmp_path / "bad.sig", public)
    (folder / "more").write_text("a file that nobody signed")
    with pytest.raises(UntrustedError, match="Extra files found in model 'model': more"):
        verify_model_signature(folder, signature, public)
    for absent in ((folder, tmp_path / "no.sig", public), (folder, signature, tmp_path / "no.pem")):
        with pytest.raises(MissingFileError):
            verify_model_signature(*absent)
    with pytest.raises(MissingFileError):
        verify_model_signature(tmp_path / "no-model", signature, public)


def test_without_the_library_the_extra_is_named(folder: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(UsageError, match=r"pip install 'cu-cert\[model-signing\]'"):
        verify_model_signature(folder, key, key)


def test_verify_holds_both_documents_together(
    signing: ModuleType, key: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, (auditor, trust) = tmp_path / "model.pt", key_and_trust(tmp_path)
    model.write_bytes(canonical(["file"]))  # what the made-up evidence takes for the model
    assert sha256(model.read_bytes()).hexdigest() == fake_digest("file")
    signature = sign(signing, model, key)

    def certificate(name: str, root: str | None) -> str:
        scope = dict(predicate_and_files()[0]["scope"])
        if root is not None:
            scope["model"] = scope["model"] | {"omsRoot": {"sha256": root}}
        return str(issue(tmp_path / name, load_private_key(auditor), issuedAt=instant(NOW), scope=scope).report)

    maker = ["--model-sig", str(signature), "--model-key", str(public_path_of(key))]
    asked = ["--trust", str(trust), "--model", str(model), *maker]
    for name, root, code, message in (
        ("good", model_root(model), 0, "the certificate names the same omsRoot"),
        ("none", None, 0, "the certificate names no omsRoot"),
        ("other", "ab" * 32, 4, f"scope.model.omsRoot is {'ab' * 32}; this model has {model_root(model)}"),
        ("short", "ab", 4, "predicate.scope.model.omsRoot.sha256 is 'ab'"),
    ):
        assert run(["verify", certificate(name, root), *asked]) == code, name
        said = capsys.readouterr()
        assert message in (said.err if code else said.out), name
    page = certificate("again", None)
    generate_key(tmp_path / "other.pem", passphrase=None)
    assert run(["verify", page, *asked[:-1], str(public_path_of(tmp_path / "other.pem"))]) == 4
    assert "Key mismatch" in capsys.readouterr().err
    assert run(["verify", page, "--trust", str(trust), *maker]) == 2
    assert "--model-sig: needs --model FILE" in capsys.readouterr().err
    assert run(["verify", page, "--trust", str(trust), *maker[:2]]) == 2
    assert "give both" in capsys.readouterr().err
