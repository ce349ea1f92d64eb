"""``transformer``: a small BERT encoder over token numbers, trained from scratch; needs ``cu-cert[transformers]``.

Records are sequences of token numbers (``[data] text = "tokens"``): whole numbers in float32, in which 0 fills short
texts up. The model is a :class:`transformers.BertModel` of random weights (Devlin et al. 2019, arXiv 1810.04805; no
pretrained weights, no download), the mean of its outputs over the words of a text, and a linear layer. It is trained by
AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with gradients cut to length 1.

What a layer computes and how it starts is the library's own code, so its version is part of the recipe's digest:
another version is another recipe. Like all models, these depend on torch and the processor too; those stand in the
environment.
"""

import hashlib
import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Final

import torch
from torch import nn

from cu_cert.errors import ConfigError, EnvironmentProblem
from cu_cert.recipes._classifier import checked, require
from cu_cert.records import Records
from cu_cert.rng import Stream
from cu_certificates.check.strict import canonical

_VERSION: Final = 1
"""Raised when the same parameters give other models."""

_OLDEST: Final = 5
_LONGEST_GRADIENT: Final = 1.0
_ROWS: Final = 256
"""Records that are scored at once: attention takes memory with the square of their length."""

_QUIET: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
"""Set before the library is imported: nothing here asks a server, and nothing shall."""


@dataclass(frozen=True, kw_only=True)
class TransformerParams:
    """Parameters of ``transformer``.

    Args:
        layers: Encoder layers, 1 to 24.
        width: Numbers that stand for a word, a multiple of ``heads``, up to 2048.
        heads: Attention heads, at least 1.
        feed_forward: Width of the dense layer inside each encoder layer, 1 to 8192.
        dropout: Share of numbers dropped in training, in [0, 1).
        text_buckets: As in ``[data]``: the largest token number, 2 to 2^20.
        epochs: Passes over the records, at least 1.
        batch_size: Records a step, at least 1.
        learning_rate: Step size, above 0.
        weight_decay: AdamW's, at least 0.
    """

    layers: int = 2
    width: int = 64
    heads: int = 2
    feed_forward: int = 128
    dropout: float = 0.0
    text_buckets: int = 4096
    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        require(1 <= self.layers <= 24, "layers", self.layers, "1 to 24")
        require(1 <= self.width <= 2048, "width", self.width, "1 to 2048")
        divides = self.heads >= 1 and self.width % self.heads == 0
        require(divides, "heads", self.heads, f"a number that divides width = {self.width}")
        require(1 <= self.feed_forward <= 8192, "feed_forward", self.feed_forward, "1 to 8192")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "in [0, 1)")
        require(2 <= self.text_buckets <= 2**20, "text_buckets", self.text_buckets, f"2 to {2**20}")
        require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")
        require(0 < self.learning_rate < float("inf"), "learning_rate", self.learning_rate, "above 0")
        require(0 <= self.weight_decay < float("inf"), "weight_decay", self.weight_decay, "at least 0")


class TextClassifier(nn.Module):
    """An encoder, the mean over the words of a text, and a linear layer.

    Args:
        encoder: Maps token numbers (n, length) and a mask to ``last_hidden_state`` (n, length, width).
        width: See there.
        classes: Width of the output.
    """

    def __init__(self, encoder: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return class scores, shape (n, classes), for token numbers, float32, shape (n, length)."""
        tokens = x.long()
        there = tokens != 0
        there[:, 0] = True  # a text without words is one filler, so that every mean is of something
        hidden = self.encoder(input_ids=tokens, attention_mask=there.long()).last_hidden_state
        weight = there[:, :, None].to(hidden.dtype)
        scores: torch.Tensor = self.head((hidden * weight).sum(dim=1) / weight.sum(dim=1))
        return scores


@dataclass(frozen=True)
class TransformerRecipe:
    """The recipe ``transformer``.

    Args:
        params: Checked parameters.
        library: Version of transformers.
    """

    params: TransformerParams
    library: str

    @property
    def name(self) -> str:
        """File name of the recipe."""
        return "transformer"

    @property
    def parameters(self) -> Mapping[str, object]:
        """All parameters and the library's version, with numbers as printable strings where they are not whole."""
        own = {key: value if isinstance(value, int) else str(value) for key, value in asdict(self.params).items()}
        return own | {"transformers": self.library}

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of name, version and parameters, the library's version among them."""
        document = {"recipe": self.name, "version": _VERSION, "parameters": dict(self.parameters)}
        return hashlib.sha256(canonical(document)).hexdigest()

    def build(self, records: Records, *, rng: Stream) -> nn.Module:
        """Return a fresh model for the shape and classes of ``records``; initialised from ``rng`` alone."""
        if records.x.ndim != 2:
            raise ConfigError(f"recipe transformer: records of shape {records.x.shape[1:]}; {_EXPECTED}")
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(rng.child("init").integer(63))
            encoder = _encoder(self.params, records.x.shape[1])
            return TextClassifier(encoder, self.params.width, len(records.classes)).eval()

    def train(self, records: Records, *, rng: Stream) -> nn.Module:
        """Train from a fresh initialisation."""
        if not len(records):
            raise ConfigError("training on 0 records; expected at least 1 (does the request remove all data?)")
        params = self.params
        x, y = self.features(records), torch.from_numpy(records.y)
        model = self.build(records, rng=rng).train()
        weights = list(model.parameters())
        optimiser = torch.optim.AdamW(weights, lr=params.learning_rate, weight_decay=params.weight_decay, fused=True)
        with torch.random.fork_rng(devices=[]):  # dropout draws from torch's global generator
            torch.default_generator.manual_seed(rng.child("dropout").integer(63))
            for epoch in range(params.epochs):
                order = torch.from_numpy(rng.child("order", epoch).arrange(records.marks))
                for batch in torch.split(order, params.batch_size):
                    optimiser.zero_grad(set_to_none=True)
                    nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
                    nn.utils.clip_grad_norm_(weights, _LONGEST_GRADIENT)
                    optimiser.step()
        return model.eval()

    def features(self, records: Records) -> torch.Tensor:
        """Return token numbers, float32, shape (n, length).

        Raises:
            ConfigError: The records are no sequences of token numbers, or a number is too large for this recipe.
        """
        x, most = torch.from_numpy(records.x), self.params.text_buckets
        if x.dim() != 2 or bool((x != x.round()).any()) or bool((x < 0).any()):
            raise ConfigError(f"recipe transformer: the records are no token numbers; {_EXPECTED}")
        found = int(x.max()) if x.numel() else 0
        if found > most:
            raise ConfigError(
                f"[training] text_buckets = {most}: the records hold token number {found}; expected text_buckets as "
                "under [data] (4096 where it is not set)"
            )
        return x

    def logits(self, model: nn.Module, records: Records) -> torch.Tensor:
        """Return float32 class scores, shape (n, classes)."""
        with torch.no_grad():
            parts = [model(part) for part in torch.split(self.features(records), _ROWS)]
        return torch.cat(parts)


_EXPECTED: Final = 'expected [data] text = "tokens" with a text_column, which gives whole numbers from 0'


def _encoder(params: TransformerParams, length: int) -> nn.Module:
    """Return an encoder of random weights, drawn from torch's global generator."""
    os.environ.update(_QUIET)
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=params.text_buckets + 1,
        hidden_size=params.width,
        num_hidden_layers=params.layers,
        num_attention_heads=params.heads,
        intermediate_size=params.feed_forward,
        hidden_dropout_prob=params.dropout,
        attention_probs_dropout_prob=params.dropout,
        max_position_embeddings=length,
        type_vocab_size=1,
        pad_token_id=0,
        attn_implementation="eager",  # one formula on every machine
    )
    encoder: nn.Module = BertModel(config, add_pooling_layer=False)
    return encoder


def make(options: Mapping[str, object]) -> TransformerRecipe:
    """Make the recipe from the options of ``[training]``; transformers itself is imported when a model is built.

    Raises:
        ConfigError: An option is wrong.
        EnvironmentProblem: transformers is not installed, or too old.
    """
    params = checked(TransformerParams, options)
    extra = "pip install 'cu-cert[transformers]'"
    try:
        library = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        raise EnvironmentProblem(
            f'[training] recipe = "transformer" needs transformers, which is not installed; {extra}'
        ) from None
    major = library.partition(".")[0]
    if not major.isdigit() or int(major) < _OLDEST:
        raise EnvironmentProblem(
            f'[training] recipe = "transformer": transformers {library} is installed; expected {_OLDEST} or later; '
            f"{extra}"
        )
    return TransformerRecipe(params, library)
