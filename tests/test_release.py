"""The fleet of a release: numbers that never move, halves that serve any request, and two sorts of originals."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_fleet import FORGET, TRAIN, workshop
from small_project import SMALLEST, files_below, store_of, write_project

from cu_cert.cli.main import run
from cu_cert.fleet.plan import Half, fleet_plan
from cu_cert.project import load_project
from cu_cert.release import BLOCK, Lent, Release, judged_number, pilot_number
from cu_cert.secrets_store import Secrets
from cu_cert.stocking import plan_release, train_release

SEED = "5c" * 32
NUMBERS = st.integers(0, 5000)


@given(NUMBERS, NUMBERS)
def test_no_original_is_both_a_pilot_and_judged(first: int, second: int) -> None:
    assert pilot_number(first) != judged_number(second)


def test_the_two_sorts_fill_all_numbers_in_turn() -> None:
    pilots = [pilot_number(index) for index in range(3 * BLOCK)]
    judged = [judged_number(index) for index in range(3 * BLOCK)]
    assert sorted(pilots + judged) == list(range(6 * BLOCK))
    assert pilots == sorted(pilots)
    assert judged == sorted(judged)
    assert pilots[:BLOCK] == list(range(BLOCK))
    assert judged[: BLOCK + 1] == [*range(BLOCK, 2 * BLOCK), 3 * BLOCK]


@pytest.mark.parametrize("cohort", [1, 5, 16, 64])
def test_an_original_is_the_same_whoever_asks_for_it(cohort: int) -> None:
    release = Release(SEED, cohort)
    many = release.originals(0, 4 * BLOCK)
    assert [one.label for one in many] == [f"original {number} of the release" for number in range(4 * BLOCK)]
    assert len({one.seed for one in many}) == len(many)
    assert all(one.records == "all" for one in many)
    assert release.originals(7, 20) == many[7:27]
    assert release.pilots(20) == (*many[:BLOCK], *many[2 * BLOCK : 2 * BLOCK + 4])
    assert release.judged([17, 3]) == (many[3 * BLOCK + 1], many[BLOCK + 3])
    # A larger plan repeats no cohort of a smaller one, and a cohort lies within its block.
    few = {group[0].cohort.digest for group in fleet_plan(release.pilots(3)).groups if group[0].cohort}
    more = {group[0].cohort.digest for group in fleet_plan(release.pilots(40)).groups if group[0].cohort}
    assert few <= more
    assert bool(few) is (cohort > 1)
    assert all(one.cohort is None or len(one.cohort.seats) <= min(cohort, BLOCK) for one in many)


def test_pilots_and_judged_originals_share_no_cohort() -> None:
    release = Release(SEED, 64)
    pilots = {one.cohort.digest for one in release.pilots(50) if one.cohort}
    judged = {one.cohort.digest for one in release.judged(range(50)) if one.cohort}
    assert pilots
    assert judged
    assert not pilots & judged


def test_each_record_is_outside_exactly_one_shadow_of_each_pair() -> None:
    shadows = Release(SEED, 8).shadows(24)
    halves = [Half.parse(one.records) for one in shadows]
    for identifier in ("a", "person-001@example", "é"):
        for first, second in zip(halves[::2], halves[1::2], strict=True):
            assert first is not None
            assert second is not None
            assert first.holds(identifier) is not second.holds(identifier)
    assert Release(SEED, 8).shadows(8) == shadows[:8]


def test_a_release_belongs_to_recipe_data_and_project(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "one")
    here = Release.of(workshop(tmp_path), secrets, 1)
    # The request is no part of it.
    assert here == Release.of(workshop(tmp_path, forget=FORGET[:2]), secrets, 1)
    assert here == Release.of(workshop(tmp_path, forget=()), secrets, 1)
    others = [
        Release.of(workshop(tmp_path, options={"hidden": [6], "epochs": 2}), secrets, 1),
        Release.of(workshop(tmp_path, train=TRAIN.without(TRAIN.ids[:1])), secrets, 1),
        Release.of(workshop(tmp_path), Secrets(tmp_path / "two"), 1),
    ]
    assert len({one.name for one in (here, *others)}) == 4
    assert here.seed not in here.name


def test_what_a_plan_is_lent_is_taken_in_order() -> None:
    release = Release(SEED)
    both, slots = Lent(release, (4, 5, 9), True), Lent(release, (4, 5, 9), False)
    assert both.control == release.judged([4])[0]
    assert both.slots == release.judged([5, 9])
    assert slots.slots == release.judged([4, 5, 9])


# cu-cert fleet plan | train


SINGLE = SMALLEST | {"more": SMALLEST["more"] + '\nengine = "single"\nshadows = 6'}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = write_project(tmp_path / "project", **SINGLE)
    monkeypatch.chdir(folder)
    return folder


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_plan_writes_nothing_and_a_forecast_needs_a_timed_model(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_below(project)
    assert run(["fleet", "plan", "--json"]) == 0
    found = printed(capsys)
    assert found["schema"] == "cu-cert-fleet-plan/1"
    # Half of 16 slots, two standard deviations of 2 and one to round up, and one for the artifact question.
    assert found["originals"] == {"pilots": 4, "judged": 8 + 4 + 1 + 1}
    assert (found["shadows"], found["models"], found["finished"], found["left"]) == (6, 24, 0, 24)
    assert (found["engine"], found["cohort"], found["cpuSeconds"], found["wallSeconds"]) == ("single", 1, None, None)
    assert found["megabytes"] >= 1
    assert run(["fleet", "plan", "--originals", "3", "--shadows", "0"]) == 0
    said = capsys.readouterr().out
    assert "0 shadows, 4 originals that fit scores, 3 that scores judge" in said
    assert "7 models, 0 of them in the store, 7 to make" in said
    assert "time unknown until the first model is done" in said
    assert files_below(project) == before


def test_training_goes_on_where_it_was_and_ends(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["fleet", "train", "--originals", "3", "--shadows", "2", "--json"]) == 0
    found = printed(capsys)
    assert (found["schema"], found["trained"], found["failed"], found["left"]) == ("cu-cert-fleet-train/1", 9, 0, 0)
    assert run(["fleet", "train"]) == 0
    said = capsys.readouterr().out
    assert "24 models, 9 of them in the store, 15 to make" in said
    assert "of CPU" in said
    assert "15 models trained now, 24 of 24 are in the store" in said
    assert run(["fleet", "plan", "--json"]) == 0
    after = printed(capsys)
    assert (after["left"], after["cpuSeconds"], after["wallSeconds"], after["megabytes"]) == (0, 0, 0, 0)
    assert run(["fleet", "train", "--json"]) == 0
    assert printed(capsys)["trained"] == 0
    # The release is the project's for good: its name comes from the project's key, which training keeps.
    assert after["release"] == found["release"]
    assert (project / ".cu-cert/private/audit.key").is_file()
    assert not (project / ".cu-cert/private/uses.jsonl").exists()


def test_a_cohort_is_counted_whole(project: Path) -> None:
    settings = load_project(project / "cu-cert.toml")
    alone = plan_release(settings, originals=3, shadows=0)
    text = (project / "cu-cert.toml").read_text().replace('"single"', '"vectorised"')
    (project / "cu-cert.toml").write_text(text)
    together = load_project(project / "cu-cert.toml")
    found = plan_release(together, originals=3, shadows=0)
    assert (alone.models, found.engine) == (7, "vectorised")
    assert found.cohort > 1
    # Four pilots and three judged originals stand in two different blocks, of which cohorts are filled.
    cohort = min(found.cohort, BLOCK)
    assert found.models == cohort * (-(-4 // cohort)) + cohort * (-(-3 // cohort))
    done = train_release(together, originals=3, shadows=0, quiet=True)
    assert done.trained == found.models
    assert done.plan.left == 0


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["plan", "--shadows", "3"], "expected an even number"),
        (["plan", "--originals", "100001"], "expected 0 to 100000"),
        (["train", "--executor", "cloud"], "expected local, ray"),
        (["train", "--originals", "-1"], "greater than or equal to 0"),
    ],
)
def test_bad_numbers_stop_before_anything_is_made(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], found: str
) -> None:
    assert run(["fleet", *arguments]) == 2
    assert found in capsys.readouterr().err
    assert not store_of(project).exists()


def test_originals_that_no_audit_would_use_are_not_made(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (project / "cu-cert.toml").read_text().replace("shadows = 6", "shadows = 6\nshare_originals = false")
    (project / "cu-cert.toml").write_text(text)
    assert run(["fleet", "plan", "--json"]) == 0
    found = printed(capsys)
    assert (found["originals"], found["models"]) == ({"pilots": 0, "judged": 0}, 6)
    assert run(["fleet", "plan", "--originals", "2"]) == 2
    error = capsys.readouterr().err
    assert "share_originals = false, so no audit would use them" in error
    assert "cu-cert.toml" in error
