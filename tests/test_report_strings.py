"""The table of texts: the same keys and names in every language, each used, none that claims too much."""

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest
from jinja2 import nodes

from cu_certificates import _cells
from cu_certificates._cells_provenance import WRITERS
from cu_certificates._checklist import checklist
from cu_certificates._forbidden import forbidden_in
from cu_certificates._rows import BASIS, SECTIONS
from cu_certificates._wording import LANGUAGES, Wording, wording
from cu_certificates.check.design import LEVELS
from cu_certificates.check.result import VERDICTS
from cu_certificates.check.rules import RULES

ROOT = Path(__file__).parent.parent
TEMPLATES = ROOT / "templates/cu_templates"
FLOOR = ROOT / "certificates/cu_certificates"
MODULES = [*sorted(FLOOR.glob("_[a-z]*.py")), FLOOR / "report.py"]
EN = wording()
OTHERS = [code for code in LANGUAGES if code != "en"]

# Groups whose keys are words of the format or of another list; the tests below hold each to its list.
LOOKED_UP = ("named", "word", "table", "paragraphs")
TEXTS = ("t", "html", "css")


def names_in(said: str) -> set[str]:
    """The names in braces."""
    return {name for _, name, _, _ in string.Formatter().parse(said) if name is not None}


# --- Languages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", OTHERS)
def test_every_language_has_the_same_keys_in_the_same_order(code: str) -> None:
    theirs = wording(code).texts
    assert set(theirs) - set(EN.texts) == set(), "unknown keys"
    assert set(EN.texts) - set(theirs) == set(), "missing keys"
    assert list(theirs) == list(EN.texts)


@pytest.mark.parametrize("code", OTHERS)
def test_every_text_fills_in_the_same_names(code: str) -> None:
    for key, said in wording(code).texts.items():
        assert names_in(said) == names_in(EN.texts[key]), key


@pytest.mark.parametrize("code", LANGUAGES)
def test_texts_are_clean(code: str) -> None:
    for key, said in wording(code).texts.items():
        assert said.strip(), key
        assert said == said.strip() or key in ("verdict.label", "word.clauses"), key
        assert "  " not in said, key
        assert key.startswith("known.") or not re.search(r"[<>&]", said), f"{key}: markup"
        assert said.count("`") % 2 == 0, key
        assert said.count("**") % 2 == 0, key
        assert '"' not in said, f"{key}: a straight quotation mark"


def test_french_sets_unbreakable_blanks_before_high_punctuation() -> None:
    for key, said in wording("fr").texts.items():
        # A range in a digest or a path holds no such blank; a colon inside a name such as n:m does not occur.
        assert not re.search(r"[^\u00a0\s][;?!»]", said), key
        assert not re.search(r"[A-Za-zéèà)}] ?:(?=\s|$)", said.replace("\u00a0:", "")), key
    assert "80\u00a0%" in wording("de")("plan.seen")


@pytest.mark.parametrize("code", LANGUAGES)
def test_no_text_claims_too_much(code: str) -> None:
    found = {key: [said.words for said in forbidden_in(text)] for key, text in wording(code).texts.items()}
    assert {key: words for key, words in found.items() if words} == {}


@pytest.mark.parametrize("code", OTHERS)
def test_translations_are_translated(code: str) -> None:
    same = [key for key, said in wording(code).texts.items() if said == EN.texts[key] and len(said.split()) > 3]
    formulas = {"cell.band_bound", "plan.tested_text", "plan.level_part", "cell.eps", "page.head", "plot_eps.bar"}
    assert set(same) <= formulas | {"date.time", "verdict.tile_delta"}


# --- Use -------------------------------------------------------------------------------------------------------------


def calls_in_python(path: Path) -> Iterator[tuple[str, str, set[str] | None]]:
    """Yield (kind of call, first argument, names given) of every call of the texts; ``None`` for names in a mapping."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        if isinstance(function, ast.Name):
            kind = "t" if function.id == "self" else function.id
        elif isinstance(function, ast.Attribute):
            kind = "t" if function.attr == "t" else function.attr
        else:
            continue
        if not node.args or kind not in (*TEXTS, *LOOKED_UP):
            continue
        given = None if any(word.arg is None for word in node.keywords) else {word.arg or "" for word in node.keywords}
        yield from ((kind, key, given) for key in literals(node.args[0]))
        match node.args[0]:
            case ast.JoinedStr(values=[ast.Constant(value=str() as start), *_]) if start.endswith("."):
                yield "word", start[:-1], None


def literals(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.Constant(value=str() as key):
            yield key
        case ast.IfExp():
            yield from literals(node.body)
            yield from literals(node.orelse)


def calls_in_templates() -> Iterator[tuple[str, str, set[str] | None]]:
    environment = jinja2.Environment(autoescape=True)
    for path in TEMPLATES.glob("*.j2"):
        for call in environment.parse(path.read_text(encoding="utf-8")).find_all(nodes.Call):
            match call.node:
                case nodes.Name(name="t"):
                    kind = "t"
                case nodes.Getattr(node=nodes.Name(name="t"), attr=attr):
                    kind = attr
                case _:
                    continue
            given = {word.key for word in call.kwargs}
            first = call.args[0] if call.args else None
            ends = [first.expr1, first.expr2] if isinstance(first, nodes.CondExpr) else [first]
            yield from ((kind, end.value, given) for end in ends if isinstance(end, nodes.Const))


def calls() -> list[tuple[str, str, set[str] | None]]:
    found = [call for path in MODULES for call in calls_in_python(path)]
    return [*found, *calls_in_templates()]


def test_every_text_that_is_asked_for_exists_and_gets_the_names_it_fills_in() -> None:
    asked = [(key, given) for kind, key, given in calls() if kind in TEXTS and "." in key]
    assert len(asked) > 300
    for key, given in asked:
        assert key in EN.texts, key
        if given is not None:
            assert given == names_in(EN.texts[key]), key


def test_every_text_is_used() -> None:
    found = calls()
    literal = {key for kind, key, _ in found if kind in TEXTS}
    literal |= {key for path in MODULES for key in re.findall(r'texts\["([a-z_.]+)"\]', path.read_text("utf-8"))}
    groups = {key for kind, key, _ in found if kind in LOOKED_UP}
    unused = [
        key
        for key in EN.texts
        if key not in literal
        and not any(key.startswith(f"{group}.") for group in groups)
        and not key.startswith(("known.", "glossary.", "date.m"))
    ]
    assert unused == []


def test_words_of_the_format_have_their_texts() -> None:
    for verdict in VERDICTS:
        for part in ("word", "headline", "shows", "not_shown", "plain.0"):
            assert EN.named("verdict", f"{verdict}.{part}", **dict.fromkeys(SLOTS, "")), (verdict, part)
    assert {name for name, _ in EN.table("guarantee")} == set(LEVELS)
    assert {name for name, _ in EN.table("level")} == {level for levels in LEVELS.values() for level in levels}
    assert set(RULES) == set(_cells.KINDS), "each type of claim has its cells"
    assert set(RULES) == set(BASIS), "each type of claim has its basis"
    assert set(WRITERS) <= set(RULES)
    assert set(SECTIONS) <= set(RULES)
    assert set(BASIS.values()) <= {name for name, _ in EN.table("basis")}
    assert {name for name, _ in EN.table("basis")} == {name for name, _ in EN.table("basis_word")}
    points = checklist({}, [], EN)
    assert [point.number for point in points] == list(range(1, 16))
    for group in ("annex_title", "annex_source"):
        assert [name for name, _ in EN.table(group)] == [str(number) for number in range(1, 16)]
    parts = {part.name for point in points for part in point.parts}
    assert parts == {said for _, said in EN.table("annex_part")}


SLOTS = ("guesses", "allowed", "resolution", "treated", "compared", "undecided")


def test_every_assumption_and_limitation_that_can_be_listed_has_a_text() -> None:
    demanded = set()
    for path in (ROOT / "certificates/cu_certificates/check").glob("*.py"):
        demanded |= set(re.findall(r'"([AL][0-9]{1,2})"', path.read_text(encoding="utf-8")))
    for path in (ROOT / "cu_cert").rglob("*.py"):
        demanded |= set(re.findall(r'"([AL][0-9]{1,2})"', path.read_text(encoding="utf-8")))
    assert len(demanded) > 20
    for name in demanded:
        assert EN.named("assumption" if name[0] == "A" else "limitation", name), name


# --- Sentences of the program ----------------------------------------------------------------------------------------

EXAMPLES = {"question": "procedure", "said": "Clopper-Pearson", "claim": "c-chain"}


def example(key: str) -> dict[str, str]:
    """Return something for each name of a sentence."""
    numbers = iter(f"{number}.5" for number in range(1, 20))
    return {
        name: EXAMPLES.get(name) or (next(numbers) if re.match(r"[nxp](_|$)", name) else "npo")
        for name in sorted(names_in(EN.texts[key]))
    }


@pytest.mark.parametrize("code", OTHERS)
def test_every_known_sentence_is_recognised_and_keeps_its_numbers(code: str) -> None:
    t = wording(code)
    for key in (key for key in EN.texts if key.startswith("known.")):
        values = example(key)
        said = EN.texts[key].replace("\u00a0", " ").format(**values)
        found = t.known(said)
        shown = {name: said_in(t, name, value) for name, value in values.items()}
        assert found == t.texts[key].format(**shown), key


def said_in(t: Wording, name: str, value: str) -> str:
    return t.word("question_low", value) if name == "question" else t.known(value) if name == "said" else value


def test_unknown_text_is_shown_as_it_is_and_marked() -> None:
    t = wording("de")
    assert t.told("nobody wrote this <b>") == '<span lang="en">nobody wrote this &lt;b&gt;</span>'
    assert t.told("DeLong, logit scale; nobody wrote this") == (
        'DeLong, Logit-Skala; <span lang="en">nobody wrote this</span>'
    )
    assert t.told("of 50 records") == "von 50 Datensätzen"
    assert (
        wording("fr").told("of 50 records; DeLong, logit scale")
        == "sur 50 enregistrements\u00a0; DeLong, échelle logit"
    )
    assert EN.told("nobody wrote this") == "nobody wrote this"
    assert t.free("backups", "de") == "Sicherungskopien"
    assert t.free("eigene Worte", "de") == "eigene Worte"
    assert t.free("eigene Worte", "fr") == '<span lang="fr">eigene Worte</span>'


@pytest.mark.parametrize("piece", ["1 ", "a; ", "AUC, ", ", low side", "p = 1", "{}", "TPR at 1", "c-a: "])
def test_a_hostile_text_costs_little(piece: str) -> None:
    t = wording("fr")
    for said in (piece * 400, piece * 100, (piece * 100)[:599] + "\n"):
        assert t.told(said)
        assert t.known(said)
