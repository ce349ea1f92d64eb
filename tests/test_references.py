"""The procedure question's variants: what unlearned models are compared with, and where they start from."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_fleet import workshop
from small_project import SMALLEST, fix_secrets, predicate_of, store_of, write_project

from cu_cert.cli.main import run
from cu_cert.errors import ConfigError, MethodError
from cu_cert.methods import get
from cu_cert.recipes import make_recipe
from cu_cert.rng import Stream
from cu_certificates.check.strict import parse


def audited(folder: Path, monkeypatch: pytest.MonkeyPatch, method: str, more: str) -> dict[str, Any]:
    """Audit a model by the procedure question alone; returns the certificate."""
    settings = 'questions = ["procedure"]\n' + more
    project = write_project(folder, **SMALLEST | {"more": f"{SMALLEST['more']}\n{settings}"})
    fix_secrets(project, "references")
    monkeypatch.chdir(project)
    assert run(["train", "-o", "model.pt"]) == 0
    assert run(["unlearn", "model.pt", "--forget", "ids.txt", "--method", method, "-o", "out.pt"]) == 0
    assert run(["audit", "out.pt", "--forget", "ids.txt", "--method", method, "--json"]) == 0
    assert run(["check", "audit-out/certificate.sigstore.json"]) == 0
    return predicate_of(project / "audit-out")


def slots(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "audit-out" / "evidence" / "slots.jsonl").read_bytes().splitlines()
    rows = [parse(line) for line in lines]
    return [row for row in rows if isinstance(row, dict) and row["kind"] == "run"]


def test_the_method_with_nothing_to_forget_follows_each_retrain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audited(tmp_path, monkeypatch, "finetune", 'reference = "retrain+noop"')
    retrained = {row["model"] for row in slots(tmp_path) if (row["group"], row["role"]) == ("main", "retrained")}
    plain = {row["model"] for row in slots(tmp_path) if row["group"] == "negative" and row["role"] == "retrained"}
    # The negative control compares plain retrains with plain retrains, so it shares no model with the main run.
    assert retrained
    assert plain
    assert not retrained & plain
    # Each of them is a retrain that was then finetuned: its parent stands in the store, too.
    stored = {json.loads(path.read_bytes())["model"] for path in store_of(tmp_path).glob("??/*.json")}
    assert retrained <= stored


def test_one_original_for_all_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = audited(tmp_path, monkeypatch, "identity", 'original = "fixed"')
    originals = [row for row in slots(tmp_path) if row["role"] == "original"]
    unlearned = [row for row in slots(tmp_path) if row["role"] == "unlearned"]
    assert len(originals) == 1
    assert len(unlearned) > 1
    assert {row["model"] for row in unlearned} == {originals[0]["model"]}
    bounds = [claim for claim in found["claims"] if claim["type"] == "eps-coinflip"]
    assert float(bounds[0]["bound"]) > 0  # the original is easily told from retrains ...
    assert found["verdict"]["value"] == "INCONCLUSIVE"  # type: ignore[index]  # ... but that tests another law
    assert "one original" in found["verdict"]["reasons"][0]


@pytest.mark.parametrize("key", ["reference", "original", "direction"])
def test_a_variant_that_does_not_exist(key: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf'cu-cert.toml:16: \[audit\] {key} = "other"; expected "'):
        write_project(tmp_path, more=f'{key} = "other"')


@pytest.mark.parametrize("name", ["npo", "finetune", "retrain", "identity"])
def test_every_method_takes_an_empty_request_when_asked(name: str, tmp_path: Path) -> None:
    records = workshop(tmp_path).train
    recipe = make_recipe("logistic", {"epochs": 2})
    model = recipe.train(records, rng=Stream.from_seed("empty"))
    method = get(name)
    call: dict[str, Any] = {"recipe": recipe, "params": method.params({}), "rng": Stream.from_seed("run")}
    with pytest.raises(MethodError, match="names 0 records"):
        method.unlearn(model, (), records, **call)
    done = method.unlearn(model, (), records, allow_empty=True, **call)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in done.model.state_dict().values())
