"""cu-cert.toml: found, read strictly, every message with file and line; the text that init writes."""

import dataclasses
import json
import re
import subprocess
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cu_cert._toml import toml_key, toml_value
from cu_cert.cli.init import command
from cu_cert.data._guess import DataGuess, guess
from cu_cert.errors import ConfigError, DataError, EnvironmentProblem
from cu_cert.project import (
    _RECIPE_KEYS,
    AuditConfig,
    DataConfig,
    Project,
    SigningConfig,
    TrainingConfig,
    UnlearningConfig,
    default_guesses,
    default_project_text,
    find_project,
    init_project,
    load_project,
)
from cu_cert.recipes.adapter import AdapterParams
from cu_cert.recipes.cnn import CnnParams
from cu_cert.recipes.mlp import MlpParams
from cu_certificates.policy import load_policy

DIGITS = DataGuess(config=DataConfig(), reasons=())


def write(folder: Path, text: str) -> Path:
    path = folder / "cu-cert.toml"
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str) -> Project:
    return load_project(write(folder, "schema = 1\n" + text))


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value).removeprefix(f"{folder}/")


def test_the_file_is_found_upwards(tmp_path: Path) -> None:
    path = write(tmp_path, "schema = 1\n")
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    (tmp_path / "a" / "cu-cert.toml").mkdir()  # a folder of that name is not the file
    assert find_project(below) == path
    assert find_project(tmp_path) == path


def test_no_project_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no cu-cert\.toml in .* `cu-cert init`"):
        find_project(tmp_path)


def test_an_empty_project_has_the_defaults(tmp_path: Path) -> None:
    project = load(tmp_path, "")
    assert project.root == tmp_path
    assert project.data == DataConfig(source="digits", holdout="1/5", holdout_seed="cu-cert", buckets=8)
    assert (project.training.recipe, project.training.options) == ("mlp", {})
    assert project.audit.guess_count == 48
    assert (project.audit.alpha, project.audit.tested_eps, project.audit.detect_eps) == (
        Fraction(1, 20),
        Fraction(1, 2),
        Fraction(2),
    )
    assert project.signing == SigningConfig(key=None, name="local audit key", expires_days=90)
    assert project.policy == {}


def test_every_value_arrives(tmp_path: Path) -> None:
    project = load(
        tmp_path,
        """
[data]
source = "d.csv"
id_column = "who"
label_column = "l"
numeric = ["a"]
categorical = ["b"]
classes = ["n", "y"]
holdout = "held.txt"
[training]
recipe = "logistic"
seed = 7
epochs = 3
learning_rate = 0.5
[unlearning]
method = "npo"
parameters = { epochs = 2 }
[audit]
questions = ["artifact"]
slots = 32
guesses = 10
alpha = "0.1"
tested_delta = "1e-5"
detect_eps = 3
store = "models"
[signing]
key = "k.pem"
name = "Lab"
[policy.require]
verdict = ["NOT_REFUTED"]
""",
    )
    assert project.data.numeric == ("a",)
    assert project.data.holdout_share is None
    assert project.training == TrainingConfig(recipe="logistic", seed=7, options={"epochs": 3, "learning_rate": 0.5})
    assert project.unlearning == UnlearningConfig(method="npo", parameters={"epochs": 2})
    assert project.audit.questions == ("artifact",)
    assert (project.audit.guess_count, project.audit.alpha) == (10, Fraction(1, 10))
    assert (project.audit.tested_delta, project.audit.detect_eps) == (Fraction(1, 10**5), Fraction(3))
    assert project.key_path() == tmp_path / "k.pem"
    assert project.policy == {"require": {"verdict": ["NOT_REFUTED"]}}
    assert project.where("audit", "guesses") == f"{tmp_path}/cu-cert.toml:22"
    assert project.store_path({}) == tmp_path / "models"
    assert project.store_path({"CU_CERT_STORE": "/cache"}) == Path("/cache")
    assert project.store_path({"CU_CERT_STORE": ""}) == tmp_path / "models"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\n[data]\nsorce = 'digits'", r"cu-cert\.toml:4: \[data\] sorce: unknown key; expected 'source' \(did you"),
        ("[dta]", r"cu-cert\.toml:2: unknown key 'dta'; expected 'data'"),
        ("data = 3", r"cu-cert\.toml:2: data = 3; expected a table that starts with \[data\]"),
        ("[policy]\n[audit]\nslots = '64'", r"cu-cert\.toml:4: \[audit\] slots = \"64\"; expected a whole number w"),
        ("[audit]\nslots = true", r":3: \[audit\] slots = true; expected a whole number"),
        ("[audit]\nslots = 2", r":3: \[audit\] slots = 2; expected 4 to 1000000"),
        ("[audit]\npilots = 1", r":3: \[audit\] pilots = 1; expected 2 to"),
        ("[audit]\nguesses = 47", r":3: \[audit\] guesses = 47; expected an even number from 2 to slots = 64"),
        ("[audit]\nslots = 8\nguesses = 10", r":4: \[audit\] guesses = 10; .* slots = 8"),
        ("[audit]\nquestions = ['artefact']", r":3: \[audit\] questions = \[\"artefact\"\]; expected \"procedure\""),
        ("[audit]\nquestions = []", r":3: \[audit\] questions = \[\]; expected"),
        ("[audit]\nquestions = ['artifact', 'artifact']", r":3: .*expected each name once; 'artifact' stands twice"),
        ("[audit]\nalpha = 0.05", r":3: \[audit\] alpha = 0.05; expected an exact number in quotes.* write \"0.05\""),
        ("[audit]\nalpha = '5 %'", r":3: \[audit\] alpha = \"5 %\"; expected an exact decimal or fraction"),
        ("[audit]\nalpha = '1/0'", r":3: \[audit\] alpha = \"1/0\"; expected a fraction that does not divide by 0"),
        ("[audit]\nalpha = '-1/20'", r":3: \[audit\] alpha"),
        ("[audit]\nalpha = '1'", r":3: \[audit\] alpha = \"1\"; expected a number above 0 and below 1"),
        ("[audit]\ntested_eps = '3'", r"\[audit\] detect_eps = \"2\"; expected a number above tested_eps = 3"),
        ("[audit]\ntested_delta = 1", r":3: \[audit\] tested_delta = \"1\"; expected a number from 0, below 1"),
        ("[audit]\nattempt = 0", r":3: \[audit\] attempt = 0; expected 1 to"),
        ("[audit]\nworkers = -1", r":3: \[audit\] workers = -1; expected 0 to 1024"),
        ("[signing]\nexpires_days = 0", r":3: \[signing\] expires_days = 0; expected 1 to 3650"),
        ("[signing]\nname = ''", r":3: \[signing\] name = \"\"; expected a non-empty string"),
        ('[signing]\nname = "a\\nb"', r":3: \[signing\] name = .*expected printable text on one line"),
        ("[training]\nrecipe = 'mpl'", r":3: \[training\] recipe = \"mpl\"; expected 'mlp' \(did you mean that\?\)"),
        ("[training]\nseed = -1", r":3: \[training\] seed = -1; expected at least 0"),
        ("[training]\nseed = 9007199254740992", r":3: \[training\] seed = .*below 2\^53"),
        (
            "[unlearning]\nparameters = { epochs = 1 }",
            r":3: \[unlearning\] parameters = .*no parameters without a meth",
        ),
        ("[unlearning]\nmethod = 'npo'\nparameters = 3", r":4: \[unlearning\] parameters = 3; expected a table"),
        (
            "[data]\nsource = 'x.json'",
            r":3: \[data\] source = \"x.json\"; expected \"digits\", .* a \.npz file, a \.csv",
        ),
        (
            "[data]\nsource = 'x.csv'",
            r":2: \[data\] id_column = \"\"; expected a value for id_column or ids: the source is a",
        ),
        (
            "[data]\nid_column = 'id'",
            r":3: \[data\] id_column = \"id\"; expected no id_column: the source is not a \.csv file or",
        ),
        ("[data]\nnumeric = ['a']", r":3: \[data\] numeric = \(?.*expected no numeric"),
        ("[data]\nholdout = '1'", r":3: \[data\] holdout = \"1\"; expected a share above 0 and below 1"),
        ("[data]\nholdout = '1/0'", r":3: \[data\] holdout = \"1/0\"; expected a fraction that does not"),
        ("[data]\nholdout = 0.2", r":3: \[data\] holdout = 0.2; expected a non-empty string in quotes"),
        ("[data]\nbuckets = 1", r":3: \[data\] buckets = 1; expected 2 to 4096"),
        ("[data]\nclasses = ['a']", r":3: \[data\] classes = \[\"a\"\]; expected at least 2 names"),
        ("[data]\nclasses = ['a', 1]", r":3: \[data\] classes = .*expected a list of non-empty strings"),
        (
            "[data]\nsource = 'x.csv'\nid_column = 'i'\nlabel_column = 'l'\nnumeric = ['a', 'i']",
            r":6: \[data\] numeric = \"i\"; expected a column that has no other role",
        ),
        (
            "[data]\nsource = 'x.csv'\nid_column = 'i'\nlabel_column = 'i'",
            r":5: \[data\] label_column = \"i\"; expected a column that has no other role",
        ),
    ],
)
def test_wrong_values_are_named_with_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    found = refused(tmp_path, text)
    assert re.search(message, found), found
    assert "\n" not in found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[data]\n", r"cu-cert.toml:1: no schema; expected the line 'schema = 1'"),
        (b"\nschema = 2\n", r":2: schema = 2; .*newer cu-cert"),
        (b"schema = true\n", r":1: schema = true; expected"),
        (b"schema = 1\n[data\n", r":2: not valid TOML: .*mend this line"),
        (b"schema = 1\n\nx = [1,\n", r":4: not valid TOML"),
        (b"schema = 1\n[data]\nsource = 'a'\nsource = 'b'\n", r":4: not valid TOML: Cannot overwrite a value"),
        (b"schema = 1\n# caf\xe9\n", r":2: not UTF-8 \(byte 16\)"),
        (b"\xef\xbb\xbfschema = 1\n", r":1: starts with a byte-order mark"),
        (b"schema = 1\na = " + b"[" * 5000 + b"]" * 5000, r"not valid TOML"),
    ],
)
def test_a_file_that_is_not_the_format_gives_one_clear_error(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "cu-cert.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_project(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        load_project(tmp_path / "cu-cert.toml")


def test_an_error_of_the_recipe_names_the_line_of_its_key(tmp_path: Path) -> None:
    project = load(tmp_path, "[training]\nseed = 3\nlearning_rate = -1.0\n")
    with pytest.raises(ConfigError, match=r"cu-cert\.toml:4: \[training\] learning_rate = -1\.0; expected above 0"):
        project.make_recipe()
    project = load(tmp_path, "[training]\n'no such' = 1\n")
    with pytest.raises(ConfigError, match=r"cu-cert\.toml:2: \[training\] no such: unknown"):
        project.make_recipe()
    assert load(tmp_path, "[training]\nepochs = 2").make_recipe().parameters["epochs"] == 2


def test_guesses_follow_the_slots() -> None:
    assert [default_guesses(slots) for slots in (4, 8, 32, 64, 256)] == [2, 6, 24, 48, 192]
    assert dataclasses.replace(AuditConfig(), slots=32).guess_count == 24


def test_the_default_text_explains_every_option_and_loads(tmp_path: Path) -> None:
    text = default_project_text(DIGITS)
    own = text[: text.index("[policy")].split("\n")
    for kind in (DataConfig, TrainingConfig, UnlearningConfig, AuditConfig, SigningConfig):
        for field in dataclasses.fields(kind):
            if field.name == "options":
                continue
            at = [n for n, line in enumerate(own) if re.match(rf"#?{field.name} = ", line)]
            assert len(at) == 1, field.name
            assert own[at[0] - 1].startswith("# "), f"{field.name} is not explained"
    project = load_project(write(tmp_path, text))
    empty = load_project(write(tmp_path, "schema = 1"))
    for name in ("data", "training", "unlearning", "audit", "signing"):
        assert getattr(project, name) == getattr(empty, name)
    assert load_policy(tmp_path / "cu-cert.toml").verdict
    assert max(len(line) for line in text.split("\n")) <= 120


def test_options_that_are_switched_off_are_good_toml_too() -> None:
    text = re.sub(r"(?m)^#(?=[\w\[])", "", default_project_text(DIGITS))
    values = tomllib.loads(text)
    assert values["audit"]["guesses"] == default_guesses(values["audit"]["slots"])
    assert (values["unlearning"]["method"], values["unlearning"]["parameters"]) == ("npo", {"epochs": 5})


def test_the_recipe_keys_in_the_text_are_those_of_the_recipes() -> None:
    kinds = (MlpParams, CnnParams, AdapterParams)
    declared = {(field.name, field.default) for kind in kinds for field in dataclasses.fields(kind)}
    assert {(key, default) for key, default, _ in _RECIPE_KEYS} == declared
    assert len({key for key, _ in declared}) == len(declared)


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@given(
    st.lists(words, unique=True, min_size=2, max_size=4),
    words.filter(lambda seed: seed.isprintable()),
    st.fractions(min_value="1/1000", max_value="999/1000", max_denominator=1000),
)
def test_any_data_table_survives_the_text(classes: list[str], seed: str, share: Fraction) -> None:
    config = DataConfig(classes=tuple(classes), holdout_seed=seed, holdout=str(share))
    values = tomllib.loads(default_project_text(DataGuess(config=config, reasons=())))
    assert values["data"]["classes"] == classes
    assert values["data"]["holdout_seed"] == seed
    assert Fraction(values["data"]["holdout"]) == share


@given(st.dictionaries(words, st.recursive(st.integers() | st.booleans() | words, st.lists, max_leaves=4), min_size=1))
def test_toml_values_are_read_back(values: dict[str, object]) -> None:
    assert tomllib.loads(f"x = {toml_value(values)}")["x"] == values
    assert tomllib.loads("\n".join(f"{toml_key(key)} = 1" for key in values)) == dict.fromkeys(values, 1)


# init -----------------------------------------------------------------------------------------------------------------

CSV = """id,age,job,note,gap,same,email_id,outcome
r1,31,cook,aa,1,x,901,no
r2,45,cook,bb,,x,902,yes
r3,27,nurse,cc,3,x,903,no
r4,60,cook,dd,4,x,904,yes
"""


def run(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.chdir(folder)
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_init_writes_a_file_that_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = run(tmp_path, monkeypatch)
    assert "source = digits: no --data was given" in output
    assert load_project(find_project(tmp_path)).data.source == "digits"
    assert [file.name for file in tmp_path.iterdir()] == ["cu-cert.toml"]


def test_init_does_not_overwrite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "mine")
    with pytest.raises(ConfigError, match=r"cu-cert\.toml: exists already; edit it, or pass --force"):
        run(tmp_path, monkeypatch)
    assert (tmp_path / "cu-cert.toml").read_text() == "mine"
    answer = json.loads(run(tmp_path, monkeypatch, "--force", "--json"))
    assert answer["file"] == "cu-cert.toml"
    assert answer["guessed"]
    assert load_project(tmp_path / "cu-cert.toml").audit.slots == 64


def test_init_guesses_columns_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d.csv").write_text(CSV)
    output = run(tmp_path, monkeypatch, "--data", "d.csv")
    data = load_project(tmp_path / "cu-cert.toml").data
    assert (data.source, data.id_column, data.label_column) == ("d.csv", "id", "outcome")
    assert data.numeric == ("age",)
    assert data.categorical == ("job", "note")
    assert data.classes == ("no", "yes")
    assert "id_column = id: its name says so, and no value stands twice" in output
    assert "label_column = outcome: its name says so; 2 classes" in output
    assert "gap is left out: 1 missing cell, first on line 3" in output
    assert "same is left out: it is the same in every row" in output
    assert "email_id is left out: it looks like another id" in output


def test_init_leaves_free_text_out_and_takes_unnamed_ids(tmp_path: Path) -> None:
    rows = [f"p{n},{n % 7}.5,text number {n},{'ab'[n % 2]}" for n in range(60)]
    (tmp_path / "d.csv").write_text("person,score,comment,last\n" + "\n".join(rows))
    found = guess(tmp_path / "d.csv", tmp_path)
    assert (found.config.id_column, found.config.label_column) == ("person", "last")
    assert found.config.numeric == ("score",)
    assert any("comment is left out: nearly every row" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.csv", "a,label\n1,x\n1,y\n", r"d\.csv: no column is left to learn from; a is left out: it is the same"),
        ("d.csv", "id,v\na,1.5\nb,1.5\n", r"no column can be the label"),
        ("d.csv", "id,label\na,x\nb,y\n", r"no column is left to learn from"),
        ("d.csv", "id,label\n", r"has no row; expected at least one record"),
        ("d.csv", "", r"is empty; expected a header"),
        ("d.json", "{}", r"ends in \.json; expected \"digits\", .*a \.csv file"),
        ("d.npz", "junk", r"is not an \.npz archive"),
    ],
)
def test_init_refuses_data_that_it_cannot_use(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        init_project(tmp_path, data=tmp_path / name)
    assert not (tmp_path / "cu-cert.toml").exists()


def test_init_in_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot be written"):
        init_project(tmp_path / "nowhere")


def test_init_and_the_project_need_no_torch(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from cu_cert.cli.init import command\n"
        "assert not {'torch', 'numpy', 'cu_cert.project'} & set(sys.modules), 'heavy at import time'\n"
        "from cu_cert.project import init_project, load_project\n"
        f"init_project(Path({str(tmp_path)!r})); load_project(Path({str(tmp_path)!r}) / 'cu-cert.toml')\n"
        "assert 'torch' not in sys.modules and 'scipy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
