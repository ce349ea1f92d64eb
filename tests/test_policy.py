"""The policy: strict reading, line numbers, defaults."""

import re
import tomllib
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cu_certificates._policy_read import REQUIRE
from cu_certificates._toml import key_lines
from cu_certificates.errors import MissingFileError, PolicyError, UsageError
from cu_certificates.policy import (
    ACCEPTABLE,
    NEVER_EXCEPTED,
    RULES,
    Batch,
    Number,
    Policy,
    PolicyException,
    PowerDemand,
    ReplayDemand,
    TheoremLimit,
    load_policy,
    policy_of,
    policy_text,
)

ROOT = "ab" * 32
EXCEPTION = 'rule = "CU104"\nreason = "ticket 812"\napproved_by = "dpo"\nexpires = 2026-12-31\n'


def load(folder: Path, text: str, name: str = "cu-cert.toml") -> Policy:
    path = folder / name
    path.write_text("schema = 1\n" + text, encoding="utf-8")
    return load_policy(path)


def test_no_policy_table_gives_the_defaults_and_other_tables_are_ignored(tmp_path: Path) -> None:
    policy = load(tmp_path, '[data]\nsource = "digits"\n[audit]\nslots = 64\n')
    assert policy.verdict == ACCEPTABLE
    assert policy.on_inconclusive == "fail"
    untouched = {"file", "sha256", "verdict", "on_inconclusive", "lines"}
    for name in set(Policy.__dataclass_fields__) - untouched:
        assert not getattr(policy, name), name


def test_the_default_text_parses_to_the_defaults(tmp_path: Path) -> None:
    shown = load(tmp_path, policy_text())
    plain = load(tmp_path, "", "plain.toml")
    for name in Policy.__dataclass_fields__:
        if name not in ("file", "sha256", "lines"):
            assert getattr(shown, name) == getattr(plain, name), name


def test_the_default_text_names_every_key_and_each_option_in_it_is_valid(tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests" / "pending.root").write_text(ROOT + "\n")
    text = re.sub(r"(?m)^#(\S)", r"\1", policy_text())
    values = tomllib.loads(text)["policy"]
    assert set(values["require"]) == set(REQUIRE)
    policy = load(tmp_path, text)
    assert policy.eps_lower_max is not None
    assert policy.eps_lower_max.value.text == "0.50"
    assert policy.utility_min is not None
    assert policy.utility_min.set == "held-out"
    assert policy.detect_eps_max == Number("2")
    assert policy.independence == "external"
    assert [batch.root for batch in policy.forget_roots] == [ROOT]
    assert policy.forget_roots[0].source.endswith("pending.root")
    assert policy.power == PowerDemand(
        tpr=Number("0.20"), at_fpr=Number("0.01"), prob=Number("0.8"), alpha=Number("1/20")
    )
    assert policy.replay == ReplayDemand(wrong_max=Number("0.05"), alpha=Number("1/20"))
    assert policy.theorem_eps_max == TheoremLimit(value=Number("1.0"), delta=Number("1e-5"))
    assert policy.signatures == {"auditor": 1, "controller": 1}
    assert policy.utility_drop_max == Number("0.02")
    for flag in ("absent_all", "planned_tests", "timestamp", "report", "privacy_lint"):
        assert getattr(policy, flag) is True
    assert policy.max_age == timedelta(days=90)
    assert policy.trust == tmp_path / "trust.toml"
    assert [excused.rule for excused in policy.exceptions] == ["CU105"]
    comments = [line for line in policy_text().splitlines() if line.startswith("# ")]
    assert len(comments) >= len(REQUIRE), "every option is explained"


def test_lines_and_a_file_of_its_own(tmp_path: Path) -> None:
    text = "[policy.require]\nmax_age = '7d'\n\n[[policy.exception]]\n" + EXCEPTION
    policy = load(tmp_path, text, "ours.toml")
    assert policy.lines == {"max_age": 3}
    assert policy.exceptions[0].line == 5
    assert policy.exceptions[0].expires == date(2026, 12, 31)
    assert len(policy.sha256) == 64


@pytest.mark.parametrize(
    ("text", "line", "hints"),
    [
        ('[policy.require]\nverdict = ["NOT_REFUTED"]\nmax_ages = "90d"', 4, ["'max_ages'", "'max_age'"]),
        ("[policy.require]\npower = 1", 3, ["power = 1", "a table"]),
        ('[policy.require]\npower = { tpr = "0.05", at_fpr = "0.001" }', 3, ["no key 'prob'"]),
        ('[policy.require]\npower = { tpr = "0.1", at_fpr = "0.1", prob = "0.8" }', 3, ["a tpr above at_fpr"]),
        ('[policy.require]\npower = { tpr = "0.1", at_fpr = "0", prob = "0.8" }', 3, ["strictly between 0 and 1"]),
        ('[policy.require]\npower = { tpr = "0.1", fpr = "0.01", prob = "0.8" }', 3, ["'fpr'", "tpr, at_fpr, prob"]),
        ('[policy.require]\nutility_drop_max = "2"', 3, ["at most 1"]),
        ('[policy.require]\nutility_drop = "0.02"', 3, ["'utility_drop'", "'utility_drop_max'"]),
        ('[policy.require]\nabsent_all = "yes"', 3, ["true or false"]),
        ("[policy.require]\nabsent = true", 3, ["'absent'", "'absent_all'"]),
        ('[policy.require]\nreplay = { wrong_max = "1" }', 3, ["strictly between 0 and 1"]),
        ('[policy.require]\ntheorem_eps_max = { value = "1" }', 3, ["no key 'delta'"]),
        ("[policy.require]\nsignatures = { auditors = 1 }", 3, ["'auditors'", "'auditor'"]),
        ("[policy.require]\nsignatures = { gate = 1 }", 3, ["'gate'", "controller"]),
        ("[policy.require]\nsignatures = { auditor = 0 }", 3, ["from 1 to 9"]),
        ("[policy.require]\nsignatures = { auditor = true }", 3, ["from 1 to 9"]),
        ("[policy.require]\nsignatures = {}", 3, ["at least one role"]),
        ("[policy.require]\ntimestamp = 1", 3, ["true or false"]),
        ('[policy.require]\nforget_root = "from:gone/*.root"', 3, ["matches no file"]),
        ("[policy.require]\nforget_root = []", 3, ["at least one"]),
        ('[policy.require]\neps_lower_max = { value = "1", delta = "0", alfa = "1/20" }', 3, ["'alfa'", "'alpha'"]),
        ('[policy.require]\neps_lower_max = { value = "1", delta = "0" }', 3, ["no key 'alpha'"]),
        ("[policy.requires]", 2, ["'requires'", "'require'"]),
        ("[polcy.require]\n", 2, ["'polcy'", "'policy'"]),
        ("[policy.trust]\nfiles = 'a'", 3, ["'files'", "'file'"]),
        ("[policy.trust]\n", 2, ["no key 'file'"]),
        ('[policy.require]\n\n# x\nverdict = ["NOT_REFUTE"]', 5, ["'NOT_REFUTED'"]),
        ('[policy.require]\nverdict = ["REFUTED"]', 3, ["no REFUTED"]),
        ('[policy.require]\nverdict = ["INCONCLUSIVE"]', 3, ["on_inconclusive"]),
        ("[policy.require]\nverdict = []", 3, ["at least one"]),
        ('[policy.require]\nverdict = "NOT_REFUTED"', 3, ["a list"]),
        ('[policy.require]\nattacks = ["a", "a"]', 3, ["different"]),
        ("[policy.require]\ndetect_eps_max = 1.5", 3, ["quotation marks", "1.5"]),
        ("[policy.require]\ndetect_eps_max = 2", 3, ["quotation marks"]),
        ('[policy.require]\ndetect_eps_max = "1/0"', 3, ["decimal or fraction"]),
        ('[policy.require]\nutility_min = { set = "held-out", accuracy = "90" }', 3, ["at most 1"]),
        ("[policy.require]\nutility_min = 3", 3, ["a table"]),
        ('[policy.require]\non_inconclusive = "pass"', 3, ["fail, warn"]),
        ('[policy.require]\nindependence = "extern"', 3, ["'external'"]),
        ('[policy.require]\nforget_root = "AB"', 3, ["64 lower-case"]),
        ('[policy.require]\nforget_root = "from:gone.root"', 3, ["gone.root", "cannot be read"]),
        ('[policy.require]\nmax_age = "3 months"', 3, ["90d"]),
        ("[policy.require]\npredicate = ''", 3, ["a string"]),
        ("[[policy.exception]]\n" + EXCEPTION.replace("CU104", "CU999"), 3, ["'CU999'", "CU101"]),
        ("[[policy.exception]]\n" + EXCEPTION.replace("CU104", "CU001"), 3, ["never excused"]),
        ("[[policy.exception]]\n" + EXCEPTION.replace("CU104", "CU002"), 3, ["never excused"]),
        ("[[policy.exception]]\n" + EXCEPTION.replace("CU104", "CU402"), 3, ["never excused"]),
        ("[[policy.exception]]\n" + EXCEPTION.replace("2026-12-31", '"2026-12-31"'), 6, ["without quotation"]),
        ("[[policy.exception]]\n" + EXCEPTION.replace("2026-12-31", "2026-12-31T00:00:00Z"), 6, ["a date"]),
        (f"[[policy.exception]]\n{EXCEPTION}[[policy.exception]]\nrules = 1", 8, ["'rules'", "'rule'"]),
        ("[[policy.exception]]\n" + EXCEPTION.replace('reason = "ticket 812"\n', ""), 2, ["no key 'reason'"]),
        ("[policy]\nexception = 3", 3, ["[[policy.exception]]"]),
        ("policy = 3", 2, ["a table"]),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, line: int, hints: list[str]) -> None:
    with pytest.raises(PolicyError) as caught:
        load(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'cu-cert.toml'}:{line}: "), message
    for hint in hints:
        assert hint in message, message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("schema", ["", "schema = 2\n", "schema = true\n", 'schema = "1"\n'])
def test_the_schema_must_be_one(tmp_path: Path, schema: str) -> None:
    path = tmp_path / "p.toml"
    path.write_text(schema + "[policy.require]\n")
    with pytest.raises(PolicyError, match="schema = 1"):
        load_policy(path)


def test_files_that_are_no_policy(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        load_policy(tmp_path / "gone.toml")
    path = tmp_path / "p.toml"
    path.write_bytes(b"schema = 1\n[policy.require]\nmax_age = \n")
    with pytest.raises(PolicyError, match="line 3"):
        load_policy(path)
    path.write_bytes(b"schema = 1 # \xff")
    with pytest.raises(PolicyError, match="UTF-8"):
        load_policy(path)
    path.write_bytes(b"# " + b"x" * (1 << 20))
    with pytest.raises(UsageError, match="bytes"):
        load_policy(path)


def test_the_forget_root_may_stand_in_a_file_beside_the_policy(tmp_path: Path) -> None:
    (tmp_path / "r.root").write_text(f"  {ROOT}\n")
    batches = load(tmp_path, '[policy.require]\nforget_root = "from:r.root"').forget_roots
    assert batches == (Batch(root=ROOT, source=str(tmp_path / "r.root")),)
    (tmp_path / "r.root").write_text(f"{ROOT}\n{ROOT}\n")
    with pytest.raises(PolicyError, match=r"r\.root: starts with"):
        load(tmp_path, '[policy.require]\nforget_root = "from:r.root"')


def test_many_batches_come_from_a_folder_a_pattern_or_a_list(tmp_path: Path) -> None:
    folder = tmp_path / "requests"
    folder.mkdir()
    roots = {f"2026-{month}.root": f"{month:02d}" * 32 for month in (10, 11, 12)}
    for name, root in roots.items():
        (folder / name).write_text(root + "\n")
    (folder / "readme.txt").write_text("not a root")
    (folder / "again.root").write_text(roots["2026-10.root"])  # the same batch under another name counts once
    for stated in ('"from:requests"', '"from:requests/*.root"', '"from:requests/"'):
        policy = load(tmp_path, f"[policy.require]\nforget_root = {stated}")
        assert {batch.root for batch in policy.forget_roots} == set(roots.values()), stated
        assert len(policy.forget_roots) == 3
    mixed = load(tmp_path, f'[policy.require]\nforget_root = ["{ROOT}", "from:requests/2026-11.root"]').forget_roots
    assert [batch.root for batch in mixed] == [ROOT, "11" * 32]
    assert mixed[0].source == f"{tmp_path / 'cu-cert.toml'}:3"
    (folder / "bad.root").write_text("x")
    with pytest.raises(PolicyError, match=r"bad\.root: starts with 'x'"):
        load(tmp_path, '[policy.require]\nforget_root = "from:requests"')


def test_an_empty_folder_of_requests_does_not_open_the_gate(tmp_path: Path) -> None:
    (tmp_path / "requests").mkdir()
    with pytest.raises(PolicyError, match="matches no file"):
        load(tmp_path, '[policy.require]\nforget_root = "from:requests"')


def test_demands_may_be_written_in_a_program(tmp_path: Path) -> None:
    policy = policy_of({"detect_eps_max": "2", "report": True}, "test_model.py", tmp_path)
    assert policy.detect_eps_max == Number("2")
    assert policy.report
    with pytest.raises(PolicyError, match=r"test_model\.py:1: unknown key 'detect_eps'.*detect_eps_max"):
        policy_of({"detect_eps": "2"}, "test_model.py", tmp_path)


def test_a_policy_made_in_code_is_checked_too() -> None:
    with pytest.raises(PolicyError, match="signatures"):
        Policy(file="code", sha256="", signatures={"gate": 1})
    with pytest.raises(PolicyError, match="expected some of"):
        Policy(file="code", sha256="", verdict=("REFUTED",))
    for rule in ("CU999", *NEVER_EXCEPTED):
        excused = PolicyException(rule=rule, reason="r", approved_by="a", expires=date(2026, 1, 1), line=3)
        with pytest.raises(PolicyError, match="code:3: no exception"):
            Policy(file="code", sha256="", exceptions=(excused,))


def test_an_exception_holds_until_its_day_is_over() -> None:
    excused = PolicyException(rule="CU104", reason="r", approved_by="a", expires=date(2026, 12, 31), line=1)
    assert not excused.expired(datetime(2026, 12, 31, 23, 59, tzinfo=UTC))
    assert excused.expired(datetime(2027, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.50", Fraction(1, 2)), ("1e-5", Fraction(1, 100_000)), ("1/20", Fraction(1, 20)), ("2", Fraction(2))],
)
def test_numbers_are_exact(text: str, value: Fraction) -> None:
    assert Number(text).value == value


@pytest.mark.parametrize(
    "text", ["", " 1", "1 ", "-1", "+1", "1_0", "1e5", "1e-999", "nan", "inf", ".5", "٣", "1/0", "1/2/3"]
)
def test_other_spellings_of_numbers_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="decimal or fraction"):
        Number(text)


def test_every_rule_has_a_page() -> None:
    folder = Path(__file__).parents[1] / "docs" / "rules"
    assert {page.stem for page in folder.glob("CU*.md")} == set(RULES)
    never = r"(?i)\b(erased|forgotten|anonymous|compliant|guaranteed|passed|verified|proof)\b"
    for page in folder.glob("CU*.md"):
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {page.stem}: ")
        for heading in ("What", "Why", "Expected", "How to fix", "Source"):
            assert f"\n## {heading}\n" in text, page
        assert not re.search(never, text), page


VALUES = st.sampled_from(
    [
        "1",
        "'#'",
        '"]"',
        '"a\\"["',
        "[\n 1, # ]\n 2]",
        "'''\nkey = 1\n'''",
        '"""x\n[y]\n"z""""',
        "{ a = '}' }",
        "[[1], ['[']]",
    ]
)
HEADERS = st.sampled_from(["", "[t]", "[a.b]", "[[list]]", "[[list]] # [x]", "['quo.ted'.\"k\"]"])


@given(st.lists(st.tuples(HEADERS, st.lists(VALUES, max_size=3)), max_size=5))
def test_the_line_scan_finds_every_key(tables: list[tuple[str, list[str]]]) -> None:
    lines: list[str] = []
    expected: dict[str, int] = {}
    seen: set[str] = set()
    for at, (header, values) in enumerate(tables):
        if header and (header in seen and not header.startswith("[[")):
            continue
        seen.add(header)
        if header:
            lines.append(header)
        for number, value in enumerate(values):
            expected[f"key{at}_{number}"] = len(lines) + 1
            lines += f"key{at}_{number} = {value}".split("\n")
    text = "\n".join(lines)
    tomllib.loads(text)
    found = key_lines(text)
    assert {str(path[-1]): line for path, line in found.items() if str(path[-1]).startswith("key")} == expected
    if "['quo.ted'.\"k\"]" in lines:
        assert found["quo.ted", "k"] == lines.index("['quo.ted'.\"k\"]") + 1
