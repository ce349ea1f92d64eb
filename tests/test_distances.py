"""Two sets of models by their distances: counted by brute force, drawn by a second reader, and refused when altered."""

import hashlib
import hmac
import json
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from itertools import combinations
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from fake_certificate import Fake, fake, lines
from fake_evidence import CLEAN, SEED, Json, Knobs
from fake_sequential import fake_sequential, sequential_knobs
from fake_theorem import exhaustive, points, with_distances
from hypothesis import given, settings
from hypothesis import strategies as st
from small_project import SMALLEST, finished_audit, fix_secrets, predicate_of, write_project
from test_outside import World, pin_coins, pools

from cu_attacks.energy import energy_distance
from cu_cert.cli.main import run
from cu_certificates.check.distances import MOST_LABELLINGS, RANDOM, Labelled, distance_key, energy_test
from cu_certificates.check.main import accepted
from cu_certificates.check.strict import canonical

EXAMPLES = settings(deadline=None, max_examples=60 if SLOW else 12, derandomize=True)
KEY = distance_key(SEED, "00" * 32, "")


def labelled(count: int, unlearned: int, shift: float = 0.0, seed: str = "points") -> Labelled:
    """The first models are the unlearned ones, ``shift`` away from the others."""
    near = points(count, lambda number: shift * (number < unlearned), seed)
    return Labelled(near, [number < unlearned for number in range(count)], KEY)


# --- The test itself -------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.integers(2, 4), st.integers(2, 4), st.integers(0, 10**6), st.sampled_from([0.0, 1.0, 30.0]))
def test_all_labellings_are_those_of_brute_force(one: int, two: int, seed: int, shift: float) -> None:
    models = labelled(one + two, one, shift, str(seed))
    found, truth = energy_test(models), exhaustive([*models.distances], [*models.unlearned])
    assert (found.labellings, found.reached) == (truth["labellings"], truth["asDifferent"])
    assert [f"{float(each):.4f}" for each in (found.low, found.high)] == truth["interval"]
    assert (str(found.p), f"{float(found.statistic):.4f}") == (truth["p"], truth["value"])


@EXAMPLES
@given(st.integers(2, 4), st.integers(2, 4), st.integers(0, 10**6))
def test_p_is_exact(one: int, two: int, seed: int) -> None:
    """Were each labelling the true one once, p is at most t in at most a share t of them, ties included."""
    near = points(one + two, lambda _: 0.0, str(seed))
    near = [[value // 10**6 * 10**6 for value in row] for row in near]  # whole units make ties
    every = [
        energy_test(Labelled(near, [place in chosen for place in range(one + two)], KEY)).p
        for chosen in combinations(range(one + two), one)
    ]
    for t in every:
        assert Fraction(sum(p <= t for p in every), len(every)) <= t


def words(number: int) -> Any:
    """A second reading of the random labellings: 32-bit words of SHAKE-256 over key and number."""
    stream = hashlib.shake_256(KEY + number.to_bytes(8, "big")).digest(4096)
    return iter(int.from_bytes(stream[at : at + 4], "big") for at in range(0, 4096, 4))


def drawn(count: int, take: int, number: int) -> list[int]:
    places, source = list(range(count)), words(number)
    for first in range(take):
        size = count - first
        word = next(source)
        while word >= 2**32 - 2**32 % size:
            word = next(source)
        other = first + word % size
        places[first], places[other] = places[other], places[first]
    return places[:take]


def test_random_labellings_are_those_of_a_second_reader() -> None:
    count, take = 40, 17
    models = labelled(count, take, 0.4)
    assert comb(count, take) > MOST_LABELLINGS
    matrix = np.zeros((count, count), dtype=np.int64)
    for row, near in enumerate(models.distances):
        matrix[row, :row] = matrix[:row, row] = near
    rows = np.zeros((RANDOM + 1, count), dtype=np.int64)
    rows[0, :take] = 1
    for number in range(RANDOM):
        rows[number + 1, drawn(count, take, number)] = 1
    within = np.einsum("bi,bi->b", rows @ matrix, rows)
    reach = (rows @ matrix).sum(axis=1)
    between, rest = reach - within, matrix.sum() - 2 * reach + within
    other = count - take
    values = 2 * between * take * other - within * other**2 - rest * take**2
    found = energy_test(models)
    assert (found.labellings, found.reached) == (RANDOM + 1, int((values >= values[0]).sum()))
    assert float(found.statistic) == pytest.approx(energy_distance(matrix / 1e6, np.arange(count) < take), abs=1.1e-4)
    ordered = np.sort(values) / 1e6 / (take * other) ** 2
    assert float(found.low) == pytest.approx(max(ordered[250], 0), abs=1.1e-4)
    assert float(found.high) == pytest.approx(max(ordered[-251], 0), abs=1.1e-4)


def test_the_key_is_the_seed_under_the_plan() -> None:
    text = canonical(["permute", "00" * 32, "", "distances"])
    assert hmac.new(SEED, text, hashlib.sha256).digest() == KEY


def test_sets_far_apart_reach_the_smallest_p() -> None:
    assert energy_test(labelled(10, 5, 50.0)).p == Fraction(2, comb(10, 5))  # the mirrored labelling says the same
    assert energy_test(labelled(11, 5, 50.0)).p == Fraction(1, comb(11, 5))
    assert energy_test(labelled(40, 20, 50.0)).p == Fraction(1, RANDOM + 1)


def test_alike_sets_are_called_different_no_more_often_than_stated() -> None:
    runs = 400 if SLOW else 60
    found = [energy_test(labelled(10, 5, 0.0, f"alike {number}")).p <= Fraction(1, 10) for number in range(runs)]
    assert sum(found) <= runs / 10 + 3 * (runs * 0.09) ** 0.5


# --- The claim -------------------------------------------------------------------------------------------------------

SMALL = {"slots": 12, "control_slots": 24, "questions": ("procedure",)}


@cache
def base() -> Fake:
    """Twelve slots, so all labellings are counted."""
    found = fake(Knobs(**SMALL))  # type: ignore[arg-type]
    rows = [json.loads(line) for line in found.files["evidence/slots.jsonl"].splitlines()]
    main = sorted((row for row in rows if row.get("group") == "main"), key=lambda row: int(row["slot"]))
    near, unlearned = points(len(main), lambda _: 0.0), [row["role"] == "unlearned" for row in main]
    return with_distances(found, main, near, exhaustive(near, unlearned)).state()


def test_an_honest_claim_is_assumed_and_decides_nothing() -> None:
    result = base().check()
    assert accepted(result)
    claim = next(claim for claim in result.claims if claim.type == "perm-p")
    assert claim.status == "assumed"
    assert "no eps and supports no verdict" in claim.detail
    without = base().copy()
    without.drop("t-energy")
    without.predicate["evidence"] = [one for one in without.predicate["evidence"] if one["id"] != "distances"]
    assert without.state().check().derived == result.derived


CLAIMS: list[tuple[str, Json, str]] = [
    ("a smaller p", {"p": "1/924"}, ".p: "),
    ("a p that is another number", {"p": "1"}, ".p: "),
    ("fewer as different", {"asDifferent": 1}, ".asDifferent"),
    ("another number of labellings", {"labellings": 999}, ".labellings"),
    ("another size", {"unlearned": 5, "retrained": 7}, "labelled"),
    ("a larger distance", {"value": "99.0000"}, ".value"),
    ("another range", {"interval": ["0.0000", "99.0000"]}, ".interval"),
    ("a range of one end", {"interval": ["0.0000"]}, ".interval"),
    ("another statistic", {"statistic": "mmd"}, "expected energy"),
    ("a deciding one", {"planned": True}, "expected False for perm-p"),
    ("another question", {"question": "artifact"}, "expected procedure"),
    ("another file", {"evidence": "slots"}, "expected distances"),
]


@pytest.mark.parametrize(("changes", "message"), [case[1:] for case in CLAIMS], ids=[case[0] for case in CLAIMS])
def test_an_altered_claim_is_refused(changes: Json, message: str) -> None:
    found = base().copy()
    found.claim("t-energy").update(changes)
    (refused,) = found.check().rejected
    assert refused.id == "t-energy"
    assert message in refused.detail or message == "labelled"
    assert not accepted(found.check())


def swapped(rows: list[Any]) -> None:
    rows[2]["model"], rows[3]["model"] = rows[3]["model"], rows[2]["model"]


EVIDENCE: list[tuple[str, Callable[[list[Any]], object], str]] = [
    ("another seed", lambda rows: rows[0].update(seed="00" * 32), "not the seed"),
    ("a nonce of one's own", lambda rows: rows[0].update(nonce="aa"), "takes no challenge"),
    ("no opening", lambda rows: rows.pop(0), "expected opening"),
    ("a model left out", lambda rows: rows.pop(), "expected an opening and the 12 judged models"),
    ("a model twice", lambda rows: rows.append(rows[-1]), "expected an opening and the 12 judged models"),
    ("two models exchanged", swapped, "not the judged model of this place"),
    ("a model from elsewhere", lambda rows: rows[5].update(model="ab" * 32), "not the judged model of this place"),
    ("a distance too few", lambda rows: rows[5]["distances"].pop(), "expected 4 whole numbers"),
    ("a distance too many", lambda rows: rows[5]["distances"].append(1), "expected 4 whole numbers"),
    ("a negative distance", lambda rows: rows[5]["distances"].__setitem__(0, -1), "expected 4 whole numbers"),
    ("a huge distance", lambda rows: rows[5]["distances"].__setitem__(0, 10**12 + 1), "expected 4 whole numbers"),
    ("true for a distance", lambda rows: rows[5]["distances"].__setitem__(0, True), "expected 4 whole numbers"),
    ("words for a distance", lambda rows: rows[5]["distances"].__setitem__(0, "1"), "expected 4 whole numbers"),
    ("another kind of line", lambda rows: rows[5].update(kind="run"), "expected model"),
    ("other distances", lambda rows: rows[12].update(distances=[10**9] * 11), "t-energy"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "message"), [case[1:] for case in EVIDENCE], ids=[case[0] for case in EVIDENCE])
def test_altered_distances_are_refused(edit: Callable[[list[Any]], object], message: str) -> None:
    found = base().copy()
    rows = [json.loads(line) for line in found.files["evidence/distances.jsonl"].splitlines()]
    edit(rows)
    found.replace("evidence/distances.jsonl", lines(rows))
    (refused,) = found.check().rejected
    assert refused.id == "t-energy"
    assert message in refused.detail or message == refused.id


def test_one_claim_of_this_kind_and_its_assumptions() -> None:
    found = base().copy()
    found.predicate["claims"].append(found.claim("t-energy") | {"id": "t-again"})
    assert "expected one claim of its kind" in found.check().rejected[0].detail
    for name in ("A1", "A2", "A10"):
        found = base().copy()
        found.predicate["assumptions"].remove(name)
        assert name in next(claim for claim in found.check().rejected if claim.id == "t-energy").detail


def test_a_model_that_failed_leaves_nothing_to_compare() -> None:
    slot = next(
        json.loads(line)["slot"] for line in base().files["evidence/slots.jsonl"].splitlines() if b'"main"' in line
    )
    found = fake(Knobs(**SMALL, failed=frozenset({("main", slot)})))  # type: ignore[arg-type]
    rows = [json.loads(line) for line in found.files["evidence/slots.jsonl"].splitlines()]
    main = sorted((row for row in rows if row.get("group") == "main"), key=lambda row: int(row["slot"]))
    main = [{"model": "ab" * 32} | row for row in main]
    near = points(len(main), lambda _: 0.0)
    with_distances(found, main, near, exhaustive(near, [row["role"] == "unlearned" for row in main]))
    assert "or that one failed" in found.check().rejected[0].detail


def test_no_test_of_sets_whose_sizes_were_not_fixed() -> None:
    """Slots were opened until something was seen, so the number of models depends on what they showed."""
    found = fake_sequential(sequential_knobs(means=CLEAN))
    claim = base().claim("t-energy")
    found.predicate["claims"].append(claim)
    found.predicate["evidence"].append(base().predicate["evidence"][-1])
    found.files["evidence/distances.jsonl"] = base().files["evidence/distances.jsonl"]
    assert "no two sets of models whose sizes were fixed" in found.check().rejected[-1].detail


def test_models_of_one_original_are_no_independent_draws() -> None:
    def fixed(plan: Json) -> None:
        plan["original"] = "fixed"

    found = fake(Knobs(**SMALL, edit_plan=fixed))  # type: ignore[arg-type]
    found.predicate["claims"].append(base().claim("t-energy"))
    found.predicate["evidence"].append(base().predicate["evidence"][-1])
    found.files["evidence/distances.jsonl"] = base().files["evidence/distances.jsonl"]
    assert "started from one original" in found.check().rejected[-1].detail


# --- The audits that write it ----------------------------------------------------------------------------------------


def written(out: Path) -> tuple[Json, Json]:
    """The claim of an audit, and its predicate."""
    predicate = predicate_of(out)
    (claim,) = [claim for claim in predicate["claims"] if claim["type"] == "perm-p"]
    return claim, predicate


def test_an_audit_writes_it_in_the_place_of_its_bare_p(tmp_path_factory: pytest.TempPathFactory) -> None:
    done = finished_audit(tmp_path_factory.getbasetemp())
    claim, predicate = written(done.out)
    assert claim["unlearned"] + claim["retrained"] == SMALLEST["slots"]
    assert claim["labellings"] == comb(SMALLEST["slots"], claim["unlearned"])
    names = {one["id"] for one in predicate["claims"]}
    assert {"m-test-mmd", "m-test-ks", "x-mu"} <= names
    assert "m-test-energy" not in names
    (mu,) = [one for one in predicate["claims"] if one["type"] == "mu-lower"]
    assert "A17" in predicate["assumptions"]
    assert {"tpr", "fpr", "z1", "z2"} <= set(mu)
    assert run(["check", str(done.out / "certificate.sigstore.json")]) == 0


@pytest.mark.parametrize("more", ['original = "fixed"', "pad_request = 20"], ids=["fixed", "padded"])
def test_where_it_would_not_hold_or_would_tell_too_much_it_is_left_out(
    more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models of one original are no independent draws; distances over records grow with the number of records."""
    settings = SMALLEST | {"more": f'{SMALLEST["more"]}\n{more}\nquestions = ["procedure"]'}
    folder = write_project(tmp_path / "project", **settings)
    fix_secrets(folder, "distances")
    monkeypatch.chdir(folder)
    assert run(["train", "-o", "model.pt"]) == 0
    assert run(["audit", "model.pt", "--forget", "ids.txt", "--method", "npo"]) == 0
    predicate = predicate_of(folder / "audit-out")
    assert "perm-p" not in {claim["type"] for claim in predicate["claims"]}
    assert "distances" not in {entry["id"] for entry in predicate["evidence"]}


@pytest.mark.parametrize("leak", [0.0, 2.0])
def test_scores_from_elsewhere_in_two_pools(leak: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pin_coins(monkeypatch)
    world = World(tmp_path, leak)
    world.plan('"procedure"')
    world.write(pools(unlearned=40, retrained=44, original=20, rerun=16))
    assert run(["audit", "--scores", "scores.npz", "--plan", "plan.toml"]) == 0
    claim, predicate = written(tmp_path / "audit-out")
    assert (claim["unlearned"], claim["retrained"], claim["labellings"]) == (20, 22, RANDOM + 1)
    p = Fraction(claim["p"])
    assert p == Fraction(1, RANDOM + 1) if leak else p > Fraction(1, 1000)
    assert run(["check", "audit-out/certificate.sigstore.json"]) == 0
    mu = [one for one in predicate["claims"] if one["type"] == "mu-lower"]
    assert all(one["from"] == "c-eps-procedure" for one in mu)
    assert len(mu) == 1 if leak else True
