"""The table ``[signing]`` of the project file: who signs, who answers for it, and what the certificate says of both.

Everything here describes. None of it enters the plan or a seed, so a name can be corrected without a new audit; the
checker ignores it and the report shows it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from cu_cert._toml import option, require, text, texts, whole

LANGUAGES: Final = ("en", "de", "fr")
LONGEST: Final = 1000
"""Characters of one description, so that a whole file pasted by mistake is refused."""


def day(value: object) -> str:
    """Read a date: ``2026-11-20``, with or without quotes."""
    if isinstance(value, date) and type(value) is date:
        return value.isoformat()
    try:
        if not isinstance(value, str) or not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
            raise ValueError
        return date.fromisoformat(value).isoformat()
    except ValueError:
        raise ValueError('a date of the calendar such as "2026-11-20"') from None


def require_lines(table: str, values: Mapping[str, object]) -> None:
    """Demand that descriptions are printable, on one line and not too long.

    Args:
        table: Name of the table, for messages.
        values: Texts or lists of texts by key; ``None`` where one is not given.

    Raises:
        ConfigError: One is not.
    """
    for key, value in values.items():
        entries = value if isinstance(value, tuple) else () if value is None else (value,)
        for entry in entries:
            require(
                isinstance(entry, str) and entry.isprintable() and len(entry) <= LONGEST,
                f"[{table}] {key}",
                entry,
                f"printable text on one line, at most {LONGEST} characters",
            )


@dataclass(frozen=True, kw_only=True)
class SigningConfig:
    """The table ``[signing]``.

    Args:
        key: Path of the private key, relative to the project; ``None`` = the default key of the user.
        name: Who signs; printed in the certificate.
        independence: ``internal``, or ``external`` when the auditor is independent of the model's owner.
        expires_days: Days until the certificate expires, 1 to 3650.
        language: Language of the report: ``en``, ``de`` or ``fr``.
        controller: Who decides about the data.
        controller_contact: How to reach them.
        responsible: The natural person who answers for the audit.
        responsible_role: Their role; given with ``responsible``.
        responsible_text: What they affirm, in their own words.
        deployments: Where the model is in use.
        derivatives: Models made from it that are known.
        excluded: What is out of scope, beyond what always is.
        evidence_retained_until: Date until which the evidence is kept.
        evidence_access: Who may see the controlled evidence, and how to ask.
        dpia: Reference of the data-protection impact assessment.
        dpo_advice: Reference of the data-protection officer's advice.
        reaudit: What leads to a new audit.
        suppression: How the records are kept from coming back.
        revocation_contact: Where to report that this certificate should be revoked.

    Raises:
        ConfigError: A value lies out of range, or one is given without the other that it belongs to.
    """

    key: str | None = field(
        default=None,
        metadata=option(
            text,
            "Private key, relative to this file. Unset: the key of your user configuration. Keep keys out of version "
            "control.",
            example="keys/audit.pem",
        ),
    )
    name: str = field(default="local audit key", metadata=option(text, "Who signs; printed in every certificate."))
    independence: str = field(
        default="internal",
        metadata=option(
            text, '"internal", or "external" when the auditor is independent of the owner of the model; your own word.'
        ),
    )
    expires_days: int = field(default=90, metadata=option(whole, "Days until the certificate expires, 1 to 3650."))
    language: str = field(default="en", metadata=option(text, 'Language of the report: "en", "de" or "fr".'))
    controller: str | None = field(
        default=None,
        metadata=option(
            text,
            "All keys from here on describe: the certificate repeats them, everybody who gets it can read them, and no "
            "result depends on them. Leave out what should not be public. Who decides about the data (controller).",
            example="Example Ltd",
        ),
    )
    controller_contact: str | None = field(
        default=None, metadata=option(text, "How to reach the controller.", example="privacy@example.org")
    )
    responsible: str | None = field(
        default=None,
        metadata=option(text, "The natural person who answers for this audit; needs their role.", example="A. Person"),
    )
    responsible_role: str | None = field(
        default=None, metadata=option(text, "Their role.", example="head of model governance")
    )
    responsible_text: str | None = field(
        default=None,
        metadata=option(
            text, "What they affirm, in their own words.", example="The request was carried out as described here."
        ),
    )
    deployments: tuple[str, ...] = field(
        default=(), metadata=option(texts, "Where the model is in use.", example=["support chat, EU region"])
    )
    derivatives: tuple[str, ...] = field(
        default=(), metadata=option(texts, "Models made from it that are known.", example=["chat-small, distilled"])
    )
    excluded: tuple[str, ...] = field(
        default=(),
        metadata=option(
            texts,
            "What is out of scope, beyond what always is: backups, other copies, derived models, the records.",
            example=["embeddings of the search index"],
        ),
    )
    evidence_retained_until: str | None = field(
        default=None, metadata=option(day, "Until when the evidence is kept.", example="2036-12-31")
    )
    evidence_access: str | None = field(
        default=None,
        metadata=option(
            text, "Who may see the controlled evidence, and how to ask.", example="supervisory authorities, on request"
        ),
    )
    dpia: str | None = field(
        default=None, metadata=option(text, "Reference of the impact assessment.", example="DPIA 2026-014")
    )
    dpo_advice: str | None = field(
        default=None,
        metadata=option(text, "Reference of the data-protection officer's advice.", example="file 3/2026"),
    )
    reaudit: str | None = field(
        default=None, metadata=option(text, "What leads to a new audit.", example="each new training, or yearly")
    )
    suppression: str | None = field(
        default=None,
        metadata=option(
            text, "How the records are kept from coming back.", example="suppression list before each import"
        ),
    )
    revocation_contact: str | None = field(
        default=None,
        metadata=option(text, "Where to report a doubt about this certificate.", example="security@example.org"),
    )

    def __post_init__(self) -> None:
        require(1 <= self.expires_days <= 3650, "[signing] expires_days", self.expires_days, "1 to 3650")
        require(
            self.independence in ("internal", "external"),
            "[signing] independence",
            self.independence,
            '"internal" or "external"',
        )
        require(self.language in LANGUAGES, "[signing] language", self.language, " or ".join(LANGUAGES))
        require_lines(
            "signing", {key: value for key, value in vars(self).items() if key not in ("key", "expires_days")}
        )
        for first, second in (
            ("controller_contact", "controller"),
            ("responsible", "responsible_role"),
            ("responsible_role", "responsible"),
            ("responsible_text", "responsible"),
        ):
            value = getattr(self, first)
            require(
                value is None or getattr(self, second) is not None, f"[signing] {first}", value, f"{second} beside it"
            )

    def statements(self) -> dict[str, object]:
        """Return what the certificate says besides who signed; nothing for what is not given."""
        controller = _given(name=self.controller, contact=self.controller_contact)
        affirmation = _given(name=self.responsible, role=self.responsible_role, text=self.responsible_text)
        governance = _given(
            evidenceRetainedUntil=self.evidence_retained_until,
            evidenceAccess=self.evidence_access,
            dpia=self.dpia,
            dpoAdvice=self.dpo_advice,
            reaudit=self.reaudit,
            suppression=self.suppression,
            revocationContact=self.revocation_contact,
        )
        return {
            **({"controller": controller} if controller else {}),
            **({"affirmation": affirmation} if affirmation else {}),
            **({"governance": governance} if governance else {}),
            **({"language": self.language} if self.language != "en" else {}),
        }

    def scope(self) -> dict[str, object]:
        """Return where the model is in use and what was made from it; nothing for what is not given."""
        return {
            name: list(entries)
            for name, entries in (("deployments", self.deployments), ("derivatives", self.derivatives))
            if entries
        }


def _given(**values: str | None) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}
