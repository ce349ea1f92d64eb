"""Subjects: from what the user names to what the plan holds and the audit measures."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from cu_cert.errors import ConfigError, DataError
from cu_cert.fleet.worker import Workshop
from cu_cert.forget import ResolvedRequest
from cu_cert.methods import get
from cu_cert.methods._params import printable
from cu_cert.model_file import file_digest, load_into, load_state, read_sidecar, state_digest
from cu_cert.pools import Way
from cu_cert.project import Project
from cu_cert.records import Records
from cu_cert.rng import Stream
from cu_cert.secrets_store import Secrets
from cu_cert.signals import Signals, measure
from cu_certificates._design_sequential import CONTROL_SIZES
from cu_certificates.plan import DEFAULT_DESIGNS, Plan, Sizes, Subject
from cu_certificates.request import commit

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class SubjectInput:
    """A model to audit, as the user names it.

    Args:
        model: The model file under audit.
        out: Folder of its certificate.
        method: The method said to have made it; ``None`` to look into sidecar and project.
        options: The method's options; used when ``method`` is given.
        procedure: Whether the procedure question may be asked about it.
        original: The model before unlearning, shown beside it in the attacks panel.
        name: File name in the certificate; default the model's own.
    """

    model: Path
    out: Path
    method: str | None = None
    options: Mapping[str, object] | None = None
    procedure: bool = True
    original: Path | None = None
    name: str = ""


@dataclass(frozen=True)
class Named:
    """A subject whose method is resolved.

    Args:
        source: Where its name came from: ``option``, ``sidecar``, ``project`` or ``unknown``.
        way: How the method is called; ``None`` when it is unknown.
    """

    source: str
    way: Way | None


def name_method(project: Project, subject: SubjectInput) -> Named:
    """Resolve the method of a subject: option, else sidecar, else project, else unknown."""
    own, root = project.unlearning, str(project.root)
    if not subject.procedure:
        return Named("unknown", None)
    if subject.method is not None:
        default = own.parameters if own.method == subject.method else {}
        return Named("option", _way(subject.method, default if subject.options is None else subject.options, root))
    sidecar = read_sidecar(subject.model) if subject.model.is_file() else None
    if sidecar is not None and sidecar.method is not None:
        options = _options_of(sidecar.method, sidecar.parameters, root)
        return Named("sidecar", _way(sidecar.method, options, root))
    if own.method is not None:
        return Named("project", _way(own.method, own.parameters, root))
    return Named("unknown", None)


def _way(method: str, options: Mapping[str, object], root: str) -> Way:
    return Way(method, options, get(method, root=root).sources)


def _options_of(method: str, parameters: Mapping[str, object], root: str) -> Mapping[str, object]:
    """Return the sidecar's parameters as options; decimals stand there as text."""
    defaults = {field.name: field.default for field in fields(get(method, root=root).params_type)}
    return {
        key: float(value) if isinstance(value, str) and isinstance(defaults.get(key), float) else value
        for key, value in parameters.items()
    }


def _subject(project: Project, given: SubjectInput, named: Named) -> Subject:
    guarantee, level = "none", "EMPIRICAL"
    parameters: dict[str, object] = {}
    if named.way is not None:
        method = get(named.way.method, root=str(project.root))
        guarantee, level = method.guarantee, method.level
        parameters = dict(printable(method.params(named.way.options)))
        if named.way.sources:
            parameters["sourcesSha256"] = named.way.sources
    exact = guarantee == "exact"
    return Subject(
        name=given.name or given.model.name,
        model=file_digest(given.model),
        method=named.way.method if named.way else None,
        parameters=parameters,
        guarantee=guarantee,
        level=level,
        tested_eps=Fraction(0) if exact else project.audit.tested_eps,
        tested_delta=Fraction(0) if exact else project.audit.tested_delta,
    )


def draft_plan(
    project: Project,
    subjects: Sequence[SubjectInput],
    named: Sequence[Named],
    workshop: Workshop,
    request: ResolvedRequest,
    secrets: Secrets,
) -> tuple[Plan, bytes]:
    """Draft the plan, all but its seed commitment.

    A method that is unknown for one subject leaves the artifact question alone.

    Returns:
        The plan, and the key K of the request's commitments.

    Raises:
        ConfigError: Two subjects have one name, or no question is left.
    """
    config = project.audit
    found = tuple(_subject(project, given, name) for given, name in zip(subjects, named, strict=True))
    if len({subject.name for subject in found}) != len(found):
        raise ConfigError("audit: two subjects have one name; expected distinct names")
    questions = tuple(
        question
        for question in config.questions
        if question != "procedure" or all(subject.method is not None for subject in found)
    )
    if not questions:
        raise ConfigError(
            f"{project.where('audit', 'questions')}: only the procedure question is asked, but the method of the model "
            'is unknown; name it with --method, or ask the "artifact" question'
        )
    controls, control_guesses = config.slots, config.guess_count
    if config.sequential:
        controls, control_guesses = CONTROL_SIZES[config.direction]
    key = secrets.request_key(request.ids)
    public = commit(request.ids, key, allowed_missing=request.missing, pad_to=config.pad_request)
    if public.least is not None and public.size >= len(workshop.train):
        raise ConfigError(
            f"{project.where('audit', 'pad_request')}: [audit] pad_request = {config.pad_request} states a size of "
            f"{public.size}; expected fewer than the {len(workshop.train)} training records, since the records that "
            "stay are counted as what the stated size leaves; choose a smaller number, or 0"
        )
    plan = Plan(
        subjects=found,
        questions=questions,
        alpha_total=config.alpha,
        detect_eps=config.detect_eps,
        sizes=Sizes(
            slots=config.slots,
            guesses=config.guess_count,
            control_slots=controls,
            control_guesses=control_guesses,
            references=config.references,
            negatives=config.controls,
            pilots=config.pilots,
        ),
        request_root=public.root,
        request_size=public.size,
        request_least=public.least,
        recipe=workshop.recipe.digest,
        data=commit_data(workshop.train, key),
        attempt=config.attempt,
        direction=config.direction,
        reference=config.reference,
        original=config.original,
        score=config.score,
        designs=DEFAULT_DESIGNS | ({"procedure": "sequential"} if config.sequential else {}),
    )
    return plan, key


@dataclass(frozen=True)
class Measured:
    """What was measured on a subject before any fleet exists.

    Args:
        signals: On the request's and the held-out records, in this order.
        retained: On the records that stay.
        tensors: Digest of its tensors.
        model: The subject itself.
        original: The original's signals on request and held-out records, when it was given.
        before: The original itself.
    """

    signals: Signals
    retained: Signals
    tensors: str
    model: "torch.nn.Module"
    original: Signals | None = None
    before: "torch.nn.Module | None" = None


def commit_data(records: Records, key: bytes) -> str:
    """Return a commitment (hex) to the training records, keyed so that nobody can test guesses about a record.

    Args:
        records: D.
        key: K of the request.
    """
    return hmac.new(key, b"cu-cert/data/v1\0" + bytes.fromhex(records.digest), hashlib.sha256).hexdigest()


def measure_subject(workshop: Workshop, subject: SubjectInput) -> Measured:
    """Load a subject into the recipe's model and measure it.

    Raises:
        DataError: The file is no model of this recipe, or its scores are not finite.
    """

    def signals_of(path: Path) -> "tuple[Signals, Signals, str, torch.nn.Module]":
        model = workshop.recipe.build(workshop.train, rng=Stream.from_seed("load"))
        state = load_state(path)
        load_into(model, state, path)
        model.eval()
        found = workshop.measure(model)
        if not found.usable:
            raise DataError(f"{path}: the model gives NaN or infinite scores; it cannot be audited")
        return found, measure(workshop.recipe, model, workshop.retain), state_digest(model.state_dict()), model

    own = signals_of(subject.model)
    if subject.original is None:
        return Measured(*own)
    original, _, _, before = signals_of(subject.original)
    return Measured(*own, original, before)
