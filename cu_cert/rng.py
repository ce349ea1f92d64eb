"""Named random streams: one root seed, children keyed by name, no global state.

A stream is 32 bytes. Its children depend on their names only, never on the order in which they were asked for, so no
part of a run can disturb the randomness of another part.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Stream:
    """A named source of randomness.

    Args:
        key: 32 secret or public bytes from which everything below is derived by HMAC-SHA256.
    """

    key: bytes

    def __post_init__(self) -> None:
        if len(self.key) != 32:
            raise ValueError(f"Stream key has {len(self.key)} bytes; expected 32")

    @classmethod
    def from_seed(cls, seed: int | str) -> "Stream":
        """Return the root stream of a seed that a person typed."""
        return cls(hashlib.sha256(f"cu-cert/seed/{seed}".encode()).digest())

    def child(self, *names: str | int) -> "Stream":
        """Return the child of this name; the same name always gives the same child."""
        message = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
        return Stream(hmac.new(self.key, message.encode(), hashlib.sha256).digest())

    def integer(self, bits: int = 63) -> int:
        """Return a uniform integer of ``bits`` bits (at most 256)."""
        return int.from_bytes(self.child("integer").key, "big") >> (256 - bits)

    def numpy(self) -> np.random.Generator:
        """Return a fresh numpy generator; two calls give equal generators."""
        return np.random.Generator(np.random.PCG64(self.integer(128)))

    def torch(self) -> "torch.Generator":
        """Return a fresh CPU torch generator; two calls give equal generators."""
        import torch

        return torch.Generator(device="cpu").manual_seed(self.integer(63))

    def order(self, ids: tuple[str, ...]) -> list[int]:
        """Return the positions of ``ids`` sorted by a keyed hash of the id.

        Removing an id leaves the relative order of all others unchanged (rule 3 of the shard engine).

        Args:
            ids: Distinct record ids.

        Returns:
            A permutation of ``range(len(ids))``.
        """
        prefix = hashlib.blake2b(key=self.key, digest_size=16)
        keys: list[tuple[bytes, str, int]] = []
        for position, identifier in enumerate(ids):
            state = prefix.copy()
            state.update(identifier.encode())
            keys.append((state.digest(), identifier, position))
        keys.sort()
        return [position for _, _, position in keys]

    def arrange(self, marks: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the positions of records in an order of this stream's own, as :meth:`order` does but in microseconds.

        Each record's mark is mixed with 128 bits of the key by the finaliser of SplitMix64 (Steele, Lea and Flood
        2014), twice, and the results are sorted. Removing a record leaves the relative order of all others unchanged.

        Args:
            marks: One number a record that depends on its id alone, shape (n,); see ``Records.marks``.

        Returns:
            A permutation of ``range(n)``.
        """
        first, second = np.frombuffer(self.key[:16], dtype="<u8")
        return np.argsort(_mix(_mix(marks ^ first) ^ second), kind="stable").astype(np.int64)


def _mix(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the finaliser of SplitMix64, a bijection of 64-bit numbers that sends neighbours far apart."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
