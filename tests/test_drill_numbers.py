"""Whose score a row of a drill's evidence is: its numbers are drawn in secret, and fixed before the coins."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr
from test_drill_certificate import certify, make_project, rows

from cu_attacks.onerun import candidate_scores
from cu_cert import _drill_lab, drill_certificate
from cu_cert._drill_lab import Drawn, Seen, rehearse
from cu_cert.canaries import Candidates, joined
from cu_cert.drill_certificate import CertifiedDrill
from cu_cert.drilling import SCALE, whole_scores
from cu_cert.project import Project
from cu_cert.records import make_records
from cu_cert.rng import Stream
from cu_cert.secrets_store import Secrets
from cu_cert.signals import Signals
from cu_certificates.plan import Plan


@pytest.fixture(autouse=True)
def own_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CU_CERT_CONFIG", str(tmp_path / "keys"))


def numbered(project: Project, **changes: Any) -> tuple[CertifiedDrill, list[int]]:
    """Drill, and find the place in the list of ids of each row, by scoring the candidates in that order once more."""
    seen: dict[str, Any] = {}

    def kept(*given: Any, **named: Any) -> Any:
        seen["measured"] = rehearse(*given, **named)
        return seen["measured"]

    def entered(base: Any, candidates: Any, coins: Any) -> Any:
        seen["entered"] = (candidates.ids, list(coins))
        return joined(base, candidates, coins)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(drill_certificate, "rehearse", kept)
        patch.setattr(_drill_lab, "joined", entered)
        done = certify(project, method="identity", **changes)
    ids, coins = seen["entered"]
    margins, references = seen["measured"].subjects["method"].margins, seen["measured"].drawn.margins
    scores = [round(float(score) * SCALE) for score in candidate_scores(margins, references)]
    assert list(ids) == sorted(ids)
    assert len(set(scores)) == len(scores)
    found = [row for row in rows(done) if row["kind"] == "candidate"]
    order = [scores.index(row["score"]) for row in found]
    assert sorted(order) == list(range(60))
    # Whoever's score stands in a row entered training as this row's coin says.
    assert [row["role"] for row in found] == [("out", "in")[coins[place]] for place in order]
    return done, order


def test_rows_do_not_follow_the_ids(tmp_path: Path) -> None:
    project = make_project(tmp_path / "one", "numbers")
    done, order = numbered(project, out=tmp_path / "first")
    assert sum(place == number for number, place in enumerate(order)) < 10  # 1 is expected of a random order
    assert abs(spearmanr(range(60), order).statistic) < 0.6
    _, resumed = numbered(project, out=tmp_path / "second")
    assert resumed == order
    # Another attempt and another project have orders of their own, so rows of two certificates cannot be matched.
    again = replace(project, audit=replace(project.audit, attempt=2))
    _, other = numbered(again, out=tmp_path / "third")
    _, foreign = numbered(make_project(tmp_path / "two", "other numbers"))
    for found in (other, foreign):
        assert sum(first == second for first, second in zip(order, found, strict=True)) < 10
    plan = json.loads(done.plan.to_bytes())
    assert plan["procedure"]["records"] != plan["data"]


def test_the_opened_seed_does_not_give_the_order_away(tmp_path: Path) -> None:
    """The order hangs on a key of the project alone: with the same opened seed and another such key it is another."""
    project = make_project(tmp_path, "opened")
    done, order = numbered(project, out=tmp_path / "first")
    folder = tmp_path / ".cu-cert" / "private"
    seed = bytes.fromhex(rows(done)[0]["seed"])
    assert Secrets(folder).audit_seed(done.plan) == seed
    ids = tuple(
        opened["id"] for opened in json.loads((tmp_path / "first/private/request.json").read_text())["openings"]
    )
    assert list(Stream(Secrets(folder).numbers_key(unnumbered(done.plan))).order(ids)) == order
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Secrets, "numbers_key", lambda self, plan: hashlib.sha256(b"another").digest())
        patch.setattr(Secrets, "audit_seed", lambda self, plan: seed)
        second, other = numbered(project, out=tmp_path / "second")
    assert rows(second)[0]["seed"] == seed.hex()
    assert other != order


def unnumbered(plan: Plan) -> Plan:
    """Return the plan before the candidates had numbers."""
    (own,) = plan.extra.values()
    return replace(plan, extra={"procedure": {key: value for key, value in own.items() if key != "records"}})


def test_the_plan_commits_to_the_numbers(tmp_path: Path) -> None:
    """Else whoever holds the coins could still choose who is number 7."""
    project, plans = make_project(tmp_path, "commits"), []
    for name in (b"one", b"two"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Secrets, "numbers_key", lambda self, plan, name=name: hashlib.sha256(name).digest())
            plans.append(json.loads(certify(project, method="identity", out=tmp_path / name.decode()).plan.to_bytes()))
    first, second = plans
    assert first["procedure"].pop("records") != second["procedure"].pop("records")
    del first["seedCommitment"], second["seedCommitment"]
    assert first == second


def test_equal_scores_are_ranked_by_number_and_not_by_id() -> None:
    """In a mixed drill a score is a rank; ties by id would let rows with neighbouring ranks name neighbouring ids."""
    count, order = 8, (5, 2, 7, 0, 3, 6, 1, 4)
    records = make_records([f"r{row}" for row in range(count)], np.zeros((count, 2)), [0, 1] * 4, ["a", "b"])
    kinds = ("random", "typical") * 4
    drawn = Drawn(
        candidates=Candidates(records=records, kinds=kinds, columns=np.arange(count), base=records),
        margins=np.tile([[0.0], [1.0]], count),
        references=(),
        order=order,
    )
    signals = Signals(np.zeros(count), np.ones(count, dtype=bool))
    seen = Seen(signals=signals, asked=count, tensors="", seconds=0.0)
    scores = whole_scores(seen, drawn).tolist()
    for kind in ("random", "typical"):
        own = [score for score, place in zip(scores, order, strict=True) if kinds[place] == kind]
        assert own == sorted(own)
    assert drawn.by_id(range(count)) == tuple(order.index(place) for place in range(count))
