"""User recipes: adapted to the protocol, reproducible in any process, wrong code told in one line."""

import multiprocessing
import pickle
import random
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cu_cert.data import load_records
from cu_cert.errors import ConfigError
from cu_cert.forget import read_ids, resolve_request
from cu_cert.model_file import state_digest
from cu_cert.project import find_project, load_project
from cu_cert.recipes import Recipe, make_recipe
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream

EXAMPLE = Path(__file__).parent.parent / "examples" / "own_training"
RNG = Stream.from_seed("test")

BODY = """
import random
import numpy as np
import torch
from torch import nn

class R:
    def __init__(self, width=4, rate=0.1):
        self.width, self.rate = width, rate
    def build(self, seed):
        assert 0 <= seed < 2**32
        return nn.Sequential(nn.Linear(2, self.width), nn.Dropout(0.5), nn.Linear(self.width, 3))
    def train(self, model, records, rng):
        assert model.training
        with torch.no_grad():
            model[0].bias += torch.tensor([random.random(), np.random.rand(), rng.random(), torch.rand(1).item()])
"""


def records(count: int = 9) -> Records:
    x = np.arange(2.0 * count).reshape(count, 2) / count
    return make_records([f"r{n}" for n in range(count)], x, [n % 3 for n in range(count)], "abc")


def made(folder: Path, module: str, body: str, options: dict[str, object] | None = None, name: str = ":R") -> Recipe:
    (folder / f"{module}.py").write_text(body)
    return make_recipe(f"python:{module}{name}", options or {}, root=str(folder))


def trained(recipe: Recipe, *names: str | int) -> str:
    return state_digest(recipe.train(records(), rng=RNG.child(*names)).state_dict())


def trained_elsewhere(name: str, options: dict[str, object], root: str) -> tuple[str, str]:
    recipe = make_recipe(name, options, root=root)
    return recipe.digest, trained(recipe, 1)


def test_a_class_is_a_recipe(tmp_path: Path) -> None:
    recipe = made(tmp_path, "u_class", BODY, {"rate": 0.5})
    assert isinstance(recipe, Recipe)
    assert recipe.name == "python:u_class:R"
    assert recipe.parameters == {"rate": "0.5"}
    assert not recipe.build(records(), rng=RNG).training
    model = recipe.train(records(), rng=RNG)
    assert not model.training
    model.train()[1].eval()
    scores = recipe.logits(model, records())
    assert scores.shape == (9, 3)
    assert scores.dtype == torch.float32
    assert not scores.requires_grad
    assert [part.training for part in model] == [True, False, True]  # as it was
    assert torch.equal(scores, recipe.logits(model, records()))  # without dropout
    assert not (tmp_path / "__pycache__").exists()
    assert str(tmp_path) not in sys.path


def test_models_depend_on_their_stream_alone(tmp_path: Path) -> None:
    recipe = made(tmp_path, "u_global", BODY)
    first = trained(recipe, 1)
    for seed in (0, 1):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        assert trained(recipe, 1) == first
    assert trained(recipe, 2) != first


def test_the_global_generators_are_restored(tmp_path: Path) -> None:
    seeding = BODY.replace("assert model.training", "torch.manual_seed(1); np.random.seed(1); random.seed(1)")
    failing = BODY.replace("assert model.training", "1 / 0")
    states = [random.getstate(), str(np.random.get_state()), torch.get_rng_state()]
    trained(made(tmp_path, "u_seeding", seeding))
    with pytest.raises(ConfigError):
        trained(made(tmp_path, "u_failing", failing))
    assert random.getstate() == states[0]
    assert str(np.random.get_state()) == states[1]
    assert torch.equal(torch.get_rng_state(), states[2])  # type: ignore[arg-type]


def test_a_class_is_made_anew_for_each_model(tmp_path: Path) -> None:
    body = BODY.replace("assert model.training", "self.width += 1")
    recipe = made(tmp_path, "u_state", body)
    assert trained(recipe, 1) == trained(recipe, 1)


FUNCTIONS = """
import torch
from torch import nn
def build(seed):
    return nn.Linear(2, 3)
def train(model, records, rng):
    return nn.Linear(2, 3)
"""


@pytest.mark.parametrize(
    ("module", "ending", "name"),
    [
        ("u_module", "", ""),
        ("u_space", "from types import SimpleNamespace\nspace = SimpleNamespace(build=build, train=train)", ":space"),
        (
            "u_nested",
            "class A:\n    class B:\n        build = staticmethod(build)\n        train = staticmethod(train)",
            ":A.B",
        ),
        (
            "u_instance",
            "class A:\n    def build(s, seed): return build(seed)\n    def train(s, *a): return train(*a)\na = A()",
            ":a",
        ),
    ],
)
def test_modules_namespaces_and_instances_are_recipes(tmp_path: Path, module: str, ending: str, name: str) -> None:
    recipe = made(tmp_path, module, FUNCTIONS + ending, name=name)
    assert trained(recipe, 1) == trained(recipe, 1) != trained(recipe, 2)
    assert recipe.logits(recipe.train(records(), rng=RNG), records()).shape == (9, 3)


def test_features_and_logits_of_the_user_are_used(tmp_path: Path) -> None:
    body = FUNCTIONS + "def features(records): return torch.from_numpy(records.x) * 2\n"
    recipe = made(tmp_path, "u_features", body, name="")
    model, x = recipe.build(records(), rng=RNG), torch.from_numpy(records().x)
    assert torch.allclose(recipe.logits(model, records()), model(x * 2))
    assert torch.equal(recipe.features(records()), x * 2)  # type: ignore[attr-defined]
    own = made(
        tmp_path,
        "u_logits",
        FUNCTIONS + "def logits(model, records): return model(torch.ones(9, 2)).double()\n",
        name="",
    )
    assert torch.allclose(own.logits(model, records()), model(torch.ones(9, 2)))
    assert own.logits(model, records()).dtype == torch.float32


# digest ---------------------------------------------------------------------------------------------------------------


def test_the_digest_covers_options_and_all_project_sources(tmp_path: Path) -> None:
    (tmp_path / "pack" / "deep").mkdir(parents=True)
    (tmp_path / "bare").mkdir()
    files = {
        "pack/__init__.py": "",
        "pack/near.py": "from .deep import far\nfrom . import star\n",
        "pack/star.py": "",
        "pack/deep/__init__.py": "from ..other import thing\n",
        "pack/deep/far.py": "",
        "pack/other.py": "thing = 1\n",
        "bare/inside.py": "",
        "u_lazy.py": "",
        "u_unused.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    body = "import json, u_main\nfrom pack import near\nimport bare.inside as b\n" + FUNCTIONS
    body += "def features(records):\n    import u_lazy\n    return torch.from_numpy(records.x)\n"

    def digest(options: dict[str, object] | None = None) -> str:
        return made(
            tmp_path,
            "u_main",
            body + "class R:\n    def __init__(s, **o): pass\n    build = train = lambda *a: 0\n",
            options,
        ).digest

    first = digest()
    assert digest() == first
    seen = {first, digest({"a": 1}), digest({"a": 1.0}), digest({"a": "1"}), digest({"a": "1.0"}), digest({"b": 1})}
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    for name in files:
        (tmp_path / name).write_text(files[name] + "# changed\n")
        seen.add(digest())
        (tmp_path / name).write_text(files[name])
    assert len(seen) == 6 + len(files) - 1  # only the unused file does not count
    (tmp_path / "u_unused.py").write_text("# changed\n")
    assert digest() == first


def test_the_digest_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    digests = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "u_helper.py").write_text("value = 1\n")
        digests.add(made(tmp_path / name, "u_moved", "import u_helper\n" + BODY).digest)
    assert len(digests) == 1


def test_changed_code_is_loaded_and_hashed_again(tmp_path: Path) -> None:
    old = made(tmp_path, "u_edit", BODY)
    before = trained(old, 1)
    new = made(tmp_path, "u_edit", BODY.replace("model[0].bias +=", "model[0].bias -="))
    assert new.digest != old.digest
    assert trained(new, 1) != before
    assert trained(old, 1) == before


def test_two_projects_may_use_the_same_module_names(tmp_path: Path) -> None:
    recipes = []
    for width in (4, 5):
        folder = tmp_path / str(width)
        folder.mkdir()
        (folder / "u_size.py").write_text(f"width = {width}\n")
        body = FUNCTIONS.replace(
            "    return nn.Linear(2, 3)\ndef train",
            "    import u_size\n    return nn.Linear(2, u_size.width)\ndef train",
        )
        recipes.append(made(folder, "u_same", body, name=""))
    sizes = [recipe.build(records(), rng=RNG).weight.shape[0] for recipe in (*recipes, *recipes)]
    assert sizes == [4, 5, 4, 5]


def test_a_spawned_worker_makes_the_same_recipe_and_model(tmp_path: Path) -> None:
    (tmp_path / "u_spawn_helper.py").write_text("")
    recipe = made(tmp_path, "u_spawn", "import u_spawn_helper\n" + BODY, {"rate": 0.5})
    again = pickle.loads(pickle.dumps(recipe))
    assert (again.digest, trained(again, 1)) == (recipe.digest, trained(recipe, 1))
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = pool.submit(trained_elsewhere, recipe.name, {"rate": 0.5}, str(tmp_path)).result()
    assert found == (recipe.digest, trained(recipe, 1))


# wrong code -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "body", "options", "message"),
    [
        ("w_build", "class R:\n    def train(s, m, r, g): pass", {}, r"has no build\(seed\); expected an object"),
        ("w_train", "class R:\n    def build(s, seed): pass", {}, r"has no train\(model, records, rng\); expected"),
        ("w_args", "class R:\n    def build(s): pass\n    def train(s, m, r, g): pass", {},
         r"build\(\) cannot be called as build\(seed\); change its parameters"),
        ("w_argt", "class R:\n    def build(s, seed): pass\n    def train(s, m): pass", {},
         r"train\(m\) cannot be called as train\(model, records, rng\)"),
        ("w_key", BODY, {"widht": 3}, r"\[training\] widht: unknown to python:w_key:R; expected width, rate"),
        ("w_ascii", BODY, {"größe": 3}, r"\[training\] \"größe\": expected a key of letters"),
        ("w_need", BODY.replace("width=4", "width"), {}, r"needs the option width; add a line 'width = \.\.\.' to"),
        ("w_init", BODY.replace("self.width, self.rate =", "raise ValueError('no'); self.width, self.rate ="), {},
         r"making it with the options of \[training\] failed: ValueError: no \(.*w_init\.py:9\)"),
        ("w_inst", FUNCTIONS + "class A: pass\nR = A(); R.build = build; R.train = train", {"width": 3},
         r"\[training\] width: python:w_inst:R is not a class, so it takes no options"),
        ("w_none", "x = 1", {}, r"w_none\.py has no R; expected an object of this name"),
        ("w_help", "import w_broken\n" + BODY, {}, r"importing w_help failed: SyntaxError: .*w_broken\.py, line 1"),
        ("w_lazy", BODY + "\ndef later():\n    import w_broken\n", {}, r"w_broken\.py:1: is not Python"),
    ],
)  # fmt: skip
def test_wrong_recipes(tmp_path: Path, module: str, body: str, options: dict[str, object], message: str) -> None:
    (tmp_path / "w_broken.py").write_text("def (:")
    with pytest.raises(ConfigError, match=message) as caught:
        made(tmp_path, module, body, options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "old", "new", "message"),
    [
        ("x_build", "return nn.Seq", "return 3 #", r"build returned a int; expected a torch\.nn\.Module"),
        ("x_train", "assert model.training", "return 3", r"train returned a int; expected the trained torch"),
        ("x_raise", "assert model.training", "1 / 0", r"train\(.*\) failed: ZeroDivisionError: .*x_raise\.py:14\)"),
        ("x_exit", "assert model.training", "exit(3)", r"train\(model, records, rng\) failed: SystemExit: 3"),
        ("x_shape", "width, 3", "width, 4", r"logits gave shape \(9, 4\); expected a tensor of shape \(9, 3\)"),
        ("x_in", "Linear(2,", "Linear(7,", r"applying the model failed: RuntimeError"),
    ],
)  # fmt: skip
def test_code_that_fails_later(tmp_path: Path, module: str, old: str, new: str, message: str) -> None:
    assert old in BODY
    recipe = made(tmp_path, module, BODY.replace(old, new))
    with pytest.raises(ConfigError, match=message) as caught:
        recipe.logits(recipe.train(records(), rng=RNG), records())
    assert str(caught.value).startswith(f"python:{module}:R: ")


def test_wrong_features_and_logits(tmp_path: Path) -> None:
    recipe = made(tmp_path, "x_logits", FUNCTIONS + "def logits(model, records): return [1]\n", name="")
    with pytest.raises(ConfigError, match=r"logits gave a list; expected a tensor of shape \(9, 3\)"):
        recipe.logits(nn.Linear(2, 3), records())
    recipe = made(tmp_path, "x_feat", FUNCTIONS + "def features(records): return torch.ones(2, 2)\n", name="")
    with pytest.raises(
        ConfigError, match=r"features gave shape \(2, 2\); expected a tensor with one row for each of the 9"
    ):
        recipe.logits(nn.Linear(2, 3), records())


def test_nothing_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="training on 0 records"):
        made(tmp_path, "x_empty", BODY).train(records().select([]), rng=RNG)


def test_a_module_that_python_has_already(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Python already has a module json \(.*\); give .*json\.py another name"):
        made(tmp_path, "json", BODY)


def test_an_installed_recipe_is_hashed_by_its_own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site" / "u_installed").mkdir(parents=True)
    (tmp_path / "site" / "u_installed" / "__init__.py").write_text(
        "from u_installed.code import R\nimport u_neighbour\n"
    )
    (tmp_path / "site" / "u_installed" / "code.py").write_text(BODY)
    (tmp_path / "site" / "u_neighbour.py").write_text("")
    (tmp_path / "project").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "site")
    recipe = make_recipe("python:u_installed:R", {}, root=str(tmp_path / "project"))
    assert [name for name, _ in recipe.found.sources] == ["u_installed/__init__.py", "u_installed/code.py"]  # type: ignore[attr-defined]
    assert trained(recipe, 1)


def test_a_neighbour_named_like_an_installed_module_pushes_nothing_out(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("mine = 1\n")
    before = sys.modules["json"]
    recipe = made(tmp_path, "x_neighbour", "import json\njson.dumps(1)\n" + BODY)
    assert trained(recipe, 1) == trained(recipe, 1)
    assert sys.modules["json"] is before


# the example ----------------------------------------------------------------------------------------------------------


def test_the_example_trains(tmp_path: Path) -> None:
    for name in ("cu-cert.toml", "make_data.py", "train_code.py"):
        shutil.copy(EXAMPLE / name, tmp_path / name)
    subprocess.run([sys.executable, str(tmp_path / "make_data.py")], check=True)
    project = load_project(find_project(tmp_path))
    data = load_records(project.data, project.root)
    request = resolve_request(read_ids(tmp_path / "forget.txt"), data, allow_missing=False)
    assert (len(data.train), len(data.held_out), len(request.ids)) == (320, 80, 20)
    recipe = project.make_recipe()
    assert recipe.parameters == {"width": 64, "epochs": 250, "learning_rate": "0.02"}
    model = recipe.train(data.train, rng=RNG)
    right = (recipe.logits(model, data.held_out).argmax(1).numpy() == data.held_out.y).mean()
    assert right > 0.7


def test_a_wrong_option_of_user_code_names_the_line(tmp_path: Path) -> None:
    (tmp_path / "w_line.py").write_text(BODY)
    (tmp_path / "cu-cert.toml").write_text('schema = 1\n[training]\nrecipe = "python:w_line:R"\nwidht = 3\n')
    with pytest.raises(ConfigError, match=r"cu-cert\.toml:4: \[training\] widht: unknown to python:w_line:R"):
        load_project(tmp_path / "cu-cert.toml").make_recipe()
