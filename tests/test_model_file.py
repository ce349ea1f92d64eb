"""Model files: no code runs, bytes are reproducible, every bad file is refused in words."""

import hashlib
import json
import pickle
import struct
import warnings
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cu_cert.errors import DataError, EnvironmentProblem
from cu_cert.model_file import (
    Sidecar,
    file_digest,
    load_into,
    load_state,
    read_sidecar,
    save_model,
    sidecar_path,
    state_digest,
    write_sidecar,
)

SAVE = r'torch\.save\(model\.state_dict\(\), "model\.pt"\)'


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def test_a_model_comes_back(tmp_path: Path) -> None:
    model = network()
    save_model(tmp_path / "model.pt", model)
    state = load_state(tmp_path / "model.pt")
    other = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    load_into(other, state, tmp_path / "model.pt")
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in other.state_dict().items())
    assert state_digest(other.state_dict()) == state_digest(state)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


def test_equal_tensors_give_equal_bytes_whatever_the_name_and_history(tmp_path: Path) -> None:
    model = network()
    save_model(tmp_path / "a.pt", model)
    save_model(tmp_path / "longer-name.pt", load_state(tmp_path / "a.pt"))
    reordered = OrderedDict(reversed([(name, value.clone()) for name, value in model.state_dict().items()]))
    reordered["0.weight"] = reordered["0.weight"].t().contiguous().t()  # equal values, other strides
    reordered["0.bias"] = torch.cat([reordered["0.bias"], torch.ones(5)])[:3]  # part of a larger storage
    save_model(tmp_path / "c.pt", reordered)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "longer-name.pt").read_bytes()
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "c.pt").read_bytes()
    assert file_digest(tmp_path / "a.pt") == file_digest(tmp_path / "c.pt")
    with torch.no_grad():
        model[0].weight[0, 0] += 1
    save_model(tmp_path / "d.pt", model)
    assert file_digest(tmp_path / "a.pt") != file_digest(tmp_path / "d.pt")


def test_the_digest_of_tensors_sees_name_type_shape_and_bits() -> None:
    base = {"w": torch.zeros(2, 3)}
    digests = {
        state_digest(state)
        for state in (
            base,
            {"v": torch.zeros(2, 3)},
            {"w": torch.zeros(3, 2)},
            {"w": torch.zeros(2, 3, dtype=torch.int32)},
            {"w": -torch.zeros(2, 3)},
            {"w": torch.zeros(2, 3), "v": torch.zeros(0)},
        )
    }
    assert len(digests) == 6
    assert state_digest(dict(reversed([("a", torch.ones(1)), ("b", torch.ones(()))]))) == state_digest(
        {"a": torch.ones(1), "b": torch.ones(())}
    )
    # A second computation: no later version may give another digest for equal tensors.
    raw = struct.pack("<3f", 0.0, 1.0, 2.0)
    head = b'["w", "torch.float32", [3]]'
    expected = hashlib.sha256(b"cu-cert/tensors/v1\0" + len(head).to_bytes(8, "big") + head + raw).hexdigest()
    assert state_digest({"w": torch.arange(3.0)}) == expected
    assert (
        len(state_digest({"h": torch.ones(2, dtype=torch.bfloat16), "c": torch.ones(1, dtype=torch.complex64)})) == 64
    )


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_plain_and_wrapped_states_are_read(tmp_path: Path, wrap: object) -> None:
    model = network()
    torch.save(wrap(model.state_dict()), tmp_path / "m.pt")  # type: ignore[operator]
    assert state_digest(load_state(tmp_path / "m.pt")) == state_digest(model.state_dict())


class Ran(Exception):
    pass


class Code:
    def __reduce__(self) -> tuple[object, ...]:
        return (raise_ran, ())


def raise_ran() -> None:
    raise Ran


def test_files_with_code_are_refused_without_running_it(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1), "c": Code()}, tmp_path / "code.pt")
    with pytest.raises(Ran):  # the file does run code where it is allowed to
        torch.load(tmp_path / "code.pt", weights_only=False)
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"c": Code()}))
    torch.save(network(), tmp_path / "module.pt")
    reasons = {"code.pt": r"\w+\.raise_ran", "pickle.pt": "Unsupported", "module.pt": r"torch\.nn\.\S+Sequential"}
    for name, reason in reasons.items():
        with pytest.raises(
            DataError, match=rf"{name}: holds Python objects beside tensors \({reason}.*{SAVE}"
        ) as caught:
            load_state(tmp_path / name)
        assert "weights_only=False" not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"holds an empty dictionary; expected a state dict"),
        ({"state_dict": {}}, r"holds an empty dictionary"),
        ([torch.ones(1)], r"holds a list; expected a state dict"),
        (torch.ones(1), r"holds a Tensor; expected a state dict"),
        ({"w": torch.ones(1), "lr": 0.1}, r"entry 'lr' is a float; expected tensors by name"),
        ({"model": {"w": torch.ones(1)}}, r"entry 'model' is a dict"),
        ({3: torch.ones(1)}, r"entry 3 is a Tensor; expected tensors by name"),
        ({"w": torch.tensor([1.0, float("nan"), float("inf")])}, r"tensor 'w' has 2 of 3 values NaN or infinite"),
        ({"w": torch.tensor([float("nan")]).to(torch.float8_e4m3fn)}, r"tensor 'w' has 1 of 1 values NaN"),
        ({"w": torch.eye(3).to_sparse()}, r"tensor 'w' is torch\.sparse_coo, .*expected a dense tensor"),
        ({"w": torch.empty(2, device="meta")}, r"tensor 'w' is .* on meta; expected a dense tensor"),
    ],
)
def test_files_with_something_else(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "m.pt")
    with pytest.raises(DataError, match=rf"m\.pt: {message}"):
        load_state(tmp_path / "m.pt")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for read in (load_state, file_digest):
        with pytest.raises(DataError, match=r"no\.pt: does not exist; expected a model file"):
            read(tmp_path / "no.pt")
        with pytest.raises(DataError, match=r"is a folder; expected a model file"):
            read(tmp_path)
    save_model(tmp_path / "m.pt", network())
    whole = (tmp_path / "m.pt").read_bytes()
    for damaged in (b"", b"junk", whole[:-200], whole[200:]):
        (tmp_path / "d.pt").write_bytes(damaged)
        with pytest.raises(
            DataError, match=r"d\.pt: (is not a PyTorch model file, or is damaged|holds Python objects)"
        ):
            load_state(tmp_path / "d.pt")


@given(st.integers(0, 2500), st.binary(min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_never_gives_another_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, noise: bytes
) -> None:
    path = tmp_path_factory.mktemp("m") / "m.pt"
    save_model(path, network())
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            state = load_state(path)
        except DataError:
            return
    assert all(isinstance(value, torch.Tensor) for value in state.values())


def test_a_state_that_does_not_fit_is_listed(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "m.pt"
    before = state_digest(model.state_dict())
    state = dict(model.state_dict())
    state["extra"] = torch.ones(1)
    state["0.weight"] = torch.ones(4, 3)
    state["2.bias"] = state["2.bias"].double()
    del state["2.weight"]
    with pytest.raises(
        DataError,
        match=r"m\.pt: does not fit the recipe .*1 missing: 2\.weight; 1 unexpected: extra; "
        r"2 of another shape or type: 0\.weight \(4x3 float32 in the file, 3x4 float32 in the recipe\), 2\.bias",
    ):
        load_into(model, state, path)
    assert state_digest(model.state_dict()) == before
    many = {f"w{n}": torch.ones(1) for n in range(9)}
    with pytest.raises(DataError, match=r"9 unexpected: w0, w1, w2, \.\.\.\. Is it for another recipe\?"):
        load_into(model, model.state_dict() | many, path)
    parallel = {f"module.{name}": value for name, value in model.state_dict().items()}
    with pytest.raises(DataError, match=r"Save model\.module\.state_dict\(\)"):
        load_into(model, parallel, path)


def test_state_that_is_no_tensor_cannot_be_saved(tmp_path: Path) -> None:
    class Odd(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"steps": 3}

    with pytest.raises(DataError, match=r"state '_extra_state' is a dict; expected tensors only"):
        save_model(tmp_path / "m.pt", Odd(1, 1))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"cannot be written"):
        save_model(tmp_path / "no" / "m.pt", network())


# sidecar --------------------------------------------------------------------------------------------------------------


def test_a_sidecar_comes_back(tmp_path: Path) -> None:
    model = tmp_path / "model.pt"
    assert read_sidecar(model) is None
    sidecar = Sidecar(
        recipe_digest="ab", method="npo", parameters={"beta": "0.1", "epochs": 3}, parent_digest="cd", seed=4
    )
    assert write_sidecar(model, sidecar) == tmp_path / "model.pt.json" == sidecar_path(model)
    assert read_sidecar(model) == sidecar
    assert "never evidence" in (tmp_path / "model.pt.json").read_text()
    write_sidecar(model, Sidecar())
    assert read_sidecar(model) == Sidecar()


def test_a_sidecar_of_a_later_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.pt.json").write_text(json.dumps({"schema": 7, "method": "npo", "new": [1]}))
    assert read_sidecar(tmp_path / "m.pt") == Sidecar(method="npo")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"m\.pt\.json: is not the JSON that cu-cert writes"),
        (b"\xff", r"m\.pt\.json: is not the JSON"),
        (b"[" * 100_000, r"m\.pt\.json: is not the JSON"),
        (b" " * (1 << 21), r"is not the JSON that cu-cert writes \(2097152 bytes\)"),
        (b"[]", r"m\.pt\.json: holds a list; expected an object"),
        (b'{"method": 3}', r"m\.pt\.json: method is a int; expected a str or null; mend it, or delete it"),
        (b'{"seed": true}', r"seed is a bool; expected a int"),
        (b'{"parameters": []}', r"parameters is a list; expected a dict"),
    ],
)
def test_a_malformed_sidecar_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "m.pt.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_sidecar(tmp_path / "m.pt")
