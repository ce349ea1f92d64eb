"""What holds after every run of every method, whoever wrote it."""

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import nn

from cu_cert.errors import MethodError


def tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every parameter and every buffer, those that a state dict leaves out included."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Return whether two tensors have one shape, one type and equal bits (NaN equals NaN, 0.0 differs from -0.0)."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return torch.equal(_raw(first), _raw(second))


def fingerprint(model: nn.Module) -> bytes:
    """Return a digest of all tensors and of every flag that a method could leave changed."""
    state = hashlib.sha256()
    for name, tensor in tensors(model):
        state.update(repr((name, tuple(tensor.shape), str(tensor.dtype), tensor.requires_grad)).encode())
        state.update(_raw(tensor).cpu().numpy().tobytes())
    for name, module in model.named_modules():
        state.update(repr((name, module.training)).encode())
    return state.digest()


def require_result(method: str, result: nn.Module, trained: nn.Module) -> None:
    """Check the model that a method returned against the model that it was given.

    Raises:
        MethodError: It shares memory with the caller's model, has other tensors, or holds NaN or infinity.
    """
    old = dict(tensors(trained))
    new = dict(tensors(result))
    shared = sorted(_storages(old.values()) & _storages(new.values()))
    if shared:
        names = [name for name, tensor in new.items() if tensor.untyped_storage().data_ptr() in shared]
        raise MethodError(
            f"method {method}: the returned model shares memory with the model before it ({', '.join(names[:5])}); "
            "expected tensors of its own. A retrain must start from a fresh initialisation, and an edit from a copy"
        )
    odd = [name for name in old | new if _kind(old.get(name)) != _kind(new.get(name))]
    if odd:
        raise MethodError(
            f"method {method}: the returned model has other tensors than the model before it ({', '.join(odd[:5])}); "
            "expected equal names, shapes and types. A recipe's build() may use only the shape and classes of the data"
        )
    require_finite(method, result, "returned model")


def require_finite(method: str, model: nn.Module, when: str) -> None:
    """Raise a :class:`MethodError` if any tensor of ``model`` holds NaN or infinity."""
    for name, tensor in tensors(model):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise MethodError(
                f"method {method}: {name} is not finite ({when}); the run diverged. "
                "Lower learning_rate or the weight of the forget term"
            )


def _raw(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _storages(found: Iterable[torch.Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in found if tensor.numel()}


def _kind(tensor: torch.Tensor | None) -> tuple[torch.Size, torch.dtype] | None:
    return None if tensor is None else (tensor.shape, tensor.dtype)
