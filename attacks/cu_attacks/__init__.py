"""Floor 2: numbers in, evidence out. Never imports torch.

The front door: what is needed to audit scores of one's own, imported when it is first used. A function that has the
name of its file is called here by that name and its kind (``coinflip_audit``, ``ks_test``, ``klom_score``): the bare
name belongs to the file, as in ``from cu_attacks.coinflip import coinflip``.

A member announces itself by being a file: :func:`names` lists the files without importing them and :func:`get` imports
one. Each file ends in one constant, ``ATTACK``.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cu_attacks._bounds import LowerBound, group_eps, pair_eps
    from cu_attacks._combined import CombinedScore, fit_combined
    from cu_attacks._multiplicity import benjamini_hochberg, holm
    from cu_attacks._panel import PanelResult, judge, leaking_records
    from cu_attacks._permute import Described, ModelTest
    from cu_attacks._resolution import Resolution, coinflip_resolution, conformal_resolution
    from cu_attacks._scores import POOLS, Scores, read_scores, write_scores
    from cu_attacks._types import Attack, AttackError, Estimate
    from cu_attacks._upper import attack_limited, equivalence
    from cu_attacks.c2st import c2st as c2st_test
    from cu_attacks.challenge import challenge as challenge_score
    from cu_attacks.coinflip import CoinFlip
    from cu_attacks.coinflip import coinflip as coinflip_audit
    from cu_attacks.conformal import Conformal
    from cu_attacks.conformal import conformal as conformal_audit
    from cu_attacks.energy import energy_test
    from cu_attacks.klom import klom as klom_score
    from cu_attacks.ks import ks as ks_test
    from cu_attacks.labels import Labels
    from cu_attacks.labels import labels as labels_audit
    from cu_attacks.lira import lira_offline, lira_online
    from cu_attacks.loss import negative_loss
    from cu_attacks.mmd import mmd as mmd_test
    from cu_attacks.onerun import OneRun, candidate_scores, one_run
    from cu_attacks.pools import TwoPools, two_pools
    from cu_attacks.relative import relative as relative_test
    from cu_attacks.rmia import rmia_offline, rmia_online
    from cu_attacks.sequential import Sequential
    from cu_attacks.sequential import sequential as sequential_audit
    from cu_attacks.tofu import tofu as tofu_score
    from cu_attacks.ulira import ulira_pools
    from cu_attacks.wasserstein import wasserstein as wasserstein_score

_DOOR: Final = {
    "Attack": ("cu_attacks._types", "Attack"),
    "AttackError": ("cu_attacks._types", "AttackError"),
    "CoinFlip": ("cu_attacks.coinflip", "CoinFlip"),
    "CombinedScore": ("cu_attacks._combined", "CombinedScore"),
    "Conformal": ("cu_attacks.conformal", "Conformal"),
    "Described": ("cu_attacks._permute", "Described"),
    "Estimate": ("cu_attacks._types", "Estimate"),
    "Labels": ("cu_attacks.labels", "Labels"),
    "LowerBound": ("cu_attacks._bounds", "LowerBound"),
    "ModelTest": ("cu_attacks._permute", "ModelTest"),
    "OneRun": ("cu_attacks.onerun", "OneRun"),
    "POOLS": ("cu_attacks._scores", "POOLS"),
    "PanelResult": ("cu_attacks._panel", "PanelResult"),
    "Resolution": ("cu_attacks._resolution", "Resolution"),
    "Scores": ("cu_attacks._scores", "Scores"),
    "Sequential": ("cu_attacks.sequential", "Sequential"),
    "TwoPools": ("cu_attacks.pools", "TwoPools"),
    "attack_limited": ("cu_attacks._upper", "attack_limited"),
    "benjamini_hochberg": ("cu_attacks._multiplicity", "benjamini_hochberg"),
    "c2st_test": ("cu_attacks.c2st", "c2st"),
    "candidate_scores": ("cu_attacks.onerun", "candidate_scores"),
    "challenge_score": ("cu_attacks.challenge", "challenge"),
    "coinflip_audit": ("cu_attacks.coinflip", "coinflip"),
    "coinflip_resolution": ("cu_attacks._resolution", "coinflip_resolution"),
    "conformal_audit": ("cu_attacks.conformal", "conformal"),
    "conformal_resolution": ("cu_attacks._resolution", "conformal_resolution"),
    "energy_test": ("cu_attacks.energy", "energy_test"),
    "equivalence": ("cu_attacks._upper", "equivalence"),
    "fit_combined": ("cu_attacks._combined", "fit_combined"),
    "group_eps": ("cu_attacks._bounds", "group_eps"),
    "holm": ("cu_attacks._multiplicity", "holm"),
    "judge": ("cu_attacks._panel", "judge"),
    "klom_score": ("cu_attacks.klom", "klom"),
    "ks_test": ("cu_attacks.ks", "ks"),
    "labels_audit": ("cu_attacks.labels", "labels"),
    "leaking_records": ("cu_attacks._panel", "leaking_records"),
    "lira_offline": ("cu_attacks.lira", "lira_offline"),
    "lira_online": ("cu_attacks.lira", "lira_online"),
    "mmd_test": ("cu_attacks.mmd", "mmd"),
    "negative_loss": ("cu_attacks.loss", "negative_loss"),
    "one_run": ("cu_attacks.onerun", "one_run"),
    "pair_eps": ("cu_attacks._bounds", "pair_eps"),
    "read_scores": ("cu_attacks._scores", "read_scores"),
    "relative_test": ("cu_attacks.relative", "relative"),
    "rmia_offline": ("cu_attacks.rmia", "rmia_offline"),
    "rmia_online": ("cu_attacks.rmia", "rmia_online"),
    "sequential_audit": ("cu_attacks.sequential", "sequential"),
    "tofu_score": ("cu_attacks.tofu", "tofu"),
    "two_pools": ("cu_attacks.pools", "two_pools"),
    "ulira_pools": ("cu_attacks.ulira", "ulira_pools"),
    "wasserstein_score": ("cu_attacks.wasserstein", "wasserstein"),
    "write_scores": ("cu_attacks._scores", "write_scores"),
}

__all__ = [
    "POOLS",
    "Attack",
    "AttackError",
    "CoinFlip",
    "CombinedScore",
    "Conformal",
    "Described",
    "Estimate",
    "Labels",
    "LowerBound",
    "ModelTest",
    "OneRun",
    "PanelResult",
    "Resolution",
    "Scores",
    "Sequential",
    "TwoPools",
    "attack_limited",
    "benjamini_hochberg",
    "c2st_test",
    "candidate_scores",
    "challenge_score",
    "coinflip_audit",
    "coinflip_resolution",
    "conformal_audit",
    "conformal_resolution",
    "energy_test",
    "equivalence",
    "fit_combined",
    "get",
    "group_eps",
    "holm",
    "judge",
    "klom_score",
    "ks_test",
    "labels_audit",
    "leaking_records",
    "lira_offline",
    "lira_online",
    "mmd_test",
    "names",
    "negative_loss",
    "one_run",
    "pair_eps",
    "read_scores",
    "relative_test",
    "rmia_offline",
    "rmia_online",
    "sequential_audit",
    "tofu_score",
    "two_pools",
    "ulira_pools",
    "wasserstein_score",
    "write_scores",
]


def names() -> list[str]:
    """List the attacks without importing them."""
    return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))


def get(name: str) -> "Attack":
    """Import one attack by its name.

    Raises:
        KeyError: There is no such attack.
    """
    if name not in names():
        raise KeyError(f"attack {name!r} is unknown; expected one of {', '.join(names())}")
    attack: Attack = import_module(f"cu_attacks.{name}").ATTACK
    return attack


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module 'cu_attacks' has no attribute {name!r}")
    module, attribute = _DOOR[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
