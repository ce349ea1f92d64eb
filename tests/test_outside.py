"""Audits of scores that were made elsewhere: by coins handed out before, or after the fact by two pools."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import SLOW
from small_project import ROOTS, predicate_of

from cu_attacks._scores import write_scores
from cu_cert.cli.main import run
from cu_certificates.check.bands import counts_bound
from cu_certificates.check.strict import parse

PLAN = """schema = 1
[audit]
questions = [{questions}]
slots = 32
references = 70
pilots = 6
controls = 8
{more}
[outside]
method = "our method 3"
recipe = "our trainer, version 7"
data = "customers, November"
trained = 900
held_out = 40
"""
REQUEST, OTHERS = [f"c-{number:02d}" for number in range(12)], [f"n-{number:02d}" for number in range(40)]
BOTH = '"procedure", "artifact"'


@dataclass(frozen=True)
class World:
    """A place where models are made whose scores are drawn, not trained.

    Args:
        folder: Where everything lies.
        leak: How far an unlearned model's margins on the request lie above a retrained one's; 2 for an original.
        seed: Of the draws.
    """

    folder: Path
    leak: float = 0.0
    seed: int = 0

    def plan(self, questions: str = BOTH, more: str = "") -> Path:
        path = self.folder / "plan.toml"
        path.write_text(PLAN.format(questions=questions, more=more))
        (self.folder / "ids.txt").write_text("\n".join(REQUEST) + "\n")
        return path

    def order(self) -> list[tuple[str, str]]:
        with (self.folder / "plan-out" / "models.csv").open() as stream:
            return [(row["model"], row["pool"]) for row in csv.DictReader(stream)]

    def write(self, order: list[tuple[str, str]], *, change: Callable[[Any], None] | None = None) -> Path:
        rng = np.random.default_rng(self.seed)
        shift = {"unlearned": self.leak, "subject": self.leak}
        names, pools = [name for name, _ in order], [pool for _, pool in order]
        values = rng.normal(size=(len(order), len(REQUEST) + len(OTHERS)))
        for row, pool in enumerate(pools):
            values[row, : len(REQUEST)] += shift.get(pool, 2.0 if "original" in pool else 0.0)
        if change is not None:
            change(values)
        path = self.folder / "scores.npz"
        request = [True] * len(REQUEST) + [False] * len(OTHERS)
        write_scores(path, values, models=names, pools=pools, records=REQUEST + OTHERS, request=request)
        return path


def pin_coins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fix what is drawn, so that no test meets an unlucky throw."""
    drawn = count()
    monkeypatch.setattr("secrets.token_bytes", lambda size: sha256(f"outside {next(drawn)}".encode()).digest()[:size])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pin_coins(monkeypatch)
    return tmp_path


def handed_out(folder: Path, *, leak: float, questions: str = BOTH) -> World:
    world = World(folder, leak)
    world.plan(questions)
    assert run(["plan", "plan.toml", "--forget", "ids.txt"]) == 0
    return world


def judged(*more: str) -> dict[str, Any]:
    assert run(["audit", "--scores", "scores.npz", "--plan", "plan.toml", *more]) == 0
    assert run(["check", "audit-out/certificate.sigstore.json"]) == 0
    return predicate_of(Path("audit-out"))


def pools(**sizes: int) -> list[tuple[str, str]]:
    """Models with names of their own."""
    named = {name.replace("_", "-"): size for name, size in sizes.items()}
    return [(f"{pool} {number:03d}", pool) for pool, size in named.items() for number in range(size)]


def claim(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = (entry for entry in found["claims"] if entry["id"] == name)
    return dict(one)


@pytest.mark.parametrize(("leak", "verdict"), [(0.0, "NOT_REFUTED"), (2.0, "REFUTED")])
def test_coins_handed_out_before(leak: float, verdict: str, here: Path) -> None:
    world = handed_out(here, leak=leak)
    world.write(world.order())
    found = judged()
    assert found["plan"]["attacks"] == ["eps-coinflip", "conformal-p"]
    assert found["limitations"][0] == "L16"
    assert "L15" not in found["limitations"]
    assert found["plan"]["digest"]["sha256"] == json.loads(run_json("plan", "plan.toml", "--forget", "ids.txt"))["plan"]
    if verdict == "REFUTED":
        assert found["verdict"]["value"] == verdict
    else:  # one sound audit in twenty may be refuted, one in a hundred may lose a control
        assert claim(found, "c-pos-procedure")["outcome"] == "detected"
        assert found["verdict"]["value"] in (verdict, "REFUTED", "INCONCLUSIVE")
        assert float(claim(found, "c-eps-procedure")["bound"]) < 1


def run_json(*arguments: str) -> str:
    """Run the program and return what it prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "cu_cert", *arguments, "--json"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_no_torch_is_imported(here: Path) -> None:
    world = World(here, 2.0)
    world.plan('"procedure"')
    world.write(pools(unlearned=80, retrained=80, original=20, rerun=12))
    code = (
        "import sys; from cu_cert.cli.main import run; assert run(sys.argv[1:]) == 0; assert 'torch' not in sys.modules"
    )
    for arguments in (
        ("plan", "plan.toml", "--forget", "ids.txt"),
        ("audit", "--scores", "scores.npz", "--plan", "plan.toml"),
    ):
        subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS)},
            check=True,
            capture_output=True,
        )


@pytest.mark.parametrize("leak", [0.0, 2.0])
def test_scores_without_coins_go_through_two_pools(leak: float, here: Path) -> None:
    world = World(here, leak)
    world.plan('"procedure"')
    world.write(pools(unlearned=80, retrained=80, original=40, rerun=24))
    found = judged()
    assert found["plan"]["attacks"] == ["eps-lower"]
    assert found["limitations"][0] == "L15"  # the plan was made after the fact, and that is said first
    main = claim(found, "c-eps-procedure")
    assert main["planned"] is True
    assert (main["unlearned"], main["retrained"]) == (40, 40)
    lines = [parse(line) for line in Path("audit-out/evidence/pools.jsonl").read_bytes().splitlines()]
    counts = [
        sum(
            row["group"] == f"main {pool}" and row["score"] >= main["threshold"]
            for row in lines
            if row["kind"] == "run"
        )  # type: ignore[index,operator]
        for pool in ("unlearned", "retrained")
    ]
    assert counts == [main["true"], main["false"]]
    from fractions import Fraction

    bound = counts_bound(counts[0], 40, counts[1], 40, Fraction(1, 20), Fraction(0), both=True)
    assert Fraction(main["bound"]) == bound
    assert (found["verdict"]["value"] == "REFUTED") == (bound > Fraction(1, 2)) == (leak > 0)
    assert claim(found, "c-neg-procedure")["outcome"] == "sound"
    assert claim(found, "c-pos-procedure")["outcome"] == "detected"
    assert found["verdict"]["value"] == ("REFUTED" if leak else "NOT_REFUTED")


def test_pools_without_controls_decide_nothing(here: Path) -> None:
    world = World(here, 2.0)
    world.plan('"procedure"')
    world.write(pools(unlearned=80, retrained=80))
    found = judged()
    assert found["verdict"]["value"] == "INCONCLUSIVE"
    assert "negative control is missing" in found["verdict"]["reasons"][0]


def test_one_file_among_references_after_the_fact(here: Path) -> None:
    world = World(here, 2.0)
    world.plan('"artifact"')
    sizes = {"pilot_original": 6, "pilot_retrained": 12, "reference": 70, "reference_original": 1, "reference_rerun": 8}
    world.write(pools(subject=1, **sizes))
    (here / "model.bin").write_bytes(b"the weights of somebody's model")
    found = judged("model.bin")
    assert found["scope"]["model"]["name"] == "model.bin"
    assert found["verdict"]["value"] == "REFUTED"
    assert {"m-auc-lira", "m-auc-loss"} <= {entry["id"] for entry in found["claims"]}
    assert found["limitations"][0] == "L15"


def test_a_failed_model_is_counted_not_left_out(here: Path) -> None:
    world = handed_out(here, leak=2.0, questions='"procedure"')
    order = world.order()
    rows = [number for number, (_, pool) in enumerate(order) if pool == "unlearned"]

    def spoil(values: Any) -> None:
        values[rows[0]] = np.nan

    world.write([entry for entry in order if entry[0] != order[rows[1]][0]], change=spoil)
    found = judged()
    lines = [parse(line) for line in Path("audit-out/evidence/slots.jsonl").read_bytes().splitlines()]
    assert sum(row.get("status") == "failed" for row in lines) == 2  # type: ignore[union-attr]
    assert claim(found, "c-eps-procedure")["slots"] == 32


def test_scores_of_another_request_or_plan_are_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = handed_out(here, leak=0.0)
    world.write(world.order())
    (here / "plan.toml").write_text((here / "plan.toml").read_text().replace("our method 3", "our method 4"))
    before = sorted(path.name for path in here.iterdir())
    assert run(["audit", "--scores", "scores.npz", "--plan", "plan.toml"]) == 2
    assert "is not the one that was handed out" in capsys.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == before


BAD: list[tuple[str, Callable[[World], None], str]] = [
    ("no outside", lambda w: (w.folder / "plan.toml").write_text("[audit]\n"), "no table [outside]"),  # type: ignore[list-item,return-value]
    ("a wrong key", lambda w: edit(w, "trained = 900", "trained = 900\nrecords = 3"), "[outside] records: unknown key"),
    ("no method", lambda w: edit(w, 'method = "our method 3"\n', ""), "[outside] method"),
    ("another table", lambda w: edit(w, "[outside]", "[training]\n[outside]"), "unknown key 'training'"),
    (
        "one after another",
        lambda w: edit(w, "slots = 32", "slots = 32\nsequential = true"),
        "handed in all at once",
    ),
    ("a fixed original", lambda w: edit(w, "slots = 32", 'slots = 32\noriginal = "fixed"'), "need a fresh original"),
    ("too few models", lambda w: w.write(pools(unlearned=3, retrained=9)), "at least 4 models"),  # type: ignore[list-item,return-value]
    ("too small to refute", lambda w: w.write(pools(unlearned=12, retrained=12)), "cannot refute eps*"),  # type: ignore[list-item,return-value]
]


def edit(world: World, old: str, new: str) -> None:
    path = world.folder / "plan.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(("spoil", "expected"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_input_is_one_clear_error(
    spoil: Callable[[World], None], expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(here, 0.0)
    world.plan('"procedure"')
    world.write(pools(unlearned=80, retrained=80))
    spoil(world)
    assert run(["audit", "--scores", "scores.npz", "--plan", "plan.toml"]) == 2
    message = capsys.readouterr().err
    assert expected in message
    assert message.count("\n") <= 2
    assert not (here / "audit-out").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("audit", "--scores", "scores.npz"), "--scores: needs --plan"),
        (("audit", "--scores", "scores.npz", "--plan", "plan.toml", "--method", "npo"), "--method: says nothing"),
        (
            ("audit", "--scores", "scores.npz", "--plan", "plan.toml", "--procedure", "none"),
            "--procedure: says nothing",
        ),
        (("audit",), "expected MODEL and --forget FILE, or --scores"),
        (("audit", "--scores", "scores.csv", "--plan", "plan.toml"), "ending '.csv'"),
    ],
)
def test_options_that_do_not_belong_together(
    arguments: tuple[str, ...], expected: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    World(here).plan()
    assert run(list(arguments)) == 2
    assert expected in capsys.readouterr().err


def test_two_pools_err_no_more_often_than_stated() -> None:
    """The whole rule, halves and threshold included, on pools of one law: the bound is above 0 in at most alpha."""
    from fractions import Fraction

    from scipy import stats

    from cu_certificates.check.bands import pool_threshold

    rng, runs, alpha = np.random.default_rng(7), 4000 if SLOW else 300, Fraction(1, 20)
    wrong = 0
    for _ in range(runs):
        unlearned, retrained = rng.integers(0, 25, 40).tolist(), rng.integers(0, 25, 40).tolist()
        threshold = pool_threshold(unlearned[:20], retrained[:20], alpha, Fraction(0), both=True)
        true, false = (sum(score >= threshold for score in pool[20:]) for pool in (unlearned, retrained))
        wrong += counts_bound(true, 20, false, 20, alpha, Fraction(0), both=True) > 0
    assert wrong <= stats.binom.ppf(0.999, runs, float(alpha))
