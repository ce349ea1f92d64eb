"""``.safetensors``: one model in both formats, equal bytes for equal tensors, and every bad file in words."""

import contextlib
import json
import struct
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from small_project import SMALLEST, fix_secrets, predicate_of, write_project
from torch import nn

from cu_cert.cli.main import run
from cu_cert.errors import DataError, EnvironmentProblem
from cu_cert.model_file import (
    file_digest,
    load_into,
    load_state,
    read_sidecar,
    require_format,
    save_model,
    state_digest,
)
from cu_certificates.trust import write_trust

pytest.importorskip("safetensors", reason="safetensors is not installed")

ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
ONES = struct.pack("<2f", 1, 2)


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def packed(header: Any, body: bytes = ONES, *, length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + body


def naive(state: dict[str, torch.Tensor]) -> dict[str, tuple[str, list[int], bytes]]:
    return {
        name: (
            str(tensor.dtype),
            list(tensor.shape),
            tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes(),
        )
        for name, tensor in state.items()
    }


# good files -----------------------------------------------------------------------------------------------------------


def test_both_formats_hold_the_same_model(tmp_path: Path) -> None:
    model = network()
    for name in ("m.pt", "m.safetensors", "M.SAFETENSORS"):
        save_model(tmp_path / name, model)
        state = load_state(tmp_path / name)
        assert state_digest(state) == state_digest(model.state_dict())
        load_into(network(), state, tmp_path / name)
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "M.SAFETENSORS").read_bytes()


def test_equal_tensors_give_equal_bytes_whatever_their_history(tmp_path: Path) -> None:
    model = network()
    save_model(tmp_path / "a.safetensors", model)
    state = dict(reversed([(name, value.clone()) for name, value in model.state_dict().items()]))
    state["0.weight"] = state["0.weight"].t().contiguous().t()  # equal values, other strides
    state["0.bias"] = torch.cat([state["0.bias"], torch.ones(5)])[:3]  # part of a larger storage
    save_model(tmp_path / "b.safetensors", state)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    shared = torch.ones(3)
    save_model(tmp_path / "tied.safetensors", {"a": shared, "b": shared})
    assert set(load_state(tmp_path / "tied.safetensors")) == {"a", "b"}


kinds = st.sampled_from(
    [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.uint8, torch.bool]
)


@given(st.dictionaries(st.text(max_size=8), st.tuples(kinds, st.lists(st.integers(0, 3), max_size=3)), min_size=1))
@settings(max_examples=40)
def test_a_second_reader_finds_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict[str, tuple[torch.dtype, list[int]]]
) -> None:
    path = tmp_path_factory.mktemp("st") / "m.safetensors"
    state = {
        name: (torch.arange(int(torch.tensor(shape).prod())).reshape(shape) % 2).to(kind)
        for name, (kind, shape) in wanted.items()
        if name != "__metadata__"
    } or {"w": torch.ones(1)}
    save_model(path, state)
    assert naive(load_state(path)) == naive(state)
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    for name, tensor in state.items():
        begin, end = header[name]["data_offsets"]
        assert raw[8 + length + begin : 8 + length + end] == naive({name: tensor})[name][2]


def test_a_file_of_another_program_is_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = network()
    save_file(model.state_dict(), tmp_path / "m.safetensors", metadata={"made": "elsewhere", "by": "somebody"})
    assert state_digest(load_state(tmp_path / "m.safetensors")) == state_digest(model.state_dict())


# bad files ------------------------------------------------------------------------------------------------------------

DEEP = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BAD = {
    "nothing": (b"", r"has no safetensors header"),
    "seven bytes": (b"\0" * 7, r"has no safetensors header"),
    "an empty header": (packed(b"", b""), r"has no safetensors header"),
    "a header beyond the end": (packed({"w": ENTRY}, length=10**6), r"states a header of 1000000 bytes; expected at"),
    "a header without end": (packed({"w": ENTRY}, length=2**64 - 1), r"states a header of 18446744073709551615 bytes"),
    "no json": (packed(b"{nope}"), r"header is no good JSON"),
    "not utf-8": (packed(b'{"\xff": 1}'), r"header is no good JSON"),
    "too deep": (packed(DEEP), r"header is no good JSON \(it nests too deep"),
    "a list": (packed([1]), r"header is a list; expected an object"),
    "no tensor": (packed({}, b""), r"holds an empty dictionary; expected a state dict"),
    "metadata alone": (packed({"__metadata__": {"a": "b"}}, b""), r"holds an empty dictionary"),
    "a name twice": (
        packed(b'{"w": %s, "w": %s}' % ((json.dumps(ENTRY).encode(),) * 2)),
        r"no good JSON \('w' stands twice\)",
    ),
    "a key twice": (packed(b'{"w": {"dtype": "F32", "dtype": "I32"}}'), r"'dtype' stands twice"),
    "overlap": (
        packed({"v": ENTRY, "w": ENTRY | {"shape": [1], "data_offsets": [4, 8]}}),
        r"tensors 'v' and 'w' overlap",
    ),
    "the same bytes": (packed({"v": ENTRY, "w": ENTRY}), r"tensors 'v' and 'w' overlap"),
    "a hole": (packed({"w": ENTRY | {"data_offsets": [4, 12]}}, ONES * 2), r"bytes 0 to 4 belong to no tensor"),
    "cut off": (packed({"w": ENTRY}, ONES[:5]), r"ends 3 bytes too early; it was cut off"),
    "more behind": (packed({"w": ENTRY}, ONES + b"xx"), r"holds 2 bytes after the last tensor"),
    "unknown type": (packed({"w": ENTRY | {"dtype": "F4"}}), r"tensor 'w' has type 'F4'; expected one of F64"),
    "another type": (packed({"w": ENTRY | {"dtype": "F64"}}), r"bytes 0 to 8, which does not fit 2 of F64"),
    "another shape": (packed({"w": ENTRY | {"shape": [3]}}), r"bytes 0 to 8, which does not fit 3 of F32"),
    "a huge shape": (packed({"w": ENTRY | {"shape": [2**62, 2**62]}}), r"has a shape that is none"),
    "a negative shape": (packed({"w": ENTRY | {"shape": [-2]}}), r"has a shape that is none"),
    "a broken shape": (packed({"w": ENTRY | {"shape": [2.0]}}), r"has a shape that is none"),
    "backwards": (packed({"w": ENTRY | {"data_offsets": [8, 0]}}), r"takes bytes 8 to 0"),
    "before the start": (packed({"w": ENTRY | {"data_offsets": [-8, 0]}}), r"takes bytes -8 to 0"),
    "one offset": (packed({"w": ENTRY | {"data_offsets": [0]}}), r"is not described by dtype, shape and data_offsets"),
    "a key too many": (packed({"w": ENTRY | {"device": "cuda"}}), r"is not described by dtype"),
    "no entry": (packed({"w": "x"}), r"tensor 'w' is not described by"),
    "a name for a terminal": (packed({"\x1b[2Jw": 1}), r"tensor '\\x1b\[2Jw' is not described"),
    "nan": (packed({"w": ENTRY}, struct.pack("<2f", 1, float("nan"))), r"tensor 'w' has 1 of 2 values NaN or infinite"),
    "three truths": (packed({"w": ENTRY | {"dtype": "BOOL", "data_offsets": [0, 2]}}, b"\1\3"), r"other than 0 and 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_state(tmp_path / "m.safetensors")
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_headers_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(packed(b'{"w": 1}' + b" " * 2**24))
    with pytest.raises(DataError, match=r"states a header of 16777224 bytes; expected at most 16777216"):
        load_state(path)
    monkeypatch.setattr("cu_cert._safetensors._MOST_TENSORS", 2)
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    path.write_bytes(packed(dict.fromkeys("abc", empty), b""))
    with pytest.raises(DataError, match=r"names 3 tensors; expected at most 2"):
        load_state(path)


def test_a_file_under_the_name_of_the_other_format(tmp_path: Path) -> None:
    model = network()
    save_model(tmp_path / "good.pt", model)
    save_model(tmp_path / "good.safetensors", model)
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "good.pt").read_bytes())
    (tmp_path / "a.pt").write_bytes((tmp_path / "good.safetensors").read_bytes())
    torch.save(model.state_dict(), tmp_path / "old.safetensors", _use_new_zipfile_serialization=False)
    for name in ("a.safetensors", "old.safetensors"):
        with pytest.raises(DataError, match=rf"{name}: is a PyTorch file .*rename it so that it ends in \.pt"):
            load_state(tmp_path / name)
    with pytest.raises(DataError, match=r"a\.pt: is a safetensors file .*rename it so that it ends in \.safetensors"):
        load_state(tmp_path / "a.pt")


def test_a_model_of_another_recipe(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    own = network().state_dict()
    for change, message in (
        ({"0.weight": None}, r"1 missing: 0\.weight"),
        ({"extra": torch.ones(1)}, r"1 unexpected: extra\."),
        ({"0.weight": own["0.weight"].double()}, r"of another shape or type: 0\.weight \(3x4 float64 in the file"),
        ({"\x1b[2J": torch.ones(1)}, r"1 unexpected: '\\x1b\[2J'"),
    ):
        save_model(path, {name: value for name, value in (own | change).items() if value is not None})
        with pytest.raises(DataError, match=message):
            load_into(network(), load_state(path), path)


@given(st.binary(min_size=1, max_size=20), st.integers(0, 900))
@settings(max_examples=100)
def test_a_damaged_file_never_gives_another_error(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "m.safetensors"
    save_model(path, network())
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    with contextlib.suppress(DataError):  # any other error would fail the test, and so would a warning
        load_into(network(), load_state(path), path)


def test_types_that_the_format_lacks(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tensor 'w' has type complex128, which safetensors lacks; write a \.pt file"):
        save_model(tmp_path / "m.safetensors", {"w": torch.ones(1, dtype=torch.complex128)})
    assert not list(tmp_path.iterdir())


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    save_model(path, network())
    for name in [name for name in sys.modules if name.split(".")[0] == "safetensors"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    for act in (lambda: load_state(path), lambda: save_model(path, network()), lambda: require_format(path)):
        with pytest.raises(EnvironmentProblem, match=r"pip install 'cu-cert\[safetensors\]'"):
            act()
    require_format(tmp_path / "m.pt")


# through the command line ---------------------------------------------------------------------------------------------


def test_every_verb_takes_both_formats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = write_project(tmp_path / "p", **SMALLEST)
    fix_secrets(project, "safetensors")
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(project)
    for name in ("model.safetensors", "again.safetensors", "model.pt"):
        assert run(["train", "-o", name]) == 0
    assert file_digest(Path("model.safetensors")) == file_digest(Path("again.safetensors"))
    assert state_digest(load_state(Path("model.safetensors"))) == state_digest(load_state(Path("model.pt")))
    request = ["--forget", "ids.txt"]
    assert run(["unlearn", "model.safetensors", *request, "--method", "npo", "-o", "out.safetensors"]) == 0
    assert run(["unlearn", "model.pt", *request, "--method", "npo", "-o", "out.pt"]) == 0
    assert state_digest(load_state(Path("out.safetensors"))) == state_digest(load_state(Path("out.pt")))
    sidecar = read_sidecar(Path("out.safetensors"))
    assert sidecar is not None
    assert sidecar.parent_digest == file_digest(Path("model.safetensors"))
    assert Path("out.safetensors.json").is_file()
    assert run(["audit", "out.safetensors", *request, "--original", "model.safetensors"]) == 0
    subject = predicate_of(project / "audit-out")
    assert "out.safetensors" in json.dumps(subject)
    yesterday = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    write_trust(tmp_path / "trust.toml", next((tmp_path / "config").glob("*.pub.pem")), not_before=yesterday)
    bundle, trust = "audit-out/certificate.sigstore.json", ["--trust", str(tmp_path / "trust.toml")]
    assert run(["verify", bundle, *trust, "--model", "out.safetensors"]) == 0
    assert run(["verify", bundle, *trust, "--model", "out.pt"]) == 4  # the same tensors, another file
    (project / "policy.toml").write_text('schema = 1\n[policy.require]\nverdict = ["NOT_REFUTED"]\n')
    capsys.readouterr()
    gate = ["gate", bundle, *trust, "--policy", "policy.toml", "--model"]
    assert run([*gate, "out.safetensors"]) in (0, 1, 3)
    assert run([*gate, "out.pt"]) == 4


def test_bad_files_end_with_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = write_project(tmp_path / "p", **SMALLEST)
    monkeypatch.chdir(project)
    assert run(["train", "-o", "model.safetensors"]) == 0
    whole = (project / "model.safetensors").read_bytes()
    (project / "cut.safetensors").write_bytes(whole[:-4])
    (project / "model.safetensors").rename(project / "renamed.pt")
    for name, message in (
        ("cut.safetensors", "cut.safetensors: ends 4 bytes too early; it was cut off"),
        ("renamed.pt", "renamed.pt: is a safetensors file under the name of another format"),
        ("none.safetensors", "none.safetensors: does not exist; expected a model file"),
    ):
        command = ["unlearn", name, "--forget", "ids.txt", "--method", "npo", "-o", "new.safetensors"]
        assert message in refused(command, project, capsys)
        assert message.split(":")[0] in refused(["audit", name, "--forget", "ids.txt"], project, capsys)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert "cu-cert[safetensors]" in refused(["train", "-o", "new.safetensors"], project, capsys)
