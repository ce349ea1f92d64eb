"""Seeds, coins and guesses: everything random in an audit, re-derived from one committed seed.

The plan holds C0 = SHA-256(tag, seed), and the coins depend on the digest of the plan, so whoever fixed the plan could
not choose them and whoever reads the opened seed can derive every one again.
"""

import hashlib
import hmac
from collections.abc import Sequence

from .strict import canonical


def seed_commitment(seed: bytes) -> str:
    """Return C0 (hex), the commitment to the audit seed that the plan holds."""
    return hashlib.sha256(b"cu-cert/seed/v1\0" + seed).hexdigest()


def derive(seed: bytes, purpose: str, plan_digest: str, nonce: str, *names: str | int) -> bytes:
    """Return HMAC-SHA256(seed, [purpose, P, nonce, names...]), 32 bytes.

    Args:
        seed: The audit seed that the plan commits to.
        purpose: ``coin`` or ``train``.
        plan_digest: P, SHA-256 (hex) of the plan's bytes.
        nonce: The reader's nonce (hex), empty when there was none.
        names: What is derived: group, slot, role.
    """
    return hmac.new(seed, canonical([purpose, plan_digest, nonce, *names]), hashlib.sha256).digest()


def coin(seed: bytes, plan_digest: str, nonce: str, group: str, slot: int) -> int:
    """Return the fair coin of a slot: 1 means unlearned, 0 means retrained."""
    return derive(seed, "coin", plan_digest, nonce, group, slot)[-1] & 1


def right_guesses(
    coins: Sequence[int], scores: Sequence[int | None], guesses: int, *, forward_only: bool = False
) -> int:
    """Count right guesses: "unlearned" for the highest scores, "retrained" for the lowest, by rank alone.

    A slot without a score is a wrong guess, as if a retrained model stood among the highest and an unlearned one among
    the lowest. That is the least that any scores of theirs could give, so nobody gains by letting chosen runs fail.
    Ties go to the lower slot number.

    Args:
        coins: One coin a slot, 0 or 1.
        scores: One integer score a slot, ``None`` for a missing or failed slot.
        guesses: r, even, at most the number of slots. With ``forward_only`` half of them, for the top, are made.
        forward_only: Guess only "unlearned": for a guarantee stated in one direction.

    Returns:
        v, the number of right guesses.
    """
    there = [slot for slot, score in enumerate(scores) if score is not None]
    ranked = sorted(there, key=lambda slot: (-(scores[slot] or 0), slot))
    lost = len(scores) - len(there)
    lost_unlearned = sum(coins) - sum(coins[slot] for slot in there)
    if forward_only:
        top, bottom = max(guesses // 2 - lost, 0), 0
    else:
        top = max(guesses // 2 - (lost - lost_unlearned), 0)
        bottom = min(max(guesses // 2 - lost_unlearned, 0), len(ranked))
    right = sum(coins[slot] for slot in ranked[:top])
    return right + sum(1 - coins[slot] for slot in ranked[len(ranked) - bottom :])
