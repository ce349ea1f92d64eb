"""What the checker makes of slots that were judged one after another: honest evidence, and every way to bend it."""

import json
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from fake_certificate import Fake, leaves, lines
from fake_evidence import CLEAN, LEAK, Json, Rows
from fake_sequential import HALF_LEAK, Played, fake_sequential, sequential_knobs

from cu_certificates._rows import rows as report_rows
from cu_certificates._wording import wording
from cu_certificates.check.result import CheckResult
from cu_certificates.check.strict import Rejected
from cu_certificates.report import render_skeleton

MEANS = {"leak": LEAK, "clean": CLEAN, "half": HALF_LEAK}
SLOTS = "evidence/slots.jsonl"


@cache
def honest(kind: str) -> Fake:
    return fake_sequential(sequential_knobs(means=MEANS[kind]))


def refused(result: CheckResult) -> str:
    """Return why the certificate is refused; it must be."""
    assert result.rejected, result.claims
    return result.rejected[0].detail


def rows_of(found: Fake) -> list[Json]:
    return [json.loads(line) for line in found.files[SLOTS].splitlines()]


def with_rows(found: Fake, rows: list[Json]) -> Fake:
    changed = found.copy()
    changed.replace(SLOTS, lines(rows))
    return changed


# Honest evidence: the claims were computed in floats, a second time


@pytest.mark.parametrize(
    ("kind", "verdict", "ended"),
    [("leak", "REFUTED", "refuted"), ("clean", "NOT_REFUTED", "nothing"), ("half", "NOT_REFUTED", "budget")],
)
def test_honest_evidence_gives_a_verdict(kind: str, verdict: str, ended: str) -> None:
    found = honest(kind)
    result = found.check()
    assert not result.rejected, result.rejected
    assert (result.derived, found.claim("c-eps-procedure")["ended"]) == (verdict, ended)
    statuses = {claim.type: claim.status for claim in result.claims}
    assert statuses["eps-sequential"] == "assumed"  # nobody but the prover drew the seed
    assert statuses["control"] == statuses["power"] == "proved"
    assert found.copy().state().check().stated == verdict


def test_a_leak_ends_early_and_nothing_to_see_does_too() -> None:
    opened = {kind: honest(kind).claim("c-eps-procedure")["opened"] for kind in MEANS}
    assert opened == {"leak": 12, "clean": 36, "half": 64}


def test_a_guarantee_with_delta_and_one_in_one_direction() -> None:
    knobs = sequential_knobs(
        means=LEAK, guarantee="certified", method="newton", tested_eps="1/10", tested_delta="1/5000"
    )
    assert fake_sequential(knobs).check().derived == "REFUTED"

    def forward(plan: Json) -> None:
        plan["procedure"] |= {"direction": "forward", "controlSlots": 20, "controlGuesses": 14}

    # Retrained models alone are never guessed to be unlearned by this threshold, so nothing was looked at.
    for means, verdict in ((LEAK, "REFUTED"), (CLEAN, "INCONCLUSIVE")):
        knobs = sequential_knobs(forward, means=means, guarantee="certified", method="newton", tested_eps="1/10")
        found = fake_sequential(knobs)
        assert found.check().derived == verdict, found.check()
        assert found.claim("c-eps-procedure")["abstained"] > 0


def test_withheld_guesses_count_as_none() -> None:
    found = fake_sequential(sequential_knobs(means=HALF_LEAK), margin=400_000)
    result = found.check()
    assert not result.rejected, result.rejected
    claim = found.claim("c-eps-procedure")
    assert claim["abstained"] > 5
    power = found.claim("c-power-procedure")
    assert power["bets"] == claim["right"] + claim["wrong"] < claim["opened"]


def test_too_few_bets_withhold_a_pass() -> None:
    found = fake_sequential(sequential_knobs(means=CLEAN), margin=3_300_000)
    result = found.check()
    assert result.derived == "INCONCLUSIVE"
    assert "procedure: its size does not reach the planned power" in result.reasons
    assert found.claim("c-eps-procedure")["ended"] == "budget"


def test_failed_runs_lose_bets_and_cannot_hide_a_refutation() -> None:
    failed = frozenset(("main", slot) for slot in range(12, 40))
    found = fake_sequential(sequential_knobs(means=HALF_LEAK, failed=failed))
    result = found.check()
    assert not result.rejected, result.rejected
    assert found.claim("c-eps-procedure")["failed"] == 28
    assert result.derived == "INCONCLUSIVE"
    assert "procedure: failed runs could hide a refutation" in result.reasons
    few = fake_sequential(sequential_knobs(means=LEAK, failed=frozenset({("main", 1), ("main", 6)})))
    assert few.check().derived == "REFUTED"
    assert few.claim("c-eps-procedure")["opened"] > 12


def test_a_positive_control_that_is_missed_goes_on_to_the_budget() -> None:
    found = fake_sequential(sequential_knobs(means=CLEAN | {"original": 1.0}))
    result = found.check()
    assert result.derived == "INCONCLUSIVE"
    assert any("its positive control was not detected" in reason for reason in result.reasons)
    assert found.claim("c-eps-procedure")["ended"] == "budget"


def test_a_failed_negative_control_voids_a_refutation() -> None:
    found = fake_sequential(sequential_knobs(means=LEAK | {"rerun": 9.0}))
    result = found.check()
    assert found.claim("c-neg-procedure")["outcome"] == "failed"
    assert result.derived == "INCONCLUSIVE"


def test_identity_returns_its_originals() -> None:
    def same(rows: Rows) -> None:
        slots = rows.get("slots", [])
        main = {row["slot"]: row for row in slots if row.get("group") == "main"}
        for row in slots:
            if row.get("group") == "positive":
                row |= {key: main[row["slot"]][key] for key in ("model", "signals", "score")}

    found = fake_sequential(sequential_knobs(means=LEAK, method="identity", edit_rows=same))
    assert not found.check().rejected, found.check().rejected
    other = fake_sequential(sequential_knobs(means=LEAK, method="identity"))
    assert "is not the original, though the method is said to change nothing" in refused(other.check())


# Where the sequence ends is the plan's business


@pytest.mark.parametrize(("kind", "goes_on"), [("leak", 4), ("clean", 4), ("leak", -4), ("clean", -4), ("half", -4)])
def test_opening_more_or_fewer_slots_than_the_rule_is_refused(kind: str, goes_on: int) -> None:
    found = fake_sequential(sequential_knobs(means=MEANS[kind]), goes_on=goes_on)
    message = refused(found.check())
    assert "slots were opened; the plan's rule " in message
    assert ("ends after" in message) == (goes_on > 0)


def test_half_a_round_is_refused() -> None:
    found = fake_sequential(sequential_knobs(means=CLEAN), goes_on=-2)
    assert "34 slots were opened; the plan's rule goes on beyond that" in refused(found.check())


# Rows that do not belong


def _drop(rows: list[Json], group: str, slot: int) -> list[Json]:
    return [row for row in rows if (row.get("group"), row.get("slot")) != (group, slot)]


def _edit(rows: list[Json], group: str, slot: int, **changes: Any) -> list[Json]:
    return [row | changes if (row.get("group"), row.get("slot")) == (group, slot) else row for row in rows]


def _other_role(rows: list[Json]) -> list[Json]:
    return [
        row | {"role": {"unlearned": "retrained", "retrained": "unlearned"}[row["role"]]}
        if (row.get("group"), row.get("slot")) == ("main", 3)
        else row
        for row in rows
    ]


FORGED = "ab" * 32
BAD_ROWS: list[tuple[str, Callable[[list[Json]], list[Json]], str]] = [
    ("a slot in the middle is gone", lambda r: _drop(_drop(r, "main", 5), "positive", 5), "main 5 .* is missing"),
    ("no slot at all", lambda r: [row for row in r if row.get("group") not in ("main", "positive")], "0 slots opened"),
    ("a control slot is gone", lambda r: _drop(r, "negative", 2), "negative 2 .* is missing"),
    ("a control row is gone", lambda r: _drop(r, "positive", 2), "positive 2 .* is missing"),
    ("a slot stands twice", lambda r: [*r, next(row for row in r if row.get("group") == "main")], "stands twice"),
    ("a role against its coin", _other_role, "role"),
    ("a threshold of its own", lambda r: _edit(r, "main", 9, threshold=1), "main 9: guessed at 1 with margin 0"),
    ("a margin of its own", lambda r: _edit(r, "main", 9, margin=5), "main 9: guessed at .* with margin 5"),
    ("a negative margin", lambda r: _edit(r, "main", 9, margin=-5), "margin: -5"),
    ("no threshold", lambda r: [{k: v for k, v in row.items() if k != "threshold"} for row in r], "threshold: missing"),
    (
        "a first round that the pilots did not fix",
        lambda r: [row | {"threshold": 17} if "threshold" in row and row["slot"] < 4 else row for row in r],
        "main 0: guessed at 17 with margin 0; its round has",
    ),
    ("another seed", lambda r: [r[0] | {"seed": FORGED}, *r[1:]], "not the seed that the plan commits to"),
    ("a nonce", lambda r: [r[0] | {"nonce": "00"}, *r[1:]], "nonce"),
    ("a row of another group", lambda r: [*r, r[-1] | {"group": "reference"}], "was not planned"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), BAD_ROWS, ids=[name for name, _, _ in BAD_ROWS])
def test_rows_that_do_not_belong_are_refused(
    name: str, change: Callable[[list[Json]], list[Json]], message: str
) -> None:
    found = with_rows(honest("leak"), change(rows_of(honest("leak"))))
    result = found.check()
    assert result.rejected, name
    assert re.search(message, refused(result)), refused(result)
    assert result.derived == "INCONCLUSIVE"


def _slot_of(rows: list[Json], role: str) -> int:
    return next(row["slot"] for row in rows if row.get("role") == role and row["group"] == "main")


def test_one_model_cannot_stand_for_two_runs() -> None:
    rows = rows_of(honest("leak"))
    first, second = [row["model"] for row in rows if row.get("role") == "unlearned"][:2]
    twice = [row | {"model": first} if row.get("model") == second else row for row in rows]
    assert "one model digest stands for two runs" in refused(with_rows(honest("leak"), twice).check())
    slot = _slot_of(rows, "retrained")
    apart = _edit(rows, "positive", slot, model=FORGED)
    assert "its two rows name two models" in refused(with_rows(honest("leak"), apart).check())
    negative = next(row["model"] for row in rows if row.get("group") == "negative")
    shared = [row | {"model": negative} if row.get("model") == first else row for row in rows]
    assert "one model digest stands for two runs" in refused(with_rows(honest("leak"), shared).check())


def test_one_model_has_one_score_in_the_first_round() -> None:
    rows = rows_of(honest("clean"))
    slot = next(row["slot"] for row in rows if row.get("role") == "retrained" and row["group"] == "main")
    assert slot < 4
    changed = _edit(rows, "positive", slot, score=1)
    assert "two scores of one model in the first round" in refused(with_rows(honest("clean"), changed).check())


def test_a_judged_model_cannot_have_fitted_the_score() -> None:
    found = honest("leak").copy()
    pilot = json.loads(found.files["evidence/pilots.jsonl"].splitlines()[0])["model"]
    rows = rows_of(found)
    first = next(row["model"] for row in rows if row.get("role") == "unlearned")
    changed = with_rows(found, [row | {"model": pilot} if row.get("model") == first else row for row in rows])
    assert "both fitted the score and are judged" in refused(changed.check())


# Claims that do not follow


def test_every_changed_number_is_refused() -> None:
    """Each field of the four claims, moved a little: refused, or it never carried a number."""
    free = {"id", "type"}
    for kind in ("leak", "clean"):
        for name in ("c-eps-procedure", "c-pos-procedure", "c-neg-procedure", "c-power-procedure"):
            for path, value in leaves(honest(kind).claim(name)):
                key = path[0]
                if key in free:
                    continue
                changed = honest(kind).copy()
                changed.claim(name)[key] = _moved(value)
                result = changed.check()
                assert result.rejected, (kind, name, key)


def _moved(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if value is None:
        return 1
    if isinstance(value, int):
        return value + 1
    if value[:1].isdigit():
        return "1/3" if "/" in value else f"{float(value) + 1e-4:.4f}"
    return {"refuted": "nothing", "nothing": "budget", "detected": "missed", "sound": "failed"}.get(value, "other")


@pytest.mark.parametrize("name", ["c-eps-procedure", "c-pos-procedure", "c-neg-procedure", "c-power-procedure"])
def test_a_claim_that_is_left_out_withholds_a_pass(name: str) -> None:
    found = honest("clean").copy()
    found.drop(name)
    found.predicate.pop("plots")
    assert found.check().derived == "INCONCLUSIVE"


def test_the_assumption_must_be_listed() -> None:
    found = honest("leak").copy()
    found.predicate["assumptions"].remove("A13")
    assert "rests on A13" in refused(found.check())
    assert "A11" not in found.predicate["assumptions"]  # the pilots alone did not fit the score


def test_another_claim_type_does_not_answer_the_question() -> None:
    found = honest("leak").copy()
    found.claim("c-eps-procedure")["type"] = "eps-coinflip"
    assert "answers this question by eps-sequential" in refused(found.check())


def test_a_count_against_one_threshold_has_no_place_here() -> None:
    found = honest("leak").copy()
    count = {
        "id": "c-count",
        "type": "count",
        "evidence": "slots",
        "group": "unlearned",
        "threshold": 0,
        "k": 1,
        "n": 1,
    }
    found.predicate["claims"].append(count)
    assert found.check().rejected


# Plans that no audit can follow


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lambdas": ["0.5"]}, r"lambdas: \['0.5'\]; this checker knows"),
        ({"slots": 5000}, "slots: 5000"),
        ({"round": 0}, "round: 0"),
        ({"round": 65}, "round: 65"),
        ({"controlGuesses": 18}, "controlGuesses: 18 over 16 slots"),
        ({"controlGuesses": 7}, "controlGuesses: 7 over 16 slots"),
        ({"direction": "forward"}, "only a certified guarantee can be stated in one direction"),
    ],
)
def test_a_plan_of_impossible_sizes_is_refused(change: Json, message: str) -> None:
    played = Played(sequential_knobs(means=LEAK))
    found = honest("leak").copy()
    plan = json.loads(played.bytes)
    plan["procedure"] |= change
    found.replace("plan.json", json.dumps(plan, sort_keys=True, separators=(",", ":")).encode())
    details = " ".join(claim.detail for claim in found.check().rejected)
    assert re.search(message, details), details


def test_slots_that_share_an_original_are_refused() -> None:
    found = fake_sequential(sequential_knobs(lambda plan: plan.update(original="fixed"), means=LEAK))
    assert "slots that share an original cannot be judged one after another" in refused(found.check())


def test_a_control_that_can_never_fail_is_refused() -> None:
    small = sequential_knobs(lambda p: p["procedure"].update(controlSlots=8, controlGuesses=6), means=LEAK)
    assert "a control this small can never fail" in refused(fake_sequential(small).check())


# The picture


@pytest.mark.parametrize(
    "change",
    [
        lambda plot: plot["series"][0].update(marks="R" * 13),
        lambda plot: plot["series"][0].update(role="original"),
        lambda plot: plot["series"].pop(),
        lambda plot: plot.update(wanted="2"),
        lambda plot: plot.update(wanted=None),
        lambda plot: plot.update(tested="0.6000"),
        lambda plot: plot.update(kind="pools"),
    ],
)
def test_a_picture_that_shows_something_else_is_refused(change: Callable[[Json], None]) -> None:
    found = honest("leak").copy()
    change(found.predicate["plots"]["procedure"])
    with pytest.raises(Rejected, match=r"plots\.procedure"):
        found.check()


def test_such_a_picture_stands_under_its_own_name_alone() -> None:
    found = honest("leak").copy()
    found.predicate["plots"]["other"] = found.predicate["plots"]["procedure"]
    with pytest.raises(Rejected, match="stands under another name"):
        found.check()


@pytest.mark.parametrize("kind", list(MEANS))
def test_the_report_says_how_it_ended(kind: str) -> None:
    found = honest(kind).copy().state()
    page = render_skeleton(found.predicate).decode()
    claim = found.claim("c-eps-procedure")
    ended = {
        "refuted": "ended because the guarantee under test was exceeded",
        "nothing": "ended because nothing was seen at the planned power",
        "budget": "ended with the last planned slot",
    }
    assert ended[claim["ended"]] in page
    assert f"{claim['opened']} of at most 64 slots opened" in page
    assert "Wealth" in page
    assert "<polyline" in page
    assert wording()("assumption.A13")[:40] in page
    assert wording()("test.eps-sequential")[:30] in page
    assert wording().named("limitation", "L14")
    written = report_rows(found.predicate["claims"], method="npo", model="model.pt", supports=("c-eps-procedure",))
    row = next(row for row in written if row.id == "c-eps-procedure")
    assert (row.supports, row.basis) == (True, "recounted")


def test_the_report_draws_what_it_is_given() -> None:
    found = honest("clean").copy()
    plot = found.predicate["plots"]["procedure"]
    plot["wanted"] = None
    assert "refutes:" not in render_skeleton(found.predicate).decode()
    for bad in ("", "RX", "R" * 5000):
        plot["series"][0]["marks"] = bad
        with pytest.raises(Rejected, match=r"series\.marks"):
            render_skeleton(found.predicate)


def test_without_its_evidence_nothing_is_claimed() -> None:
    found = honest("leak").copy()
    del found.files[SLOTS]
    result = found.check()
    assert result.derived == "INCONCLUSIVE"
    assert {claim.status for claim in result.claims if claim.type in ("eps-sequential", "control")} == {"unverified"}
