"""The checker on audits of one given model: what may follow, what never may, and which lies it refuses."""

import copy
import hashlib
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
from fake_certificate import KINDS, Fake, lines, plots_of, predicate_of, rate_claims
from fake_evidence import SEED, Json, Knobs, digest, plan_of

from cu_certificates.check.fields import Node, printed
from cu_certificates.check.label_table import MAX_DRAWS, read_labels
from cu_certificates.check.power import smallest_references
from cu_certificates.check.strict import Rejected, canonical
from cu_certificates.check.tails import group_bound
from cu_certificates.report import render_skeleton

ALPHA = Fraction(1, 20)
NAME = "evidence/labels.jsonl"
ASSUMED = ["A1", "A2", "A4", "A5", "A6", "A7", "A8", "A9", "A12"]
REQUEST, NEVER, PERMUTATIONS = 20, 60, 399
KINDS["labels"] = "labels"


def plan_json(tested: str = "1/2", **sizes: Any) -> Json:
    found = plan_of(Knobs(questions=("artifact",), method=None, tested_eps=tested))
    found["attacks"] = ["label-p"]
    found["artifact"] = {"design": "labels", "permutations": PERMUTATIONS, "request": REQUEST, "never": NEVER} | sizes
    found["score"] = {"name": "margin", "version": 1}
    found["request"]["size"] = 25
    del found["procedure"]
    return found


def record_rows(*, leak: float = 0.0, odd: float = 0.0, before: float | None = 3.0, seed: int = 0) -> list[Json]:
    """Records of four strata, sorted as they must be; ``leak`` shifts scores of the request, ``odd`` its features."""
    rng, found = random.Random(seed), []
    for row in range(REQUEST + NEVER):
        inside = row < REQUEST
        one: Json = {
            "kind": "record",
            "group": "request" if inside else "never",
            "stratum": row % 4,
            "score": round(1e6 * (rng.gauss(0, 1) + leak * inside)),
            "blind": [round(1e6 * (rng.gauss(0, 1) + odd * inside)) for _ in range(3)],
        }
        if before is not None:
            one["original"] = round(1e6 * (rng.gauss(0, 1) + before * inside))
        found.append(one)
    found.sort(key=lambda one: (one["stratum"], one["score"], one["blind"], one.get("original")))
    for place, one in enumerate(found):
        one["near"] = sorted(rng.sample([other for other in range(len(found)) if other != place], 2))
    return found


def head() -> list[Json]:
    return [
        {"kind": "opening", "seed": SEED.hex(), "nonce": ""},
        {"kind": "subject", "file": digest("file"), "model": digest("model"), "signals": digest("signals")},
    ]


def claims_of(plan: Json, rows: list[Json], plan_digest: str) -> list[Json]:
    """The claims of an honest prover, from the table that the checker reads."""
    table = read_labels(
        [Node(copy.deepcopy(row), "row") for row in rows], "rows", plan=Node(plan, "plan"), plan_digest=plan_digest
    )
    p, permutations = table.judged[0], plan["artifact"]["permutations"]
    eps = Fraction(plan["subjects"][0]["testedEps"])
    common = {"question": "artifact", "evidence": "labels"}
    sizes = {key: plan["artifact"][key] for key in ("permutations", "request", "never")}

    def bound(of: str) -> Fraction:
        return group_bound(p[of], ALPHA, Fraction(0))

    least = smallest_references(ALPHA, eps, Fraction(0))
    claims: list[Json] = [
        {"id": "c-model", "type": "model-digest", "digest": {"sha256": digest("file")}},
        {"id": "c-p-artifact", "type": "label-p", **common, **sizes, "p": str(p["score"]),
         "asUnusual": int(p["score"] * (permutations + 1))},
        {"id": "c-eps-artifact", "type": "eps-group", "question": "artifact", "from": "c-p-artifact",
         "alpha": str(ALPHA), "delta": "0", "bound": printed(bound("score")), "planned": True},
        {"id": "c-neg-artifact", "type": "control", "sign": "negative", **common, "p": str(p["blind"]),
         "tail": "1/100", "outcome": "sound" if p["blind"] > Fraction(1, 100) else "failed"},
        {"id": "c-power-artifact", "type": "power", "question": "artifact", "alpha": str(ALPHA), **sizes,
         "testedEps": str(eps), "smallest": least, "reached": least is not None and permutations >= least,
         "maxEps": printed(group_bound(Fraction(1, permutations + 1), ALPHA, Fraction(0)))},
    ]  # fmt: skip
    if "original" in p:
        claims.insert(
            3,
            {"id": "c-pos-artifact", "type": "control", "sign": "positive", **common, "alpha": str(ALPHA),
             "p": str(p["original"]), "bound": printed(bound("original")),
             "outcome": "detected" if bound("original") > eps else "missed"},
        )  # fmt: skip
    return claims


def certificate(rows: list[Json] | None = None, plan: Json | None = None) -> Fake:
    plan = plan_json() if plan is None else plan
    rows = head() + (record_rows() if rows is None else rows)
    plan_bytes = canonical(plan)
    utility: list[Json] = [{"kind": "record", "group": "held-out", "score": int(row > 3)} for row in range(40)]
    files = {"plan.json": plan_bytes, NAME: lines(rows), "evidence/utility.jsonl": lines(utility)}
    claims = claims_of(plan, rows, hashlib.sha256(plan_bytes).hexdigest())
    pair = rate_claims("held-out", "utility", "held-out", 1, [row["score"] for row in utility], "lower")
    claims += [*pair, {"id": "c-utility-held-out", "type": "utility", "set": "held-out", "from": "c-cp-held-out",
                       "accuracyAtLeast": pair[1]["bound"]}]  # fmt: skip
    plots = {"eps": plots_of(claims, {}, plan["subjects"][0]["testedEps"])["eps"], "artifact": pools(rows[2:])}
    found = predicate_of(plan, files, claims, plots)
    found["assumptions"] = list(ASSUMED)
    found["limitations"] = ["L1", "L13"]
    return Fake(found, files)


def pools(records: list[Json]) -> Json:
    def counts(group: str) -> list[int]:
        scores = [row["score"] for row in records if row["group"] == group]
        return [sum(score < 0 for score in scores), sum(score >= 0 for score in scores)]

    return {
        "kind": "pools",
        "title": "Records",
        "unit": "score",
        "binEdges": ["-9.00", "0.00", "9.00"],
        "series": [{"label": group, "role": group, "counts": counts(group)} for group in ("never", "request")],
    }


# --- Verdicts --------------------------------------------------------------------------------------------------------

CLEARS_NOT = "artifact: compares with no retrained model, so it can refute but never clear"


def test_a_leak_is_refuted() -> None:
    result = certificate(record_rows(leak=1.5)).state().check()
    assert [claim.detail for claim in result.rejected] == []
    assert (result.derived, result.stated) == ("REFUTED", "REFUTED")
    assert result.reasons == ("artifact: eps >= 2.9957 exceeds the guarantee under test, eps* = 0.5000",)
    assert {claim.type: claim.status for claim in result.claims if "artifact" in claim.id} == {
        "label-p": "proved",
        "eps-group": "assumed",
        "control": "proved",
        "power": "proved",
    }


def test_over_forgetting_is_refuted_too() -> None:
    assert certificate(record_rows(leak=-1.5)).check().derived == "REFUTED"


def test_a_clean_model_with_both_controls_right_is_still_inconclusive() -> None:
    found = certificate(record_rows(seed=1)).state()
    result = found.check()
    assert [found.claim(f"c-{sign}-artifact")["outcome"] for sign in ("pos", "neg")] == ["detected", "sound"]
    assert found.claim("c-power-artifact")["reached"] is True
    assert (result.derived, result.reasons) == ("INCONCLUSIVE", (CLEARS_NOT,))


def test_nobody_can_state_that_it_is_not_refuted() -> None:
    found = certificate(record_rows(seed=1)).state()
    found.predicate["verdict"]["value"] = "NOT_REFUTED"
    result = found.check()
    assert (result.stated, result.derived) == ("NOT_REFUTED", "INCONCLUSIVE")


def test_a_request_of_another_kind_voids_even_a_refutation() -> None:
    found = certificate(record_rows(leak=1.5, odd=1.5))
    assert found.claim("c-neg-artifact")["outcome"] == "failed"
    result = found.state().check()
    assert result.derived == "INCONCLUSIVE"
    assert result.reasons == ("artifact: its negative control failed, so it makes no claim",)


def test_neighbours_alone_can_fail_the_negative_control() -> None:
    rows = record_rows()
    for group in ("request", "never"):
        own = [place for place, row in enumerate(rows) if row["group"] == group]
        for index, place in enumerate(own):
            rows[place]["near"] = sorted(own[(index + step) % len(own)] for step in (1, 2))
    plan = plan_json(permutations=1999)  # ten statistics share the control's p-value, so ranks of 1 are not rare
    assert certificate(rows, plan).claim("c-neg-artifact")["outcome"] == "failed"


def test_without_the_original_a_leak_is_refuted_and_its_absence_is_said() -> None:
    result = certificate(record_rows(leak=1.5, before=None)).check()
    assert result.derived == "REFUTED"
    result = certificate(record_rows(before=None, seed=1)).check()
    assert result.reasons == ("artifact: its positive control is missing", CLEARS_NOT)


def test_a_missed_positive_control_voids_no_refutation() -> None:
    found = certificate(record_rows(leak=1.5, before=0.0, seed=2))
    assert found.claim("c-pos-artifact")["outcome"] == "missed"
    assert found.check().derived == "REFUTED"
    assert "positive control was not detected" in certificate(record_rows(before=0.0, seed=1)).check().reasons[0]


def test_an_exact_method_is_tested_at_zero() -> None:
    plan = plan_json("0")
    plan["subjects"][0] |= {"method": "retrain", "guarantee": "exact", "level": "EXACT_IN_LAW"}
    result = certificate(record_rows(leak=0.9), plan).check()
    assert (result.derived, [claim.detail for claim in result.rejected]) == ("REFUTED", [])


def test_without_its_file_nothing_follows() -> None:
    found = certificate(record_rows(leak=1.5)).state()
    del found.files[NAME]
    result = found.check()
    assert (result.derived, result.missing) == ("INCONCLUSIVE", (NAME,))
    unseen = {claim.id for claim in result.claims if claim.status == "unverified"}
    assert unseen == {f"c-{part}-artifact" for part in ("p", "eps", "pos", "neg", "power")}


# --- Claims that do not follow ---------------------------------------------------------------------------------------

LIES: list[tuple[str, str, Any, str]] = [
    ("c-p-artifact", "p", "1/800", "the evidence gives 1/400"),
    ("c-p-artifact", "p", "1/200", "the evidence gives 1/400"),
    ("c-p-artifact", "asUnusual", 2, "asUnusual: 2; expected 1"),
    ("c-p-artifact", "permutations", 9999, "the plan says 399"),
    ("c-p-artifact", "request", 19, "the plan says 20"),
    ("c-p-artifact", "never", 61, "the plan says 60"),
    ("c-p-artifact", "evidence", "utility", "expected labels"),
    ("c-p-artifact", "type", "conformal-p", "the plan answers this question by label-p"),
    ("c-eps-artifact", "bound", "2.9958", "the evidence gives 2.9957"),
    ("c-eps-artifact", "bound", "2.9956", "the evidence gives 2.9957"),
    ("c-eps-artifact", "alpha", "1/10", "the plan gives this question 1/20"),
    ("c-pos-artifact", "p", "1", "the evidence gives 1/400"),
    ("c-pos-artifact", "bound", "0.0000", "the evidence gives 2.9957"),
    ("c-pos-artifact", "outcome", "missed", "expected detected"),
    ("c-neg-artifact", "p", "1/400", "the evidence gives"),
    ("c-neg-artifact", "tail", "1/10", "expected 1/100"),
    ("c-neg-artifact", "outcome", "failed", "expected sound"),
    ("c-neg-artifact", "evidence", "artifact", "expected labels"),
    ("c-power-artifact", "smallest", 3, "expected 32"),
    ("c-power-artifact", "maxEps", "9.0000", "expected '2.9957'"),
    ("c-power-artifact", "reached", False, "the sizes give True"),
    ("c-power-artifact", "permutations", 999, "the plan says 399"),
]


@pytest.mark.parametrize(("identifier", "key", "value", "said"), LIES)
def test_a_claim_that_does_not_follow_is_rejected(identifier: str, key: str, value: Any, said: str) -> None:
    found = certificate(record_rows(leak=1.5))
    found.claim(identifier)[key] = value
    rejected = {claim.id: claim.detail for claim in found.check().rejected}
    assert said in rejected[identifier]


IRRELEVANT = {("c-neg-artifact", "id"), ("c-pos-artifact", "id"), ("c-power-artifact", "id")}


def test_every_field_of_every_claim_is_held() -> None:
    """Whatever is changed in a claim of the question, something is rejected, or refused as a whole."""
    good = certificate(record_rows(leak=1.5)).state()
    for index, claim in enumerate(good.predicate["claims"]):
        if "artifact" not in claim["id"]:
            continue
        for key, value in claim.items():
            found = good.copy()
            changed = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else f"1{value}"
            found.predicate["claims"][index][key] = changed
            try:
                held = bool(found.check().rejected)
            except Rejected:
                held = True
            assert held is ((claim["id"], key) not in IRRELEVANT), (claim["id"], key)


@pytest.mark.parametrize("name", ASSUMED)
def test_each_assumption_must_be_listed(name: str) -> None:
    found = certificate(record_rows(leak=1.5))
    found.predicate["assumptions"].remove(name)
    assert any(f"rests on {name}" in claim.detail for claim in found.check().rejected)


def test_a_positive_control_needs_scores_of_the_original() -> None:
    found = certificate(record_rows(leak=1.5, before=None))
    claim = {"id": "c-pos-artifact", "type": "control", "sign": "positive", "question": "artifact",
             "evidence": "labels", "alpha": "1/20", "p": "1/400", "bound": "2.9957", "outcome": "detected"}  # fmt: skip
    found.predicate["claims"].append(claim)
    assert [claim.id for claim in found.check().rejected] == ["c-pos-artifact"]
    assert "the evidence holds no scores of an original model" in found.check().rejected[0].detail


@pytest.mark.parametrize("series", [0, 1])
def test_a_plot_of_records_must_show_the_evidence(series: int) -> None:
    found = certificate(record_rows(leak=1.5))
    assert found.check().rejected == ()
    found.predicate["plots"]["artifact"]["series"][series]["counts"][0] += 1
    with pytest.raises(Rejected, match="the evidence gives"):
        found.check()


# --- Evidence and plans that are refused -----------------------------------------------------------------------------


def altered(change: Callable[[list[Json]], object], plan: Json | None = None) -> str:
    """Change the rows of a good certificate; returns why the p-value is rejected."""
    found = certificate(record_rows(leak=1.5), plan)
    rows = head() + record_rows(leak=1.5)
    change(rows)
    found.replace(NAME, lines(rows))
    rejected = {claim.id: claim.detail for claim in found.check().rejected}
    return rejected.get("c-p-artifact", "")


def _swap(rows: list[Json]) -> None:
    rows[2], rows[3] = rows[3], rows[2]


ALTERED: list[tuple[str, Callable[[list[Json]], object], str]] = [
    ("another seed", lambda rows: rows[0].update(seed="00" * 32), "not the seed that the plan commits to"),
    ("a nonce", lambda rows: rows[0].update(nonce="ab"), "takes no challenge"),
    ("another file", lambda rows: rows[1].update(file=digest("other")), "not the audited model"),
    ("no signals", lambda rows: rows[1].pop("signals"), "signals: missing"),
    ("another order", _swap, "not sorted"),
    ("a record fewer", lambda rows: rows.pop(), "81 lines; expected an opening, a subject and 80 records"),
    ("a record more", lambda rows: rows.append(dict(rows[-1])), "83 lines"),
    ("another group", lambda rows: rows[5].update(group="retained"), "expected request or never"),
    ("a group changed", lambda rows: next(r for r in rows[2:] if r["group"] == "never").update(group="request"),
     "21 records of the request and 59 others; planned: (20, 60)"),
    ("a score changed", lambda rows: rows[81].update(score=2**52), "the evidence gives"),
    ("a score that is no integer", lambda rows: rows[5].update(score=True), "expected a whole number"),
    ("a stratum out of range", lambda rows: rows[81].update(stratum=2**40), "stratum: 1099511627776; expected"),
    ("no blind numbers", lambda rows: [row.update(blind=[]) for row in rows[2:]], "blind: 0 numbers"),
    ("too many blind numbers", lambda rows: [row.update(blind=[1] * 9) for row in rows[2:]], "blind: 9 numbers"),
    ("a blind number fewer", lambda rows: rows[2]["blind"].pop(), "differ in how many numbers"),
    ("a blind text", lambda rows: rows[2].update(blind=["1", 2, 3]), "blind: expected whole numbers"),
    ("one original fewer", lambda rows: rows[2].pop("original"), "differ in how many numbers"),
    ("a neighbour outside", lambda rows: rows[2].update(near=[80]), "near: expected whole numbers from 0 to 79"),
    ("a neighbour twice", lambda rows: rows[2].update(near=[3, 3]), "near: expected at most 8 different positions"),
    ("too many neighbours", lambda rows: rows[2].update(near=list(range(9))), "near: expected at most 8"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [a[1:] for a in ALTERED], ids=[a[0] for a in ALTERED])
def test_altered_evidence_is_refused(change: Callable[[list[Json]], object], said: str) -> None:
    assert said in altered(change)


def test_a_stratum_without_a_counterpart_is_refused() -> None:
    def alone(rows: list[Json]) -> None:
        lonely = next(row for row in rows[2:] if row["group"] == "request")
        rows.remove(lonely)
        rows.append(lonely | {"stratum": 9})

    assert "stratum 9 holds no never-trained record" not in altered(lambda rows: None)
    found = altered(alone)
    assert "stratum 9 holds" in found
    assert "nothing to compare with" in found


PLANS: list[tuple[str, Json, str]] = [
    ("permutations", {"permutations": 0}, "expected a whole number from 1"),
    ("permutations", {"permutations": 10**6}, "to 999999"),
    ("draws", {"permutations": 999_999, "request": 11}, f"expected at most {MAX_DRAWS} draws"),
    ("more records than asked", {"request": 26}, "26 records; the request has fewer"),
    ("no request", {"request": 0}, "request: 0"),
]


@pytest.mark.parametrize(("sizes", "said"), [p[1:] for p in PLANS], ids=[p[0] for p in PLANS])
def test_a_plan_out_of_range_is_refused(sizes: Json, said: str) -> None:
    found = certificate(record_rows(leak=1.5))
    plan = plan_json(**sizes)
    found.replace("plan.json", canonical(plan))
    details = {claim.id: claim.detail for claim in found.check().rejected}
    assert said in details["c-p-artifact"]


def test_another_design_needs_another_test() -> None:
    plan = plan_json()
    plan["artifact"]["design"] = "references"
    found = certificate(record_rows(leak=1.5))
    found.replace("plan.json", canonical(plan))
    with pytest.raises(Rejected, match="attacks"):
        found.check()


def test_a_control_of_equal_numbers_can_never_fail_and_is_refused() -> None:
    rows = record_rows(leak=1.5)
    for row in rows:
        row |= {"blind": [0], "near": []}
    rejected = {claim.id: claim.detail for claim in certificate(rows).check().rejected}
    assert "a control this small can never fail" in rejected["c-neg-artifact"]


def test_few_permutations_or_few_arrangements_can_never_fail_the_control() -> None:
    rejected = {
        claim.id: claim.detail
        for claim in certificate(record_rows(leak=1.5), plan_json(permutations=98)).check().rejected
    }
    assert "99 different assignments; a control this small can never fail" in rejected["c-neg-artifact"]


# --- The page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leak", [0.0, 1.5])
def test_the_page_says_what_was_compared(leak: float) -> None:
    page = render_skeleton(certificate(record_rows(leak=leak, seed=1)).state().predicate).decode()
    assert "We compared what the model says about those records" in page
    assert "models that were trained again without those records" not in page.split("<footer")[0].split("glossary")[0]
    assert "numbers that no audited model made must find nothing" in page
    assert "Such a comparison can refute and never clears" in page
    assert "A whole class, one person" in page
    assert "399 permutations" in page
    assert "Records in each bin" in page
    assert "No text for this entry" not in page
    assert "cannot read" not in page
