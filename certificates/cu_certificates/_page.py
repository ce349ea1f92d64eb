"""Everything that the templates of the report show, read from a predicate and checked."""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cu_certificates._cells import control_counted
from cu_certificates._checklist import checklist
from cu_certificates._fields import (
    NOT_STATED,
    anchor,
    confidence,
    exact,
    field,
    flatten,
    guess_share,
    mapping,
    objects,
    sequence,
    short,
    text,
    truth,
    word,
    words,
)
from cu_certificates._page_scope import governance, scope
from cu_certificates._page_verdict import question_title, verdict_box
from cu_certificates._phrases import reached, seen_from
from cu_certificates._plot_chain import chain
from cu_certificates._plot_power import power
from cu_certificates._plots import plots
from cu_certificates._rows import QUESTIONS, Row, rows, void_bounds
from cu_certificates._wording import Wording

_NUMBERS: Final = 8
"""So many certificates of one plan are named; a plan about several models has as many."""

UTILITY_TYPES: Final = ("utility", "cp", "count")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows of the table of claims under one heading.

    Args:
        title: The heading.
        asked: The question behind it; may be empty.
        rows: The claims.
    """

    title: str
    asked: str
    rows: tuple[Row, ...]


def page(predicate: Mapping[str, Any], t: Wording) -> dict[str, Any]:
    """Return everything that the templates show.

    Args:
        predicate: The predicate of the statement.
        t: The texts of the page's language.

    Raises:
        Rejected: A field is of the wrong kind.
    """
    draft = field(predicate, "verdict") is None
    basis = () if draft else words(predicate, "verdict.basis")
    claims = objects(predicate, "claims")
    method, model = text(predicate, "unlearning.method"), text(predicate, "scope.model.name")
    method = t("word.method") if method == NOT_STATED else method
    model = t("word.model_file") if model == NOT_STATED else model
    table = rows(claims, method=method, model=model, supports=basis, t=t)
    return {
        "draft": draft,
        "model": model,
        "model_argument": shlex.quote(model),
        "bases": tuple((name, said) for name, said in t.table("basis") if name != "unread"),
        "head": _head(predicate, t),
        "verdict": verdict_box(predicate, claims, t),
        "scope": scope(predicate, t),
        "governance": governance(predicate, t),
        "results": _grouped(table, predicate, t),
        "utility": tuple(row for kind in UTILITY_TYPES for row in table if (row.group, row.type) == ("utility", kind)),
        "metrics": tuple(
            (kind, caption, found)
            for kind, caption in t.table("metrics")
            if (found := tuple(row for row in table if row.group == kind))
        ),
        "controls": _controls(table, claims, t),
        "plots": plots(mapping(predicate, "plots"), void=void_bounds(claims), t=t),
        "chain": chain(claims, model, t),
        "power": power(claims, t),
        "plan": _plan(predicate, claims, t),
        "unlearning": _method(predicate, t),
        "evidence": _evidence(predicate, t),
        "evidence_anchors": {text(item, "id"): anchor(text(item, "id")) for item in objects(predicate, "evidence")},
        "assumptions": tuple(
            (name, t.named("assumption", name) or t("word.unknown_text"))
            for name in sorted(words(predicate, "assumptions"), key=_numbered)
        ),
        "limitations": tuple(
            (name, t.named("limitation", name) or t("word.unknown_text"))
            for name in sorted(words(predicate, "limitations"), key=_numbered)
        ),
        "checklist": checklist(predicate, claims, t),
    }


def _numbered(name: str) -> tuple[str, int, str]:
    """Sort entries as people count: L2 before L10."""
    digits = "".join(re.findall("[0-9]", name))[:9]
    return re.sub("[0-9]", "", name), int(digits or 0), name


def _head(predicate: Mapping[str, Any], t: Wording) -> dict[str, Any]:
    certificate = text(predicate, "certificateId")
    independence = text(predicate, "auditor.independence")
    return {
        "certificate": certificate,
        # Hexadecimal digits only: this stands in the style sheet, where HTML escapes do not help.
        "short": "".join(re.findall("[0-9a-f]", certificate.removeprefix("urn:uuid:")))[:16],
        "issued": t.date(text(predicate, "issuedAt")),
        "expires": t.date(text(predicate, "expiresAt")),
        "sequence": text(predicate, "sequence"),
        "auditor": text(predicate, "auditor.name"),
        "keyid": text(predicate, "auditor.keyid"),
        "independence": t.named("independence_text", independence) or t("independence_text.other"),
        "independence_word": t.word("independence", independence),
        "previous": text(predicate, "previous.sha256"),
        "log": _log(predicate, t),
        "program": text(predicate, "tool.sourceDigest.sha256"),
        "tool": f"{text(predicate, 'tool.name')} {text(predicate, 'tool.version')}",
        "environment": _parameters(mapping(predicate, "tool.environment"), t),
        "schema": text(predicate, "schemaVersion"),
    }


def _log(predicate: Mapping[str, Any], t: Wording) -> str:
    if not mapping(predicate, "log"):
        return ""
    return t("verify.log_text", size=text(predicate, "log.size"), root=text(predicate, "log.root"))


def _parameters(source: Mapping[str, Any], t: Wording) -> tuple[tuple[str, str], ...]:
    return tuple(flatten(source, {None: t("word.none"), True: t("word.yes"), False: t("word.no")}))


def _asked(question: str, predicate: Mapping[str, Any], t: Wording) -> str:
    """Return a question in full; a drill asks it about records that it drew itself."""
    drill = question == "procedure" and "eps-onerun" in words(predicate, "plan.attacks")
    return t.named("question_asked", "drill" if drill else question) or ""


def _grouped(table: tuple[Row, ...], predicate: Mapping[str, Any], t: Wording) -> tuple[Group, ...]:
    """Group the claims of the main table by question; what they all stand on comes last."""
    headings = {
        name: (t("results.group", question=question_title(name, t)), _asked(name, predicate, t)) for name in QUESTIONS
    }
    headings |= {
        "provenance": (t("results.provenance"), t("results.provenance_asked")),
        "theorem": (t("results.theorem"), t("results.theorem_asked")),
        "ground": (t("results.ground"), ""),
        "receipts": (t("results.receipts"), t("results.receipts_asked")),
    }
    found = (
        Group(title=title, asked=asked, rows=tuple(row for row in table if row.group == name))
        for name, (title, asked) in headings.items()
    )
    return tuple(group for group in found if group.rows)


def _controls(table: tuple[Row, ...], claims: list[dict[str, Any]], t: Wording) -> tuple[dict[str, Any], ...]:
    """Return the controls, each with its row in the table of claims, for the cards of their own section."""
    found = []
    for row, claim in zip(table, claims, strict=True):
        if row.type == "control":
            outcome = text(claim, "outcome")
            said = t.word("outcome", outcome)
            positive = text(claim, "sign") == "positive"
            found.append(
                {
                    "row": row,
                    "title": t("verdict.tile_question", question=question_title(row.group, t)),
                    "said": t("controls.positive", outcome=said) if positive else t("controls.negative", outcome=said),
                    "counted": control_counted(claim, t),
                    "good": outcome in ("detected", "sound"),
                }
            )
    return tuple(found)


def _plan(predicate: Mapping[str, Any], claims: list[dict[str, Any]], t: Wording) -> dict[str, Any]:
    tested = exact(field(predicate, "plan.testedEps"), "plan.testedEps")
    eps, delta = short(tested), short(exact(field(predicate, "plan.testedDelta") or "0", "plan.testedDelta"))
    share = guess_share(tested, "up")
    wanted = field(predicate, "plan.detectEps")
    level = confidence(field(predicate, "plan.alphaTotal"), "plan.alphaTotal")
    return {
        "digest": text(predicate, "plan.digest.sha256"),
        "seed": text(predicate, "plan.seedCommitment.sha256"),
        "attempt": text(predicate, "plan.attempt"),
        "shared": _shared(predicate, t),
        "questions": tuple(
            (question_title(name, t), _asked(name, predicate, t)) for name in words(predicate, "plan.questions")
        ),
        "tests": tuple((name, t.named("test", name) or "") for name in words(predicate, "plan.attacks")),
        "level": t("word.clauses").join(
            [t("plan.level_text", alpha=text(predicate, "plan.alphaTotal"), level=level), *_split(predicate, t)]
        ),
        "tested": eps,
        "tested_text": (
            t("plan.tested_text", eps=eps, delta=delta)
            if share is None
            else t("plan.tested_share", eps=eps, delta=delta, share=share)
        ),
        "wanted": t(
            "plan.wanted_text", eps=short(exact(wanted, "plan.detectEps")) if wanted is not None else NOT_STATED
        ),
        "power": tuple(_power(claim, t) for claim in claims if word(claim, "type") == "power"),
    }


def _shared(predicate: Mapping[str, Any], t: Wording) -> str:
    """Return with which other plans models are shared, the last ones first; empty where none are."""
    if not mapping(predicate, "sharing"):
        return ""
    older = field(predicate, "sharing.older") is True
    said = [t("plan.shared_older")] if older else []
    latest = objects(predicate, "sharing.latest")
    others = []
    for plan in reversed(latest):
        digest = text(plan, "plan")[:16]
        certificates = [number for number in sequence(plan, "certificates") if isinstance(number, int)]
        numbers = ", ".join(str(number) for number in certificates[:_NUMBERS])
        named = t("plan.shared_with", plan=digest, numbers=numbers) if numbers else t("plan.shared_open", plan=digest)
        others.append(named)
    every = field(predicate, "sharing.plans")
    if isinstance(every, int) and every > len(latest):
        others.append(t("plan.shared_more", count=str(every - len(latest))))
    if others:
        listed = t("word.clauses").join(others)
        said.append(t("plan.shared_text", count=text(predicate, "sharing.models"), others=listed))
    return " ".join(said)


def _split(predicate: Mapping[str, Any], t: Wording) -> list[str]:
    split = mapping(predicate, "plan.alphaSplit")
    return [
        t(
            "plan.level_part",
            name=t.word("question_low", name),
            alpha=text(split, name),
            level=confidence(split[name], f"plan.alphaSplit.{name}"),
        )
        for name in sorted(split)
    ]


def _power(claim: Mapping[str, Any], t: Wording) -> dict[str, Any]:
    question, artifact = text(claim, "question"), text(claim, "question") == "artifact"
    permuted, betted = field(claim, "permutations") is not None, field(claim, "bets") is not None
    if artifact:
        used = text(claim, "permutations" if permuted else "references")
        size = t("plan.size_permutations", size=used) if permuted else t("plan.size_references", size=used)
    else:
        used = text(claim, "bets" if betted else "guesses")
        size = t("plan.size_bets", size=used) if betted else t("plan.size_guesses", size=used)
    return {
        "anchor": anchor(text(claim, "id")),
        "question": question_title(question, t),
        "size": size,
        "largest": text(claim, "maxEps"),
        "needed": _needed(claim, t, artifact=artifact, permuted=permuted, betted=betted),
        "seen": t("plan.see_positive") if artifact else seen_from(claim, t),
        "reached": reached(truth(claim, "reached"), t),
    }


def _needed(claim: Mapping[str, Any], t: Wording, *, artifact: bool, permuted: bool, betted: bool) -> str:
    key = "smallest" if artifact else "critical"
    least = text(claim, key)
    if field(claim, key) is None:
        return t("seen.out_of_reach")
    if artifact:
        return t("plan.needed_permutations", least=least) if permuted else t("plan.needed_references", least=least)
    return t("plan.needed_row", least=least) if betted else t("plan.needed_guesses", least=least)


def _method(predicate: Mapping[str, Any], t: Wording) -> dict[str, Any]:
    return {
        "method": text(predicate, "unlearning.method"),
        "source": t.word("source", text(predicate, "unlearning.source")),
        "guarantee": t.word("guarantee", text(predicate, "unlearning.guarantee")),
        "level": t.word("level", text(predicate, "unlearning.level")),
        "parameters": _parameters(mapping(predicate, "unlearning.parameters"), t),
        "recipe": text(predicate, "scope.recipe.name"),
        "recipe_digest": text(predicate, "scope.recipe.digest.sha256"),
        "recipe_parameters": _parameters(mapping(predicate, "scope.recipe.parameters"), t),
    }


def _evidence(predicate: Mapping[str, Any], t: Wording) -> tuple[dict[str, str], ...]:
    return tuple(
        {
            "id": text(item, "id"),
            "anchor": anchor(text(item, "id")),
            "name": text(item, "name"),
            "digest": text(item, "digest.sha256"),
            "access": t.word("access", text(item, "access")),
        }
        for item in objects(predicate, "evidence")
    )
