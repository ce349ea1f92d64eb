"""The report: a predicate as one self-contained page of HTML.

``render_skeleton`` is a pure function of the predicate: no clock, no locale, no randomness, nothing fetched. Its bytes
are a signed subject of the certificate that they show, so the page can be checked as a file and drawn again years
later. The page is ASCII (other characters are written as references), holds no script and loads nothing.
"""

import functools
import hashlib
import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import jinja2

from cu_certificates import _wording
from cu_certificates._fields import (
    NOT_STATED,
    anchor,
    confidence,
    date,
    exact,
    field,
    flatten,
    guess_share,
    mapping,
    objects,
    percent,
    reached,
    short,
    text,
    word,
    words,
)
from cu_certificates._plots import plots
from cu_certificates._rows import (
    Row,
    could_see,
    deciding,
    eps_level,
    eps_plain,
    eps_share,
    eps_value,
    rows,
    seen_from,
    void_bounds,
)
from cu_certificates.check.carrier import join_report
from cu_certificates.check.strict import Rejected, canonical

Marked = Literal["unverified"]

UTILITY_TYPES: Final = ("utility", "cp", "count")

# The page must not hold the marker of the signed line, not even inside a name that somebody chose.
_RESERVED: Final = {"cu-cert-bundle": "cu-cert&#45;bundle", "vnd.dev.sigstore.bundle": "vnd.dev.sigstore&#46;bundle"}

# Characters that a reader cannot see, or that reorder the text around them, are shown as escapes.
_INVISIBLE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def render_skeleton(predicate: Mapping[str, Any], *, marked: Marked | None = None) -> bytes:
    """Draw the page of a certificate, without the line that carries the signed bundle.

    Args:
        predicate: The predicate of the statement. Without ``verdict`` it is an unsigned draft and the page says so.
        marked: ``unverified`` puts a banner on the page: nobody checked the file against a trusted key.

    Returns:
        The bytes of one HTML page, the same for the same arguments on every machine.

    Raises:
        Rejected: The predicate is not the JSON that cu-cert writes, or one of its fields is of the wrong kind.
    """
    whole = canonical(predicate)
    context = _context(predicate) | {
        "marked": marked,
        "claims_digest": hashlib.sha256(whole).hexdigest(),
        "raw": _visible(_pretty(predicate)),
        "wording": _wording,
    }
    page = _environment().get_template("report.html.j2").render(context)
    for reserved, written in _RESERVED.items():
        page = page.replace(reserved, written)
    return page.encode("ascii", errors="xmlcharrefreplace")


def report_bytes(predicate: Mapping[str, Any], bundle: bytes) -> bytes:
    """Return ``report.html``: the page with the signed bundle in its one line.

    Args:
        predicate: The predicate that the bundle signs.
        bundle: The bytes of ``certificate.sigstore.json``.

    Raises:
        Rejected: As for ``render_skeleton``.
    """
    return join_report(render_skeleton(predicate), bundle)


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("cu_templates", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: _visible(value) if type(value) is str else value,
    )


def _visible(said: str) -> str:
    """Show invisible and reordering characters as JSON escapes, so that no name can fake what stands around it."""
    return _INVISIBLE.sub(lambda found: json.dumps(found[0])[1:-1], said)


def _pretty(value: object, indent: int = 0) -> str:
    """Return JSON with one field a line, but lists of plain values on one line: ROC points would fill pages."""
    pad = "  " * (indent + 1)
    match value:
        case dict() if value:
            lines = (f"{pad}{json.dumps(key)}: {_pretty(value[key], indent + 1)}" for key in sorted(value))
            return "{\n" + ",\n".join(lines) + "\n" + "  " * indent + "}"
        case list() if any(isinstance(item, dict) for item in value):
            lines = (f"{pad}{_pretty(item, indent + 1)}" for item in value)
            return "[\n" + ",\n".join(lines) + "\n" + "  " * indent + "]"
        case _:
            return json.dumps(value, ensure_ascii=False, sort_keys=True)


def _context(predicate: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that the templates show, read and checked."""
    draft = field(predicate, "verdict") is None
    basis = () if draft else words(predicate, "verdict.basis")
    claims = objects(predicate, "claims")
    method = text(predicate, "unlearning.method")
    treated = _wording.TREATED.get(None if method == NOT_STATED else method)
    treated = treated or _wording.TREATED_WITH.format(method=method)
    model = text(predicate, "scope.model.name")
    model = "the model file" if model == NOT_STATED else model
    table = rows(claims, method="the method" if method == NOT_STATED else method, model=model, supports=basis)
    return {
        "draft": draft,
        "model": model,
        "model_argument": shlex.quote(model),
        "treated": treated,
        "head": _head(predicate),
        "verdict": _verdict(predicate, claims, treated, basis),
        "scope": _scope(predicate),
        "results": _grouped(table),
        "utility": tuple(row for kind in UTILITY_TYPES for row in table if (row.group, row.type) == ("utility", kind)),
        "metrics": tuple(
            (kind, caption, found)
            for kind, caption in _wording.METRICS.items()
            if (found := tuple(row for row in table if row.group == kind))
        ),
        "controls": _controls(table, claims),
        "plots": plots(mapping(predicate, "plots"), void=void_bounds(claims)),
        "plan": _plan(predicate, claims),
        "unlearning": _method(predicate),
        "evidence": _evidence(predicate),
        "evidence_anchors": {text(item, "id"): anchor(text(item, "id")) for item in objects(predicate, "evidence")},
        "assumptions": _entries(words(predicate, "assumptions"), _wording.ASSUMPTIONS),
        "limitations": _entries(words(predicate, "limitations"), _wording.LIMITATIONS),
    }


def _head(predicate: Mapping[str, Any]) -> dict[str, Any]:
    certificate = text(predicate, "certificateId")
    independence = text(predicate, "auditor.independence")
    return {
        "certificate": certificate,
        # Hexadecimal digits only: this stands in the style sheet, where HTML escapes do not help.
        "short": "".join(re.findall("[0-9a-f]", certificate.removeprefix("urn:uuid:")))[:16],
        "issued": date(text(predicate, "issuedAt")),
        "expires": date(text(predicate, "expiresAt")),
        "sequence": text(predicate, "sequence"),
        "auditor": text(predicate, "auditor.name"),
        "keyid": text(predicate, "auditor.keyid"),
        "independence": _wording.INDEPENDENCE.get(independence, _wording.INDEPENDENCE_OTHER),
        "independence_word": independence,
        "previous": text(predicate, "previous.sha256"),
        "program": text(predicate, "tool.sourceDigest.sha256"),
        "tool": f"{text(predicate, 'tool.name')} {text(predicate, 'tool.version')}",
        "environment": tuple(flatten(mapping(predicate, "tool.environment"))),
        "schema": text(predicate, "schemaVersion"),
    }


def _verdict(
    predicate: Mapping[str, Any], claims: list[dict[str, Any]], treated: str, basis: tuple[str, ...]
) -> dict[str, Any]:
    draft = field(predicate, "verdict") is None
    value = "UNSIGNED DRAFT" if draft else text(predicate, "verdict.value")
    said = _wording.DRAFT if draft else _wording.VERDICTS.get(value)
    if said is None:
        raise Rejected(f"verdict.value: {value!r}; expected one of {', '.join(_wording.VERDICTS)}")
    bounds = deciding(claims, basis)
    alone = "label-p" in words(predicate, "plan.attacks")
    slots = {
        "guesses": _guesses_in_words(bounds),
        "allowed": _allowed(predicate),
        "resolution": _resolution(claims),
        "treated": treated,
        "compared": _wording.COMPARED_RECORDS if alone else _wording.COMPARED,
        "undecided": _wording.UNDECIDED_RECORDS if alone else _wording.UNDECIDED,
    }
    alpha = percent(exact(field(predicate, "plan.alphaTotal"), "plan.alphaTotal"), "up")
    sure = _wording.SURE_DRAFT if draft else _wording.SURE.format(alpha=alpha, controls=_controls_in_words(claims))
    return {
        "value": value,
        "tone": said.tone,
        "headline": said.headline,
        "bounds": tuple(_tile(claim) for claim in bounds),
        "shows": said.shows.format(**slots).strip(),
        "not_shown": said.not_shown,
        "sure": sure.strip(),
        "plain": tuple(paragraph.format(**slots) for paragraph in said.plain),
        "reasons": () if draft else words(predicate, "verdict.reasons"),
        "basis": tuple((name, anchor(name)) for name in basis),
    }


def _title(question: str) -> str:
    return _wording.QUESTIONS.get(question, (question, ""))[0]


def _tile(claim: Mapping[str, Any]) -> dict[str, str]:
    return {
        "question": f"{_title(text(claim, 'question'))} question",
        "value": eps_value(claim),
        "level": eps_level(claim),
        "plain": eps_plain(claim),
        "anchor": anchor(text(claim, "id")),
    }


def _guesses_in_words(bounds: Iterable[Mapping[str, Any]]) -> str:
    shares = [(share, _title(text(claim, "question")).lower()) for claim in bounds if (share := eps_share(claim))]
    if not shares:
        return _wording.GUESSES_NONE
    told = [f"{share} of those guesses ({question} question)" for share, question in shares[:1]]
    told += [f"{share} ({question} question)" for share, question in shares[1:]]
    return _wording.GUESSES.format(shares=" and ".join(told))


def _allowed(predicate: Mapping[str, Any]) -> str:
    tested = exact(field(predicate, "plan.testedEps"), "plan.testedEps")
    share = guess_share(tested, "up")
    said = _wording.ALLOWED if share else _wording.ALLOWED_ALL
    return said.format(tested=short(tested), share=share)


def _resolution(claims: Iterable[Mapping[str, Any]]) -> str:
    told = (
        f"{_title(text(claim, 'question'))} question: {could_see(claim)}."
        for claim in claims
        if word(claim, "type") == "power"
    )
    said = " ".join(told)
    return f"What it could have seen. {said}" if said else ""


def _controls_in_words(claims: Iterable[Mapping[str, Any]]) -> str:
    controls = [claim for claim in claims if word(claim, "type") == "control"]
    said = []
    for sign, good, ending in (("positive", "detected", "detected"), ("negative", "sound", "sound")):
        those = [text(claim, "outcome") for claim in controls if text(claim, "sign") == sign]
        if those:
            said.append(f"{those.count(good)} of {len(those)} {sign} controls {ending}")
    return f"Checks on the test itself: {', '.join(said)}." if said else "No control was run."


def _scope(predicate: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "digest": text(predicate, "scope.model.digest.sha256"),
        "access": text(predicate, "scope.model.access"),
        "scenario": text(predicate, "request.scenario"),
        "size": text(predicate, "request.commitment.size"),
        "root": text(predicate, "request.commitment.root"),
        "scheme": text(predicate, "request.commitment.scheme"),
        "missing": text(predicate, "request.allowedMissing"),
        "source": text(predicate, "scope.data.source"),
        "records": text(predicate, "scope.data.records"),
        "trained": text(predicate, "scope.data.trained"),
        "held_out": text(predicate, "scope.data.heldOut"),
        "data_digest": text(predicate, "scope.data.digest.sha256"),
        "excluded": words(predicate, "scope.excluded"),
    }


def _grouped(table: tuple[Row, ...]) -> tuple[tuple[tuple[str, str], tuple[Row, ...]], ...]:
    """Group the claims of the main table by question; what they all stand on comes last."""
    named = {name: (f"{title} question.", asked) for name, (title, asked) in _wording.QUESTIONS.items()}
    named["ground"] = ("What these claims stand on.", "")
    groups = ((title, tuple(row for row in table if row.group == name)) for name, title in named.items())
    return tuple((title, found) for title, found in groups if found)


def _controls(table: tuple[Row, ...], claims: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """Return the controls, each with its row in the table of claims, for the cards of their own section."""
    found = []
    for row, claim in zip(table, claims, strict=True):
        if row.type == "control":
            outcome = text(claim, "outcome")
            found.append(
                {
                    "row": row,
                    "title": f"{_title(row.group)} question",
                    "name": "Positive control" if text(claim, "sign") == "positive" else "Negative control",
                    "outcome": outcome,
                    "counted": row.result.removeprefix(f"{outcome}: "),
                    "good": outcome in ("detected", "sound"),
                }
            )
    return tuple(found)


def _plan(predicate: Mapping[str, Any], claims: list[dict[str, Any]]) -> dict[str, Any]:
    tested = exact(field(predicate, "plan.testedEps"), "plan.testedEps")
    delta = exact(field(predicate, "plan.testedDelta") or "0", "plan.testedDelta")
    wanted = field(predicate, "plan.detectEps")
    split = mapping(predicate, "plan.alphaSplit")
    total = text(predicate, "plan.alphaTotal")
    return {
        "digest": text(predicate, "plan.digest.sha256"),
        "seed": text(predicate, "plan.seedCommitment.sha256"),
        "attempt": text(predicate, "plan.attempt"),
        "questions": tuple(_wording.QUESTIONS.get(name, (name, "")) for name in words(predicate, "plan.questions")),
        "attacks": tuple((name, _wording.ATTACKS.get(name, "")) for name in words(predicate, "plan.attacks")),
        "alpha": total,
        "confidence": confidence(field(predicate, "plan.alphaTotal"), "plan.alphaTotal"),
        "split": tuple(
            (name, text(split, name), confidence(split[name], f"plan.alphaSplit.{name}")) for name in sorted(split)
        ),
        "tested": short(tested),
        "delta": short(delta),
        "allowed": guess_share(tested, "up"),
        "wanted": short(exact(wanted, "plan.detectEps")) if wanted is not None else NOT_STATED,
        "power": tuple(_power(claim) for claim in claims if word(claim, "type") == "power"),
    }


def _power(claim: Mapping[str, Any]) -> dict[str, Any]:
    question = text(claim, "question")
    used, least, unit = ("guesses", "critical", "right guesses")
    if field(claim, "bets") is not None:
        used, unit = "bets", "right guesses in a row"
    if question == "artifact":
        used = "references" if field(claim, "permutations") is None else "permutations"
        least, unit = "smallest", used
    return {
        "anchor": anchor(text(claim, "id")),
        "question": _title(question),
        "size": f"{text(claim, used)} {used}",
        "largest": text(claim, "maxEps"),
        "needed": "out of reach" if field(claim, least) is None else f"{text(claim, least)} {unit}",
        "seen": "see positive control" if question == "artifact" else seen_from(claim),
        "reached": reached(claim),
    }


def _method(predicate: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "method": text(predicate, "unlearning.method"),
        "source": _named(_wording.SOURCES, text(predicate, "unlearning.source")),
        "guarantee": _named(_wording.GUARANTEES, text(predicate, "unlearning.guarantee")),
        "level": text(predicate, "unlearning.level"),
        "parameters": tuple(flatten(mapping(predicate, "unlearning.parameters"))),
        "recipe": text(predicate, "scope.recipe.name"),
        "recipe_digest": text(predicate, "scope.recipe.digest.sha256"),
        "recipe_parameters": tuple(flatten(mapping(predicate, "scope.recipe.parameters"))),
    }


def _evidence(predicate: Mapping[str, Any]) -> tuple[dict[str, str], ...]:
    return tuple(
        {
            "id": text(item, "id"),
            "anchor": anchor(text(item, "id")),
            "name": text(item, "name"),
            "kind": text(item, "kind"),
            "digest": text(item, "digest.sha256"),
            "access": _named(_wording.ACCESS, text(item, "access")),
        }
        for item in objects(predicate, "evidence")
    )


def _named(table: Mapping[str, str], name: str) -> str:
    return table.get(name, name)


def _entries(named: tuple[str, ...], table: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name, table.get(name, _wording.UNKNOWN_TEXT)) for name in named)
