"""Model files: read without running code, written with equal bytes for equal tensors.

A pickled model is a program. Here only tensors are read (``weights_only``), and a file that needs more is refused with
the line that saves a good one. A name that ends in ``.safetensors`` means that format, any other that of PyTorch.
"""

import hashlib
import io
import json
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cu_cert._safetensors import (
    is_safetensors,
    looks_like_safetensors,
    read_tensors,
    require_library,
    tensors_bytes,
)
from cu_cert.errors import DataError, EnvironmentProblem
from cu_certificates._files import sha256_of, write_atomic
from cu_certificates.errors import CertificateError

if TYPE_CHECKING:
    import torch

_SAVE: Final = 'torch.save(model.state_dict(), "model.pt")'
_SHOWN: Final = 3
_SIDECAR_BYTES: Final = 1 << 20


def load_state(path: Path) -> "dict[str, torch.Tensor]":
    """Read the tensors of a model file onto the CPU without running code from it.

    Args:
        path: A file that holds a state dict, or ``{"state_dict": ...}``, or a ``.safetensors`` file.

    Raises:
        DataError: The file is missing, needs code to be read, holds something else than tensors, or has NaN or
            infinite weights.
        EnvironmentProblem: The file ends in ``.safetensors``, and that library is not installed.
    """
    _require_file(path)
    found = read_tensors(path) if is_safetensors(path) else _read_pytorch(path)
    if not isinstance(found, dict) or not found:
        what = "an empty dictionary" if isinstance(found, dict) else f"a {type(found).__name__}"
        raise DataError(f"{path}: holds {what}; expected a state dict. Save it with: {_SAVE}")
    return {str(name): _checked(path, name, tensor) for name, tensor in found.items()}


def _read_pytorch(path: Path) -> object:
    import torch

    try:
        if looks_like_safetensors(path):
            raise DataError(
                f"{path}: is a safetensors file under the name of another format; rename it so that it ends in "
                ".safetensors"
            )
        with warnings.catch_warnings():
            # torch warns of old formats on the way to refusing them; the error below says all there is to say.
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f"{path}: holds Python objects beside tensors ({_reason(error)}), and reading those runs code from the "
            f"file; expected tensors only. Where the model was made, save it with: {_SAVE}"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); expected a model file") from None
    except DataError:
        raise
    except Exception as error:  # bytes from outside can make the reader fail in any way, and each means the same
        raise DataError(
            f"{path}: is not a PyTorch model file, or is damaged ({type(error).__name__}: {_reason(error)}). "
            f"Where the model was made, save it with: {_SAVE}"
        ) from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        return found["state_dict"]
    return found


def require_format(path: Path) -> None:
    """Check that a model file of this name can be written, before there is a model to write.

    Raises:
        EnvironmentProblem: The name ends in ``.safetensors``, and that library is not installed.
    """
    if is_safetensors(path):
        require_library(path)


def _checked(path: Path, name: object, tensor: object) -> "torch.Tensor":
    import torch

    if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
        raise DataError(
            f"{path}: entry {name!r} is a {type(tensor).__name__}; expected tensors by name. Save it with: {_SAVE}"
        )
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise DataError(
            f"{path}: tensor {name!r} is {tensor.layout}, {tensor.dtype}, on {tensor.device}; expected a dense tensor "
            "with numbers in it. Convert the model before saving it"
        )
    plain = tensor.detach().clone(memory_format=torch.contiguous_format)
    if plain.is_floating_point() or plain.is_complex():
        # torch cannot test types of one byte for NaN.
        bad = int((~torch.isfinite(plain.float() if plain.element_size() == 1 else plain)).sum())
        if bad:
            raise DataError(
                f"{path}: tensor {name!r} has {bad} of {plain.numel()} values NaN or infinite; expected finite "
                "weights. Training probably diverged; lower the learning rate and train again"
            )
    return plain


def load_into(model: "torch.nn.Module", state: "Mapping[str, torch.Tensor]", path: Path) -> None:
    """Copy tensors into a model; names, shapes and types must agree exactly.

    Args:
        model: The model; changed in place.
        state: What :func:`load_state` returned.
        path: The file, for messages.

    Raises:
        DataError: A tensor is missing, unexpected, or of another shape or type; then the model is unchanged.
    """
    own = _tensors(model)
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    odd = [
        f"{name} ({_kind(state[name])} in the file, {_kind(own[name])} in the recipe)"
        for name in own
        if name in state and _kind(state[name]) != _kind(own[name])
    ]
    problems = [
        f"{len(names)} {title}: {', '.join(map(_shown, names[:_SHOWN]))}{', ...' if len(names) > _SHOWN else ''}"
        for title, names in (("missing", missing), ("unexpected", unexpected), ("of another shape or type", odd))
        if names
    ]
    if problems:
        wrapped = unexpected and all(name.startswith("module.") for name in unexpected)
        hint = (
            "Save model.module.state_dict(), without the parallel wrapper" if wrapped else "Is it for another recipe?"
        )
        raise DataError(f"{path}: does not fit the recipe of cu-cert.toml: tensors {'; '.join(problems)}. {hint}")
    model.load_state_dict(dict(state), strict=True)


def _tensors(model: "torch.nn.Module") -> "dict[str, torch.Tensor]":
    import torch

    state: dict[str, torch.Tensor] = model.state_dict()
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            raise DataError(
                f"model: state {name!r} is a {type(value).__name__}; expected tensors only, since nothing else can be "
                "read back without running code. Keep it outside the model's state (get_extra_state)"
            )
    return state


def _shown(name: str) -> str:
    """Return a name from a file as a terminal may show it."""
    return (name if name.isprintable() else repr(name))[:160]


def _kind(tensor: "torch.Tensor") -> str:
    return f"{'x'.join(str(size) for size in tensor.shape) or 'scalar'} {str(tensor.dtype).removeprefix('torch.')}"


def save_model(path: Path, model: "torch.nn.Module | Mapping[str, torch.Tensor]") -> None:
    """Write the tensors of a model; equal tensors give equal bytes, whatever the file is called before its suffix.

    Args:
        path: The file; its folder must exist.
        model: A model or its state.

    Raises:
        EnvironmentProblem: The file cannot be written, or the library for its format is not installed.
        DataError: The model keeps state that is not a tensor, or tensors of a type that the format lacks.
    """
    if is_safetensors(path):
        _write(path, tensors_bytes(path, _plain(model)), "model file")
    else:
        _write(path, model_bytes(model), "model file")


def _plain(model: "torch.nn.Module | Mapping[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
    """Return tensors sorted and copied: order, strides, shared storages and metadata would all show in the bytes."""
    import torch

    state = _tensors(model) if isinstance(model, torch.nn.Module) else model
    return {name: state[name].detach().cpu().clone(memory_format=torch.contiguous_format) for name in sorted(state)}


def model_bytes(model: "torch.nn.Module | Mapping[str, torch.Tensor]") -> bytes:
    """Return the content of a model file of torch; equal tensors give equal bytes.

    Args:
        model: A model or its state.

    Raises:
        DataError: The model keeps state that is not a tensor.
    """
    import torch

    # A buffer, because torch writes a file's own name into the archive.
    buffer = io.BytesIO()
    torch.save(_plain(model), buffer)
    return buffer.getvalue()


def state_digest(state: "Mapping[str, torch.Tensor]") -> str:
    """Return the digest of tensors: SHA-256 (hex) over sorted names, types, shapes and raw bytes.

    It does not depend on the file format, so it stays when a model is saved again by another version of torch.
    """
    import torch

    digest = hashlib.sha256(b"cu-cert/tensors/v1\0")
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        head = json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode()
        digest.update(len(head).to_bytes(8, "big") + head)
        # By way of bytes, because numpy has no bfloat16.
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file's bytes.

    Raises:
        DataError: It cannot be read.
    """
    _require_file(path)
    try:
        return sha256_of(path, what="model file")
    except CertificateError as error:
        raise DataError(str(error)) from None


@dataclass(frozen=True, kw_only=True)
class Sidecar:
    """What the maker of a model says of it, in ``model.pt.json`` beside it. A hint, never evidence.

    Args:
        recipe_digest: Digest of the recipe.
        method: The unlearning method; ``None`` for a trained model.
        parameters: Effective parameters of the method or recipe; values that JSON can hold.
        parent_digest: SHA-256 of the model file from which this one was made.
        seed: Seed of the run.
    """

    recipe_digest: str | None = None
    method: str | None = None
    parameters: Mapping[str, object] = field(default_factory=dict)
    parent_digest: str | None = None
    seed: int | None = None


def sidecar_path(model: Path) -> Path:
    """Return where the sidecar of a model file stands."""
    return model.with_name(f"{model.name}.json")


def write_sidecar(model: Path, sidecar: Sidecar) -> Path:
    """Write the sidecar of a model file and return its path.

    Raises:
        EnvironmentProblem: It cannot be written.
    """
    path = sidecar_path(model)
    document = {"schema": 1, "note": "a hint for people and tools, never evidence", **asdict(sidecar)}
    _write(path, json.dumps(document, indent=2, sort_keys=True, allow_nan=False).encode() + b"\n", "sidecar")
    return path


def read_sidecar(model: Path) -> Sidecar | None:
    """Read the sidecar of a model file; ``None`` when there is none. Unknown keys are ignored.

    Raises:
        DataError: There is one, but it is not what cu-cert writes.
    """
    path = sidecar_path(model)
    if not path.exists():
        return None
    advice = "mend it, or delete it: a sidecar is only a hint"
    try:
        raw = path.read_bytes()
        if len(raw) > _SIDECAR_BYTES:
            raise ValueError(f"{len(raw)} bytes")
        document = json.loads(raw.decode("utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {advice}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not the JSON that cu-cert writes ({_reason(error)}); {advice}") from None
    if not isinstance(document, dict):
        raise DataError(f"{path}: holds a {type(document).__name__}; expected an object; {advice}")
    found: dict[str, object] = {}
    for key, kind in (
        ("recipe_digest", str),
        ("method", str),
        ("parameters", dict),
        ("parent_digest", str),
        ("seed", int),
    ):
        value = document.get(key)
        if value is None:
            continue
        if type(value) is not kind:
            raise DataError(f"{path}: {key} is a {type(value).__name__}; expected a {kind.__name__} or null; {advice}")
        found[key] = value
    return Sidecar(**found)  # type: ignore[arg-type]


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise DataError(f"{path}: is a folder; expected a model file, such as {_SAVE} writes")
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise DataError(f"{path}: {what}; expected a model file, such as {_SAVE} writes")


def _write(path: Path, data: bytes, what: str) -> None:
    try:
        write_atomic(path, data, what=what)
    except CertificateError as error:
        raise EnvironmentProblem(str(error)) from None


def _reason(error: BaseException) -> str:
    """Return the telling sentence of an error: torch wraps it into advice that would mislead here."""
    found = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
    if found:
        return found[1]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Unsupported" in line]
    return (telling or lines or ["no more is known"])[0].split(". ")[0].removeprefix("WeightsUnpickler error: ")[:160]
