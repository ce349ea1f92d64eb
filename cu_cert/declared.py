"""A procedure that runs elsewhere, as its owner declares it: the plan file of scores that are handed in.

The file holds the table ``[audit]`` of ``cu-cert.toml`` and the table ``[outside]``, which says what a project file
would otherwise know: who trains, by which method, on which data. Nothing in it can be checked here, so the certificate
repeats it as declared.
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

from cu_cert._tables import AuditConfig, SigningConfig
from cu_cert._toml import build, option, read_document, require, table, text, toml_value, whole
from cu_cert.errors import ConfigError
from cu_certificates._toml import nearest
from cu_certificates.check.design import LEVELS
from cu_certificates.check.strict import canonical
from cu_certificates.plan import Subject

_TABLES: Final = ("audit", "outside", "signing", "policy")


@dataclass(frozen=True, kw_only=True)
class OutsideConfig:
    """The table ``[outside]``.

    Args:
        method: The unlearning method, as the certificate names it.
        guarantee: What the method states: ``none``, ``exact`` or ``certified``.
        parameters: The method's parameters.
        recipe: How models are trained, in words that whoever trains can be held to; its digest enters the plan.
        data: The training data, in words; a keyed commitment to it enters the plan.
        trained: Training records.
        held_out: Records that no model was trained on.
        signal: Which number of the scores file is taken; ``None`` when it holds one.

    Raises:
        ConfigError: A value lies out of range.
    """

    method: str = field(default="", metadata=option(text, "The unlearning method, as the certificate names it."))
    guarantee: str = field(
        default="none", metadata=option(text, 'What the method states: "none", "exact", "certified".')
    )
    parameters: Mapping[str, object] = field(
        default_factory=dict, metadata=option(table, "The method's parameters: text, whole numbers, true or false.")
    )
    recipe: str = field(default="", metadata=option(text, "How models are trained; its digest enters the plan."))
    data: str = field(default="", metadata=option(text, "The training data; a keyed commitment enters the plan."))
    trained: int = field(default=0, metadata=option(whole, "Training records."))
    held_out: int = field(default=0, metadata=option(whole, "Records that no model was trained on."))
    signal: str | None = field(
        default=None, metadata=option(text, "Which number of the scores file is taken.", example="margin")
    )

    def __post_init__(self) -> None:
        for key in ("method", "recipe", "data"):
            value = getattr(self, key)
            require(
                bool(value.strip()) and value.isprintable(), f"[outside] {key}", value, "printable text on one line"
            )
        require(self.guarantee in LEVELS, "[outside] guarantee", self.guarantee, " or ".join(LEVELS))
        require(self.trained >= 1, "[outside] trained", self.trained, "the number of training records, at least 1")
        require(self.held_out >= 0, "[outside] held_out", self.held_out, "at least 0")
        for key, value in self.parameters.items():
            require(
                isinstance(value, str | bool | int),
                f"[outside.parameters] {key}",
                value,
                "text, a whole number or a flag",
            )


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """A plan file.

    Args:
        path: The file.
        audit: Its table ``[audit]``.
        outside: Its table ``[outside]``.
        signing: Its table ``[signing]``.
    """

    path: Path
    audit: AuditConfig
    outside: OutsideConfig
    signing: SigningConfig

    @property
    def recipe_digest(self) -> str:
        """SHA-256 (hex) of the declared recipe."""
        return hashlib.sha256(canonical(["cu-cert/outside/recipe/v1", self.outside.recipe])).hexdigest()

    def key_path(self) -> Path | None:
        """Return where the private key of ``[signing]`` lies; ``None`` for the user's own key."""
        return None if self.signing.key is None else self.path.parent / Path(self.signing.key).expanduser()

    def data_commitment(self, key: bytes) -> str:
        """Return a keyed commitment (hex) to the declared data.

        Args:
            key: K of the request.
        """
        return hmac.new(key, b"cu-cert/outside/data/v1\0" + self.outside.data.encode(), hashlib.sha256).hexdigest()

    def subject(self, model: Path | None) -> Subject:
        """Return what the plan judges: a model file, or this declaration when no file is at hand.

        Args:
            model: The audited file; only its bytes matter.

        Raises:
            ConfigError: The file cannot be read.
        """
        path, own = model or self.path, self.outside
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected the file under audit") from None
        exact = own.guarantee == "exact"
        return Subject(
            name=path.name,
            model=digest,
            method=own.method,
            parameters=dict(own.parameters),
            guarantee=own.guarantee,
            level={"exact": "EXACT_IN_LAW", "certified": "CERTIFIED", "none": "EMPIRICAL"}[own.guarantee],
            tested_eps=Fraction(0) if exact else self.audit.tested_eps,
            tested_delta=Fraction(0) if exact else self.audit.tested_delta,
        )


def load_declaration(path: Path) -> Declaration:
    """Read a plan file.

    Args:
        path: A TOML file with the tables ``[audit]`` and ``[outside]``.

    Raises:
        ConfigError: The file is missing or not TOML, a table or key is unknown, or a value is wrong.
    """
    document = read_document(path.absolute())
    values: dict[str, dict[str, object]] = {}
    for key, value in document.values.items():
        if key == "schema":
            continue
        if key not in _TABLES:
            raise ConfigError(f"{document.where(key)}: unknown key {key!r}; expected {nearest(key, _TABLES)}")
        if not isinstance(value, dict):
            raise ConfigError(
                f"{document.where(key)}: {key} = {toml_value(value)}; expected a table that starts with [{key}]"
            )
        values[key] = value
    if "outside" not in values:
        raise ConfigError(
            f"{document.path}: no table [outside]; expected one that names method, recipe, data and trained: models "
            "that were made elsewhere must be declared"
        )
    with document.located():
        return Declaration(
            path=document.path,
            audit=build(AuditConfig, "audit", values.get("audit", {})),
            outside=build(OutsideConfig, "outside", values["outside"]),
            signing=build(SigningConfig, "signing", values.get("signing", {})),
        )
