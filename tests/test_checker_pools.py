"""The checker on two pools without coins: every number is derived again, and nobody chooses which half is counted."""

from collections.abc import Callable
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from test_outside import World, pin_coins, pools

from cu_cert.cli.main import run
from cu_certificates.check.checker import check_payload
from cu_certificates.check.result import CheckResult
from cu_certificates.check.strict import Rejected, canonical, parse

Json = dict[str, Any]


def drafted(folder: Path, **more: int) -> tuple[Json, dict[str, bytes]]:
    """Return an unsigned statement and its evidence files."""
    world = World(folder, 2.0)
    plan = world.plan('"procedure"')
    scores = world.write(pools(unlearned=60, retrained=60, original=20, rerun=16, **more))
    out = folder / "out"
    with pytest.MonkeyPatch.context() as patch:
        pin_coins(patch)
        assert run(["audit", "--scores", str(scores), "--plan", str(plan), "--out", str(out), "--no-sign"]) == 0
    statement = parse((out / "certificate.draft.json").read_bytes().strip())
    files = {f"evidence/{path.name}": path.read_bytes() for path in (out / "evidence").iterdir()}
    assert isinstance(statement, dict)
    return statement, {"plan.json": (out / "plan.json").read_bytes(), **files}


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Json, dict[str, bytes]]:
    """A draft that the tests alter copies of."""
    return drafted(tmp_path_factory.mktemp("pools"))


def checked(statement: Json, files: dict[str, bytes]) -> CheckResult:
    return check_payload(canonical(statement), files.get)


def claim(statement: Json, name: str) -> Json:
    (one,) = (entry for entry in statement["predicate"]["claims"] if entry["id"] == name)
    return one  # type: ignore[no-any-return]


def signed_again(statement: Json, files: dict[str, bytes], lines: list[Json]) -> dict[str, bytes]:
    """Replace the evidence and its digest, as a prover could."""
    data = b"".join(canonical(line) + b"\n" for line in lines)
    for entry in statement["predicate"]["evidence"]:
        if entry["id"] == "pools":
            entry["digest"]["sha256"] = sha256(data).hexdigest()
    return files | {"evidence/pools.jsonl": data}


def lines_of(files: dict[str, bytes]) -> list[Any]:
    return [parse(line) for line in files["evidence/pools.jsonl"].splitlines()]


def swap(rows: list[Any]) -> None:
    """Let a model that is counted change places with one that calibrates."""
    one = next(row for row in rows if row.get("group") == "main retrained")
    other = next(row for row in rows if row.get("group") == "calibration retrained")
    one["group"], other["group"] = other["group"], one["group"]


def test_an_honest_one_is_accepted(honest: tuple[Json, dict[str, bytes]]) -> None:
    found = checked(*honest)
    assert found.rejected == ()
    assert found.derived == "REFUTED"


CLAIMS: list[tuple[str, str, Callable[[Json], object]]] = [
    ("more above the threshold", "c-eps-procedure", lambda c: c.update(true=c["true"] - 1)),
    ("fewer retrained above it", "c-eps-procedure", lambda c: c.update(false=c["false"] + 1)),
    ("another pool size", "c-eps-procedure", lambda c: c.update(unlearned=c["unlearned"] + 1)),
    ("another threshold", "c-eps-procedure", lambda c: c.update(threshold=c["threshold"] + 1)),
    ("an understated bound", "c-eps-procedure", lambda c: c.update(bound="0.1000")),
    ("an overstated bound", "c-eps-procedure", lambda c: c.update(bound="9.0000")),
    ("a larger share of alpha", "c-eps-procedure", lambda c: c.update(alpha="1/10")),
    ("another delta", "c-eps-procedure", lambda c: c.update(delta="1/100")),
    ("a positive control that saw nothing", "c-pos-procedure", lambda c: c.update(true=0)),
    ("a positive control of another size", "c-pos-procedure", lambda c: c.update(originals=1)),
    ("a negative control that is silent", "c-neg-procedure", lambda c: c.update(high=c["high"] + 1)),
    ("a negative control of another size", "c-neg-procedure", lambda c: c.update(runs=c["runs"] + 1)),
    ("a failed control called sound", "c-neg-procedure", lambda c: c.update(outcome="failed")),
    ("power that is not there", "c-power-procedure", lambda c: c.update(reached=not c["reached"])),
    ("a larger resolution", "c-power-procedure", lambda c: c.update(maxEps="9.0000")),
]


@pytest.mark.parametrize(("name", "edit"), [case[1:] for case in CLAIMS], ids=[case[0] for case in CLAIMS])
def test_a_dishonest_claim_is_rejected(
    name: str, edit: Callable[[Json], object], honest: tuple[Json, dict[str, bytes]]
) -> None:
    statement, files = deepcopy(honest)
    edit(claim(statement, name))
    found = checked(statement, files)
    below = ["x-mu"] if name == "c-eps-procedure" else []  # the Gaussian extrapolation starts from the same counts
    assert [result.id for result in found.rejected] == [name, *below]
    assert found.derived == "INCONCLUSIVE"


EVIDENCE: list[tuple[str, Callable[[list[Any]], object]]] = [
    ("a model moved to the other half", lambda rows: swap(rows)),
    ("a model left out", lambda rows: rows.pop(5)),
    ("a model twice", lambda rows: rows.append(rows[5] | {"slot": 9999})),
    ("one digest for two models", lambda rows: rows[5].update(model=rows[6]["model"])),
    ("another seed", lambda rows: rows[0].update(seed="00" * 32)),
    ("a nonce that nobody vouches for", lambda rows: rows[0].update(nonce="00" * 32)),
]


@pytest.mark.parametrize("edit", [case[1] for case in EVIDENCE], ids=[case[0] for case in EVIDENCE])
def test_dishonest_evidence_is_rejected(
    edit: Callable[[list[Any]], object], honest: tuple[Json, dict[str, bytes]]
) -> None:
    statement, files = deepcopy(honest)
    rows = lines_of(files)
    edit(rows)
    found = checked(statement, signed_again(statement, files, rows))
    assert "c-eps-procedure" in [result.id for result in found.rejected]


def test_a_score_fitted_on_pilots_must_show_that_they_are_not_judged(tmp_path: Path) -> None:
    """Else a prover could fit it on the models that are counted and name pilots that nobody compares."""
    statement, files = drafted(tmp_path, pilot_original=4, pilot_retrained=8)
    assert parse(files["plan.json"])["score"]["name"] == "combined"  # type: ignore[index,call-overload]
    assert checked(statement, files).derived == "REFUTED"
    claims = statement["predicate"]["claims"]
    claims[:] = [entry for entry in claims if entry["type"] != "split"]
    found = checked(statement, files)
    assert found.rejected == ()
    assert found.derived == "INCONCLUSIVE"
    assert "nothing shows that its score was fitted on other models" in found.reasons[0]


def test_a_failed_model_helps_nobody(honest: tuple[Json, dict[str, bytes]]) -> None:
    """Failing a retrained model that lies high would raise a bound that ignored it; so it counts as high."""
    statement, files = deepcopy(honest)
    rows = lines_of(files)
    before = claim(statement, "c-eps-procedure")
    row = next(r for r in rows if r.get("group") == "main retrained" and r["score"] < before["threshold"])
    for key in ("model", "signals", "score"):
        del row[key]
    row["status"] = "failed"
    found = checked(statement, signed_again(statement, files, rows))
    (detail,) = (result.detail for result in found.claims if result.id == "c-eps-procedure")
    assert f"false: {before['false']}; expected {before['false'] + 1}" in detail


def test_the_plot_must_show_the_counts(honest: tuple[Json, dict[str, bytes]]) -> None:
    statement, files = deepcopy(honest)
    statement["predicate"]["plots"]["procedure"]["series"][0]["counts"][0] += 1
    with pytest.raises(Rejected, match="the evidence gives"):
        checked(statement, files)


def test_a_plan_with_pools_needs_their_claim(honest: tuple[Json, dict[str, bytes]]) -> None:
    statement, files = deepcopy(honest)
    claims = statement["predicate"]["claims"]
    claims[:] = [entry for entry in claims if entry["id"] != "c-eps-procedure"]
    statement["predicate"]["plots"] = {}
    assert checked(statement, files).derived == "INCONCLUSIVE"
