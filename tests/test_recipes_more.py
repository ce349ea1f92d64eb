"""``cnn`` and ``adapter``: they serve everything a recipe is used for, and refuse what they cannot take."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from small_cohort import OPTIONS, recipe_of, some_records
from small_project import predicate_of
from torch import nn

from cu_cert.data import load_records
from cu_cert.errors import ConfigError, DataError
from cu_cert.fleet.worker import Workshop
from cu_cert.methods import get
from cu_cert.methods._params import NoParams
from cu_cert.model_file import load_into, load_state, save_model
from cu_cert.probes import names, run_probes
from cu_cert.project import load_project
from cu_cert.recipes import make_recipe
from cu_cert.recipes._images import image_shape
from cu_cert.records import Records, make_records
from cu_cert.rng import Stream

ROOT = Stream.from_seed("recipes")
SHAPES = {"cnn": (6, 6), "adapter": (6,)}
TRAINING = {"cnn": 'recipe = "cnn"\nfilters = [3]\nhidden = [8]', "adapter": 'recipe = "adapter"\nwidths = [16]'}
NEW = tuple(SHAPES)


def near(n: int, shape: tuple[int, ...]) -> Records:
    """Records with features near 1, as data are that were prepared."""
    rng = np.random.default_rng(7)
    y = np.arange(n) % 3
    x = rng.normal(size=(n, int(np.prod(shape)))) + np.eye(3, int(np.prod(shape)))[y]
    return make_records([f"r{row:03d}" for row in range(n)], x.reshape(n, *shape), y, ["a", "b", "c"])


@pytest.mark.parametrize("name", NEW)
@pytest.mark.parametrize("method", ["npo", "finetune", "retrain"])
def test_methods_edit_their_models(name: str, method: str) -> None:
    records, recipe = near(40, SHAPES[name]), recipe_of(name, epochs=3, batch_size=8)
    trained = recipe.train(records, rng=ROOT)
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    found = get(method)
    params = NoParams() if method == "retrain" else found.params({"epochs": 1})
    edited = found.unlearn(
        trained, records.ids[:6], records, recipe=recipe, params=params, rng=ROOT.child("edit")
    ).model
    after = edited.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())
    moved = {key for key, value in after.items() if not torch.equal(value, before[key])}
    frozen = {key for key in after if name == "adapter" and key.startswith("0.")}
    assert moved
    assert not moved & frozen
    assert bool(torch.isfinite(recipe.logits(edited, records)).all())


@pytest.mark.parametrize("name", NEW)
def test_a_model_file_holds_the_whole_model(name: str, tmp_path: Path) -> None:
    records, recipe = near(40, SHAPES[name]), recipe_of(name, epochs=2)
    trained = recipe.train(records, rng=ROOT)
    save_model(tmp_path / "model.pt", trained)
    loaded = recipe.build(records, rng=ROOT.child("other"))
    load_into(loaded, load_state(tmp_path / "model.pt"), tmp_path / "model.pt")
    assert torch.equal(recipe.logits(loaded, records), recipe.logits(trained, records))


@pytest.mark.parametrize("name", NEW)
def test_probes_run_on_them(name: str) -> None:
    records, options = near(60, SHAPES[name]), dict(OPTIONS[name]) | {"epochs": 4}
    recipe, held_out = recipe_of(name, epochs=4), records.ids[::4]
    train = records.without(held_out)
    shop = Workshop(
        recipe_digest=recipe.digest,
        recipe_name=name,
        recipe_options=options,
        root=".",
        train=train,
        held_out=records.select(held_out),
        forget=train.ids[:6],
        store=Path("no-store"),
    )
    original = recipe.train(train, rng=ROOT)
    retrained = [recipe.train(shop.retain, rng=ROOT.child("retrained", k)) for k in range(4)]
    found = run_probes(shop, original, retrained, original=original, rng=ROOT.child("probes"))
    assert len(found) >= len(names())
    assert [result.name for result in found if result.value is None] == []


@pytest.mark.parametrize("name", NEW)
def test_an_audit_asks_both_questions(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cu_cert.cli.main import run

    write_images(tmp_path, SHAPES[name], TRAINING[name])
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    assert run(["train", "-o", "model.pt"]) == 0
    assert run(["audit", "model.pt", "--forget", "ids.txt", "--method", "npo", "--json"]) == 0
    assert run(["unlearn", "model.pt", "--forget", "ids.txt", "--method", "retrain", "-o", "out.pt"]) == 0
    found = predicate_of(tmp_path / "audit-out")
    assert found["verdict"]["value"] in ("REFUTED", "NOT_REFUTED", "INCONCLUSIVE")
    assert {claim["question"] for claim in found["claims"] if "question" in claim} >= {"procedure", "artifact"}


def write_images(folder: Path, shape: tuple[int, ...], training: str) -> None:
    records = near(90, shape)
    np.savez(folder / "data.npz", x=records.x, y=records.y, ids=np.array(records.ids))
    (folder / "cu-cert.toml").write_text(
        f'schema = 1\n[data]\nsource = "data.npz"\n[training]\n{training}\nepochs = 4\nbatch_size = 16\n'
        '[audit]\nslots = 16\nreferences = 41\npilots = 4\ncontrols = 3\ntested_eps = "0"\n'
        'detect_eps = "3"\nworkers = 1\n'
    )
    train = load_records(load_project(folder / "cu-cert.toml").data, folder).train
    (folder / "ids.txt").write_text("\n".join(train.ids[1:20:3]) + "\n")


# Images


def test_shapes_of_images() -> None:
    assert image_shape((64,)) == (1, 8, 8)
    assert image_shape((8, 6)) == (1, 8, 6)
    assert image_shape((3, 8, 6)) == (3, 8, 6)
    assert image_shape((5, 8, 8)) == (5, 8, 8)
    assert image_shape((1, 1, 1)) == (1, 1, 1)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((60,), r"records of shape \(60,\) are no images; expected images \(n, height, width\)"),
        ((), r"records of shape \(\) are no images"),
        ((2, 3, 4, 5), r"records of shape \(2, 3, 4, 5\) are no images"),
        ((8, 6, 3), r"look like images with their channels last; expected channels first: .* \(n, 3, 8, 6\)"),
    ],
)
def test_what_is_no_image_is_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        image_shape(shape)


def test_the_layouts_of_the_same_images_give_the_same_model() -> None:
    flat = near(20, (36,))
    recipe, bits = recipe_of("cnn", epochs=1), []
    for shape in ((36,), (6, 6), (1, 6, 6)):
        records = make_records(flat.ids, flat.x.reshape(20, *shape), flat.y, flat.classes)
        bits.append(list(recipe.train(records, rng=ROOT).state_dict().values()))
    for other in bits[1:]:
        assert all(torch.equal(one, two) for one, two in zip(bits[0], other, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filters": []}, r"filters = \[\]; expected a list of numbers of at least 1"),
        ({"filters": [0]}, r"filters = \[0\]; expected"),
        ({"filters": [True]}, r"filters = \[True\]; expected"),
        ({"kernel": 4}, r"kernel = 4; expected an odd number"),
        ({"pooling": 0}, r"pooling = 0; expected at least 1"),
        ({"hidden": [1.5]}, r"hidden = \[1\.5\]; expected a list of widths"),
        ({"channels": [3]}, r"channels: unknown; expected one of batch_size, .*filters"),
    ],
)
def test_bad_options_of_cnn_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=r"\[training\] " + message):
        make_recipe("cnn", options)


def test_images_that_are_too_small_for_the_stages_are_refused() -> None:
    recipe = recipe_of("cnn", filters=[2, 2, 2])
    with pytest.raises(
        ConfigError, match=r"pooling = 2: images of shape \(6, 6\) are 1 x 1 before stage 3 of 3; expec"
    ):
        recipe.build(near(9, (6, 6)), rng=ROOT)
    assert recipe_of("cnn", filters=[2, 2, 2], pooling=1).build(near(9, (6, 6)), rng=ROOT)


# The backbone


def file_of(folder: Path, **options: Any) -> str:
    """A backbone that was trained as a model of its own, on other records."""
    model = make_recipe("mlp", {"hidden": [10, 7], "epochs": 2}).train(some_records(50, (6,), seed=9), rng=ROOT)
    save_model(folder / "backbone.pt", model)
    return "backbone.pt"


def adapter(folder: Path, **options: Any) -> Any:
    return make_recipe("adapter", {"widths": [10, 7], "rank": 2, "epochs": 2, **options}, root=str(folder))


def test_a_backbone_from_a_file_is_the_model_that_was_saved(tmp_path: Path) -> None:
    name, records = file_of(tmp_path), near(30, (6,))
    recipe = adapter(tmp_path, backbone=name)
    trained = recipe.train(records, rng=ROOT)
    donor = make_recipe("mlp", {"hidden": [10, 7]}).build(records, rng=ROOT)
    load_into(donor, load_state(tmp_path / name), tmp_path / name)
    with torch.no_grad():
        expected = nn.Sequential(*list(donor.children())[:-1])(torch.from_numpy(records.x))
        torch.testing.assert_close(trained[0](torch.from_numpy(records.x)), expected, rtol=1e-6, atol=1e-6)
    assert not any(part.requires_grad for part in trained[0].parameters())
    digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert recipe.parameters["backbone"] == f"sha256:{digest}"


def test_the_digest_of_the_recipe_follows_the_frozen_part_and_not_its_path(tmp_path: Path) -> None:
    name = file_of(tmp_path)
    (tmp_path / "copy.pt").write_bytes((tmp_path / name).read_bytes())
    first = adapter(tmp_path, backbone=name)
    assert adapter(tmp_path, backbone="copy.pt").digest == first.digest
    assert str(tmp_path) not in str(first.parameters)
    state = load_state(tmp_path / name)
    save_model(tmp_path / "copy.pt", {key: value + 1 for key, value in state.items()})
    digests = {first.digest, adapter(tmp_path, backbone="copy.pt").digest}
    digests |= {adapter(tmp_path, backbone_seed=seed).digest for seed in (0, 1)}
    assert len(digests) == 4


def test_all_models_share_a_random_backbone_that_their_seeds_do_not_change(tmp_path: Path) -> None:
    records = near(20, (6,))
    one, two = (adapter(tmp_path).train(records, rng=ROOT.child(name)) for name in ("one", "two"))
    assert all(
        torch.equal(first, second) for first, second in zip(one[0].parameters(), two[0].parameters(), strict=True)
    )
    assert one[0][0].weight.data_ptr() != two[0][0].weight.data_ptr()
    other = adapter(tmp_path, backbone_seed=1).build(records, rng=ROOT)
    assert not torch.equal(other[0][0].weight, one[0][0].weight)
    # Building draws nothing for the backbone, so the first model of a process starts as every other.
    first, second = (adapter(tmp_path).build(records, rng=ROOT)[2].down.weight for _ in range(2))
    assert torch.equal(first, second)


def test_an_adapter_starts_as_the_linear_model(tmp_path: Path) -> None:
    records = near(20, (6,))
    model = adapter(tmp_path).build(records, rng=ROOT)
    h = torch.randn(5, 7)
    assert torch.equal(model[2](h), h)
    model[2].up.weight.data.normal_()
    a, b = model[2].down.weight, model[2].up.weight
    torch.testing.assert_close(model[2](h), h + (b @ (a @ h.T)).T)


def test_features_are_computed_once_for_the_same_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, records, calls = adapter(tmp_path), near(20, (6,)), []

    def counted(found: Records) -> torch.Tensor:
        calls.append(found)
        return torch.from_numpy(found.x)

    monkeypatch.setattr("cu_cert.recipes._backbone.flat", counted)
    again = make_records(records.ids, records.x, records.y, records.classes)
    assert torch.equal(recipe.inputs(records), recipe.inputs(again))
    assert len(calls) == 1
    for seed in range(5):
        recipe.inputs(some_records(20, (6,), seed=seed))
    recipe.inputs(records)
    assert len(calls) == 7  # a few sets are kept, the rest let go


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rank": 0}, ConfigError, r"\[training\] rank = 0; expected at least 1"),
        ({"scale": 0}, ConfigError, r"\[training\] scale = 0\.0; expected above 0"),
        ({"scale": float("inf")}, ConfigError, r"\[training\] scale = inf; expected above 0"),
        ({"widths": []}, ConfigError, r"\[training\] widths = \[\]; expected a list of widths"),
        ({"backbone_seed": -1}, ConfigError, r"\[training\] backbone_seed = -1; expected at least 0"),
        ({"backbone": "b.onnx"}, ConfigError, r"\[training\] backbone = 'b\.onnx'; expected a path that ends in \.pt"),
        ({"backbone": "none.pt"}, DataError, r"none\.pt: does not exist; expected a model file"),
        ({"backbone": "junk.pt"}, DataError, r"junk\.pt: is not a PyTorch model file, or is damaged"),
        (
            {"backbone": "file", "widths": [10, 8]},
            ConfigError,
            r"has 3\.weight \(7, 10\) and bias \(7,\); expected \(8, 10",
        ),
        ({"backbone": "file", "widths": [10, 7, 3, 3]}, ConfigError, r"has 3 layers; expected at least 4 dense layers"),
    ],
)
def test_bad_options_of_adapter_are_refused(
    options: dict[str, object], error: type[Exception], message: str, tmp_path: Path
) -> None:
    (tmp_path / "junk.pt").write_bytes(b"junk")
    given = dict(options)
    if given.get("backbone") == "file":
        given["backbone"] = file_of(tmp_path)
    with pytest.raises(error, match=message):
        adapter(tmp_path, **given).build(near(9, (6,)), rng=ROOT)


def test_a_backbone_for_other_features_is_refused(tmp_path: Path) -> None:
    recipe = adapter(tmp_path, backbone=file_of(tmp_path))
    with pytest.raises(ConfigError, match=r"has 0\.scale \(6,\); expected mean and scale of 5 features"):
        recipe.build(near(9, (5,)), rng=ROOT)


def halves(n: int) -> list[npt.NDArray[np.int64]]:
    return [np.sort(np.random.default_rng(seed).permutation(n)[: n // 2]) for seed in range(2)]


def test_they_learn() -> None:
    y = np.arange(120) % 2
    x = np.random.default_rng(0).normal(size=(120, 6, 6)) * 0.5
    x[y == 1, 1:4, 1:4] += 1
    records = make_records([f"r{row:03d}" for row in range(120)], x, y, ["a", "b"])
    for name in NEW:
        recipe = recipe_of(name, epochs=10, batch_size=8, learning_rate=0.05)
        for own, model in zip(
            halves(120), recipe.train_cohort(records, halves(120), rngs=[ROOT, ROOT.child("two")]), strict=True
        ):
            right = recipe.logits(model, records).argmax(dim=1).numpy() == y
            assert right[np.setdiff1d(np.arange(120), own)].mean() > 0.8
