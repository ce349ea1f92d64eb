"""The recipe ``transformer``: same bits, nothing that asks a server, masks, methods, audits, drills and bad inputs."""

import copy
import importlib.metadata
import json
import os
import subprocess
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import TRAIN, refused
from small_project import SMALLEST, environment, fix_secrets, predicate_of, write_project

from cu_cert.cli.main import run
from cu_cert.data import DataConfig, load_records
from cu_cert.errors import ConfigError, EnvironmentProblem
from cu_cert.fleet.engine import cohort_size
from cu_cert.fleet.environment import single_threaded
from cu_cert.methods import get
from cu_cert.model_file import load_into, load_state, save_model, state_digest
from cu_cert.recipes import Recipe, make_recipe
from cu_cert.recipes.transformer import TextClassifier, TransformerParams, TransformerRecipe
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream

# Found, not imported: one test watches how the recipe imports it.
pytestmark = pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")

OPTIONS: dict[str, object] = {"layers": 1, "width": 16, "feed_forward": 16, "text_buckets": 50, "epochs": 3}
SEED = Stream.from_seed("transformer")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    single_threaded()


def recipe(**options: object) -> TransformerRecipe:
    found = make_recipe("transformer", OPTIONS | options)
    assert isinstance(found, TransformerRecipe)
    return found


def records(count: int = 60, length: int = 8) -> Records:
    """Return texts in which the first class says 1 and the second says 2; they are of several lengths."""
    rng = np.random.default_rng(5)
    x = rng.integers(3, 51, size=(count, length))
    y = np.arange(count) % 2
    x[np.arange(count), rng.integers(0, 3, size=count)] = 1 + y
    x *= np.arange(length) < rng.integers(3, length + 1, size=count)[:, None]
    return make_records([f"t{n:03d}" for n in range(count)], x, y, ["no", "yes"])


# bits -----------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits_here_and_in_another_process(tmp_path: Path) -> None:
    first = recipe(dropout=0.1).train(records(), rng=SEED)
    torch.rand(7)  # what else is drawn in this process means nothing
    second = recipe(dropout=0.1).train(records(), rng=SEED)
    assert state_digest(first.state_dict()) == state_digest(second.state_dict())
    other = recipe(dropout=0.1).train(records(), rng=Stream.from_seed("another"))
    assert state_digest(first.state_dict()) != state_digest(other.state_dict())
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_recipe_transformer import *\n"
        "single_threaded(); model = recipe(dropout=0.1).train(records(), rng=SEED)\n"
        "print(state_digest(model.state_dict()))"
    )
    tests = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, tests], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == state_digest(first.state_dict())
    assert done.stderr == ""


def test_training_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    recipe(dropout=0.5).train(records(20), rng=SEED)
    assert torch.equal(torch.rand(3), expected)


def test_the_order_of_records_means_nothing_and_removal_moves_no_other() -> None:
    whole = records()
    turned = make_records(whole.ids[::-1], whole.x[::-1], whole.y[::-1], whole.classes)
    first, second = (recipe().train(found, rng=SEED) for found in (whole, turned))
    assert state_digest(first.state_dict()) == state_digest(second.state_dict())
    less = whole.without([whole.ids[7]])
    order = [whole.ids[row] for row in SEED.child("order", 0).arrange(whole.marks)]
    assert [less.ids[row] for row in SEED.child("order", 0).arrange(less.marks)] == [
        name for name in order if name != whole.ids[7]
    ]


def test_each_option_that_shapes_the_model_is_in_the_digest_and_so_is_the_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = {recipe(**change).digest for change in ({}, {"layers": 2}, {"learning_rate": 0.01}, {"dropout": 0.1})}
    assert len(found) == 4
    assert recipe().parameters["transformers"] == importlib.metadata.version("transformers")
    json.dumps(dict(recipe().parameters))
    monkeypatch.setattr("importlib.metadata.version", lambda _: "6.0.0")
    assert recipe().digest not in found


# the model ------------------------------------------------------------------------------------------------------------


def test_it_learns_and_is_a_recipe() -> None:
    assert isinstance(recipe(), Recipe)
    assert cohort_size(recipe(), "auto") == 1
    with pytest.raises(ConfigError, match="trains one model at a time"):
        cohort_size(recipe(), "vectorised")
    model = recipe(epochs=20, learning_rate=0.005).train(records(), rng=SEED)
    assert not model.training
    assert all(not module.training for module in model.modules())
    scores = recipe().logits(model, records())
    assert scores.dtype == torch.float32
    assert scores.shape == (60, 2)
    assert (scores.argmax(dim=1).numpy() == records().y).mean() > 0.9


def test_fillers_say_nothing() -> None:
    model = recipe().build(records(), rng=SEED)
    assert isinstance(model, TextClassifier)
    x = torch.tensor([[5.0, 9.0, 0.0, 0.0], [5.0, 9.0, 7.0, 0.0], [0.0] * 4])
    whole = model(x)
    assert torch.isfinite(whole).all()
    # A second way to leave the fillers out: never to have them.
    assert torch.allclose(model(x[:1, :2]), whole[:1], atol=1e-6)
    assert torch.allclose(model(x[1:2, :3]), whole[1:2], atol=1e-6)
    with torch.no_grad():
        words = model.encoder.get_input_embeddings().weight  # type: ignore[operator]
        assert not words[0].any()
        words[0] = 3.0
    assert torch.allclose(model(x[:2]), whole[:2], atol=1e-6)


def test_the_first_weights_are_those_of_bert_and_come_from_the_seed_alone() -> None:
    wide = recipe(width=64, text_buckets=4096)
    model = wide.build(records(), rng=SEED)
    spread = float(model.state_dict()["encoder.embeddings.word_embeddings.weight"].std())
    assert spread == pytest.approx(0.02, rel=0.02)
    assert state_digest(model.state_dict()) == state_digest(wide.build(records(4), rng=SEED).state_dict())


def test_a_model_file_brings_it_back(tmp_path: Path) -> None:
    model = recipe().train(records(), rng=SEED)
    for name in ("m.pt", "m.safetensors"):
        if name.endswith(".safetensors"):
            pytest.importorskip("safetensors", reason="safetensors is not installed")
        save_model(tmp_path / name, model)
        other = recipe().build(records(), rng=Stream.from_seed("load"))
        load_into(other, load_state(tmp_path / name), tmp_path / name)
        assert torch.equal(recipe().logits(other.eval(), records()), recipe().logits(model, records()))
        assert state_digest(other.state_dict()) == state_digest(model.state_dict())
    assert torch.equal(recipe().logits(copy.deepcopy(model), records()), recipe().logits(model, records()))


def test_scores_of_many_records_do_not_depend_on_how_they_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    model = recipe().build(records(), rng=SEED)
    whole = recipe().logits(model, records())
    monkeypatch.setattr("cu_cert.recipes.transformer._ROWS", 7)
    assert torch.allclose(recipe().logits(model, records()), whole, atol=1e-6)


@pytest.mark.parametrize("name", ["npo", "finetune", "retrain"])
def test_methods_work_on_it(name: str) -> None:
    data = records()
    model = recipe().train(data, rng=SEED)
    before = state_digest(model.state_dict())
    method = get(name)
    options = {} if name == "retrain" else {"epochs": 2}
    done = method.unlearn(model, data.ids[:5], data, recipe=recipe(), params=method.params(options), rng=SEED)
    assert state_digest(model.state_dict()) == before
    assert state_digest(done.model.state_dict()) != before


# surroundings ---------------------------------------------------------------------------------------------------------


def test_nothing_is_said_nothing_is_fetched_and_nothing_is_written(tmp_path: Path) -> None:
    code = """
import socket, sys, warnings
warnings.simplefilter("error")
def refuse(*_): raise AssertionError("the network was asked")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
sys.path.insert(0, sys.argv[1])
import cu_cert.recipes.transformer
from cu_cert.recipes import make_recipe
made = make_recipe("transformer", {})
made.digest, made.parameters
assert "transformers" not in sys.modules, "imported before it is used"
from test_recipe_transformer import recipe, records, SEED
recipe().train(records(20), rng=SEED)
import huggingface_hub
assert huggingface_hub.constants.HF_HUB_OFFLINE
"""
    home = tmp_path / "home"
    home.mkdir()
    own = {"HOME": str(home), "HF_HUB_OFFLINE": "0", "HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home / "c")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent)],
        env=environment(tmp_path) | own,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_other_recipes_never_import_it(tmp_path: Path) -> None:
    code = (
        "import sys; import cu_cert.recipes as r; r.names(); r.make_recipe('mlp', {}).digest\n"
        "import cu_cert.fleet.environment as e; e.fingerprint_digest(); print('transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", absent)
    with pytest.raises(EnvironmentProblem, match=r"pip install 'cu-cert\[transformers\]'"):
        recipe()
    for version in ("4.57.1", "unknown"):
        monkeypatch.setattr("importlib.metadata.version", lambda _, found=version: found)
        with pytest.raises(EnvironmentProblem, match=rf"transformers {version} is installed; expected 5 or later"):
            recipe()


# bad inputs -----------------------------------------------------------------------------------------------------------

WRONG = {
    "layers": (0, "expected 1 to 24"),
    "width": (4096, "expected 1 to 2048"),
    "heads": (3, "expected a number that divides width = 16"),
    "feed_forward": (0, "expected 1 to 8192"),
    "dropout": (1.0, r"expected in \[0, 1\)"),
    "text_buckets": (2**21, "expected 2 to 1048576"),
    "epochs": (0, "expected at least 1"),
    "batch_size": (0, "expected at least 1"),
    "learning_rate": (float("nan"), "expected above 0"),
    "weight_decay": (-1.0, "expected at least 0"),
    "hidden": ([4], "unknown; expected one of batch_size, dropout"),
    "standardize": (True, "unknown"),
}


@pytest.mark.parametrize("key", WRONG)
def test_wrong_options(key: str) -> None:
    value, message = WRONG[key]
    with pytest.raises(ConfigError, match=rf"\[training\] {key}.*{message}"):
        recipe(**{key: value})


def test_records_that_are_no_tokens() -> None:
    ids, y = ["a", "b"], [0, 1]
    for x in ([[0.5, 1], [1, 2]], [[-1, 1], [1, 2]]):
        with pytest.raises(ConfigError, match=r'no token numbers; expected \[data\] text = "tokens"'):
            recipe().train(make_records(ids, x, y, "np"), rng=SEED)
    with pytest.raises(ConfigError, match=r"records of shape \(2, 2\)"):
        recipe().build(make_records(ids, np.zeros((2, 2, 2)), y, "np"), rng=SEED)
    with pytest.raises(ConfigError, match=r"\[training\] text_buckets = 50: the records hold token number 51"):
        recipe().train(make_records(ids, [[51, 1], [1, 2]], y, "np"), rng=SEED)
    with pytest.raises(ConfigError, match="training on 0 records"):
        recipe().train(records().select([]), rng=SEED)


# through the command line ---------------------------------------------------------------------------------------------

TRAINING = 'recipe = "transformer"\nlayers = 1\nwidth = 16\nfeed_forward = 16\ntext_buckets = 50\nepochs = 2'


def project_of_texts(folder: Path, training: str = TRAINING) -> Path:
    """Write a project of 90 short texts; two words tell the classes apart."""
    write_project(folder, **(SMALLEST | {"training": training, "forget": 8}))
    rng = np.random.default_rng(8)
    with (folder / "data.jsonl").open("w") as file:
        for row in range(150):
            words = [f"w{number}" for number in rng.integers(0, 40, size=int(rng.integers(2, 7)))]
            label = row % 3
            text = " ".join(["fine" if label == 1 else "poor" if label == 2 else "so", *words])
            file.write(json.dumps({"id": f"person-{row:03d}@example", "label": label, "text": text}) + "\n")
    lines = 'id_column = "id"\nlabel_column = "label"\ntext_column = "text"\ntext = "tokens"\ntext_buckets = 50'
    path = folder / "cu-cert.toml"
    path.write_text(path.read_text().replace('source = "data.npz"', f'source = "data.jsonl"\n{lines}\ntext_length = 8'))
    return folder


def test_audit_probes_and_drill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = project_of_texts(tmp_path / "p")
    fix_secrets(project, "transformer")
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(project)
    assert run(["train", "-o", "model.pt"]) == 0
    request = ["--forget", "ids.txt"]
    assert run(["unlearn", "model.pt", *request, "--method", "npo", "-o", "out.pt"]) == 0
    capsys.readouterr()
    assert run(["audit", "out.pt", *request, "--original", "model.pt", "--json"]) == 0
    found = json.dumps(predicate_of(project / "audit-out"))
    assert "neighbours-retained" in found
    assert "all features are whole numbers" in found  # half a token is no token
    assert f'"transformers": "{importlib.metadata.version("transformers")}"' in found
    small = ["--candidates", "30", "--references", "4"]
    assert run(["drill", "--method", "npo", *small]) == 0


def test_train_names_what_is_wrong_and_ends_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = project_of_texts(tmp_path / "p", TRAINING.replace("width = 16", "width = 15"))
    monkeypatch.chdir(project)
    message = refused(TRAIN, project, capsys)
    assert "cu-cert.toml" in message
    assert "[training] heads = 2; expected a number that divides width = 15" in message
    path = project / "cu-cert.toml"
    good = path.read_text().replace("width = 15", "width = 16")
    path.write_text(good.replace('text = "tokens"\n', "").replace("text_length = 8\n", ""))
    assert 'the records are no token numbers; expected [data] text = "tokens"' in refused(TRAIN, project, capsys)
    path.write_text(good.replace("text_buckets = 50\nepochs", "text_buckets = 10\nepochs"))
    assert "[training] text_buckets = 10: the records hold token number" in refused(TRAIN, project, capsys)


# real data ------------------------------------------------------------------------------------------------------------


def test_reviews_are_told_apart(data_folder: Path, tmp_path: Path) -> None:
    source = data_folder / "imdb4k" / "train.jsonl.gz"
    if not source.is_file():
        pytest.skip("CU_CERT_DATA holds no imdb4k/train.jsonl.gz")
    config = DataConfig(
        source=str(source), id_column="id", label_column="label", text_column="text", text="tokens", text_length=32
    )
    data = load_records(config, tmp_path)
    made = make_recipe("transformer", {"epochs": 2})
    model = made.train(data.train, rng=SEED)
    right = made.logits(model, data.held_out).argmax(dim=1).numpy() == data.held_out.y
    assert right.mean() > 0.55  # 800 reviews: three deviations above a coin
    assert os.environ["HF_HUB_OFFLINE"] == "1"


def test_the_page_states_the_defaults() -> None:
    page = (Path(__file__).parent.parent / "docs" / "text.md").read_text(encoding="utf-8")
    own = TransformerParams()
    table = page.partition("| `[training]` | default | |")[2].partition("\n\n")[0]
    stated: dict[str, str] = {}
    for line in table.splitlines()[2:]:
        keys, values = (cell.strip() for cell in line.split("|")[1:3])
        stated |= dict(zip(keys.replace("`", "").split(", "), values.split(", "), strict=True))
    assert stated == {key: str(value) for key, value in asdict(own).items()}
