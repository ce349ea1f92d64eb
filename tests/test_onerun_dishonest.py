"""A dishonest signer of a drill: bent evidence, bent plans, another file; and every field of a certificate changed."""

import copy
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import SLOW
from fake_certificate import Fake, leaves, lines
from fake_evidence import Json, Knobs, Rows, digest
from fake_evidence import plan_of as coin_plan
from fake_onerun import NAME, REFERENCES, Run, fake_onerun, honest, onerun_plan, reference_rows, refused, rows_of

from cu_certificates.check.checker import check_payload
from cu_certificates.check.main import accepted
from cu_certificates.check.strict import Rejected, canonical

LEAK, CLEAR = 3.0, 0.0


def with_rows(found: Fake, rows: list[Json], name: str = NAME) -> Fake:
    changed = found.copy()
    changed.replace(name, lines(rows))
    return changed


# --- Evidence of a dishonest signer ----------------------------------------------------------------------------------


def candidate(rows: list[Json], index: int = 0) -> Json:
    return next(row for row in rows if row["kind"] == "candidate" and row["index"] == index)


def of(rows: list[Json], kind: str) -> Json:
    return next(row for row in rows if row["kind"] == kind)


def _flip(rows: list[Json]) -> None:
    row = candidate(rows)
    row["role"] = "out" if row["role"] == "in" else "in"


def _swap_scores(rows: list[Json]) -> None:
    """Give to the worst guess the score of the best."""
    ranked = sorted((row for row in rows if row["kind"] == "candidate"), key=lambda row: row["score"])
    wrong, right = next(row for row in reversed(ranked) if row["role"] == "out"), ranked[-1]
    wrong["score"], right["score"] = right["score"] + 1, ranked[0]["score"] - 1


ALTERED: list[tuple[str, Callable[[list[Json]], object], str]] = [
    ("another seed", lambda rows: of(rows, "opening").update(seed="00" * 32), "not the seed that the plan commits to"),
    ("a nonce", lambda rows: of(rows, "opening").update(nonce="ab"), "takes no challenge"),
    ("no opening", lambda rows: rows.pop(0), "opening 0 is missing"),
    ("two openings", lambda rows: rows.append(dict(rows[0])), "opening 0 stands twice"),
    ("another file", lambda rows: of(rows, "subject").update(file=digest("other")), "not the audited model"),
    ("no signals", lambda rows: of(rows, "original").pop("signals"), "signals: missing"),
    ("a coin turned round", _flip, "role: "),
    ("scores exchanged", _swap_scores, "the evidence gives"),
    ("a candidate fewer", lambda rows: rows.remove(candidate(rows, 7)), "candidate 7 is missing"),
    ("a candidate twice", lambda rows: rows.append(dict(candidate(rows))), "candidate 0 stands twice"),
    ("a candidate more", lambda rows: rows.append(candidate(rows) | {"index": 60}), "candidate 60 was not planned"),
    ("another number", lambda rows: candidate(rows).update(index=10_000_001), "index: 10000001; expected"),
    ("a score that is no integer", lambda rows: candidate(rows).update(score="1"), "expected a whole number"),
    ("a score that is a truth value", lambda rows: candidate(rows).update(score=True), "expected a whole number"),
    ("a score that is null", lambda rows: candidate(rows).update(score=None), "expected a whole number"),
    ("a control fewer", lambda rows: rows.remove(of(rows, "rerun")), "rerun 0 is missing"),
    ("a control more", lambda rows: rows.append(of(rows, "rerun") | {"slot": 3}), "rerun 3 was not planned"),
    ("a control score fewer", lambda rows: candidate(rows)["reruns"].pop(), "reruns: expected 3 whole numbers"),
    ("a control score that is text", lambda rows: candidate(rows)["reruns"].append("1"), "reruns: expected 3"),
    ("a control score of truth", lambda rows: candidate(rows).update(reruns=[True, 1, 1]), "reruns: expected 3"),
    ("no control scores", lambda rows: candidate(rows).pop("reruns"), "reruns: missing"),
    ("an unknown line", lambda rows: rows.append({"kind": "note"}), "kind: 'note'; expected"),
    ("one model in two places", lambda rows: of(rows, "rerun").update(model=of(rows, "subject")["model"]),
     "one model digest stands for two"),
    ("a control that is the original", lambda rows: of(rows, "rerun").update(model=of(rows, "original")["model"]),
     "one model digest stands for two"),
    ("a reference that is judged", lambda rows: of(rows, "subject").update(model=digest("reference", 1)),
     "one model digest stands for two"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "said"), [a[1:] for a in ALTERED], ids=[a[0] for a in ALTERED])
def test_altered_evidence_is_refused(change: Callable[[list[Json]], object], said: str) -> None:
    rows = rows_of(honest(LEAK))
    change(rows)
    rejected = {claim.id: claim.detail for claim in with_rows(honest(LEAK), rows).check().rejected}
    assert said in rejected["c-eps-procedure"]


def test_the_order_of_lines_means_nothing() -> None:
    assert not with_rows(honest(LEAK), rows_of(honest(LEAK))[::-1]).check().rejected


def test_an_audited_model_that_is_the_original_is_a_finding() -> None:
    def unchanged(rows: Rows) -> None:
        of(rows["onerun"], "subject")["model"] = of(rows["onerun"], "original")["model"]
        for row in rows["onerun"]:
            if row["kind"] == "candidate":
                row["score"] = row["original"]

    for method in ("npo", "identity"):
        assert fake_onerun(Run(method=method, edit_rows=unchanged)).check().derived == "REFUTED"
    assert "said to change nothing" in refused(fake_onerun(Run(method="identity")).check())


def test_references_are_those_that_the_plan_named_before_the_coins() -> None:
    def other(rows: list[Json]) -> None:
        rows[0]["model"] = digest("chosen with the coins in hand")

    for change in (other, lambda rows: rows.pop(), lambda rows: rows.append(dict(rows[0]))):
        rows = rows_of(honest(LEAK), REFERENCES)
        change(rows)
        found = with_rows(honest(LEAK), rows, REFERENCES)
        assert "not the file that the plan names" in refused(found.check())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.pop(), "3 references; the plan has 4"),
        (lambda rows: rows[1].update(slot=0), "slot: 0; expected 1"),
        (lambda rows: rows[1].update(kind="run"), "expected reference"),
        (lambda rows: rows[1].pop("signals"), "signals: missing"),
        (lambda rows: rows[1].update(model=rows[0]["model"]), "one model digest stands for two"),
    ],
)
def test_a_list_of_references_must_be_whole(change: Callable[[list[Json]], object], said: str) -> None:
    """The plan names the bent list, as a dishonest signer's would."""
    rows = reference_rows(Run())
    change(rows)

    def named(plan: Json) -> None:
        plan["procedure"]["referencesFile"] = {"sha256": hashlib.sha256(lines(rows)).hexdigest()}

    def bent(found: Rows) -> None:
        found["references"] = rows

    assert said in refused(fake_onerun(Run(leak=LEAK, edit_plan=named, edit_rows=bent)).check())


# --- Plans of a dishonest signer -------------------------------------------------------------------------------------


def planned(**sizes: Any) -> Callable[[Json], None]:
    def edit(plan: Json) -> None:
        plan["procedure"] |= sizes

    return edit


def top(**values: Any) -> Callable[[Json], None]:
    def edit(plan: Json) -> None:
        plan |= values

    return edit


PLANS: list[tuple[str, Callable[[Json], None], str]] = [
    ("more guesses than candidates", planned(guesses=62), "guesses: 62 about 60 candidates"),
    ("an odd number of guesses", planned(guesses=43), "expected an even number up to 60"),
    ("too many candidates", planned(candidates=5000), "candidates: 5000; expected a whole number from 2 to 4096"),
    ("one reference", planned(references=1), "references: 1; expected a whole number from 2"),
    ("no control", planned(controls=0), "controls: 0; expected a whole number from 1 to 64"),
    ("references that are not named", planned(referencesFile={}), "keys []; expected sha256 alone"),
    ("records that are not committed to", planned(records="x"), "records: str; expected an object"),
    ("no kind of candidates", planned(canaries=None), "canaries: None; expected a string"),
    ("another request", top(request={"root": digest("root"), "size": 59}), "another number of records"),
    ("one original for all", top(original="fixed"), "original: 'fixed'; expected redrawn"),
    ("another reference", top(reference="retrain+noop"), "reference: 'retrain+noop'; expected retrain"),
    ("a score fitted on pilots", top(score={"name": "combined", "version": 1, "pilots": 4}), "need lira-offline"),
]


@pytest.mark.parametrize(("edit", "said"), [plan[1:] for plan in PLANS], ids=[plan[0] for plan in PLANS])
def test_a_plan_that_could_not_be_an_audit_is_refused(edit: Callable[[Json], None], said: str) -> None:
    valid = honest(LEAK).copy()
    plan = onerun_plan(Run(leak=LEAK, edit_plan=edit))
    valid.predicate["request"]["commitment"] |= plan["request"]
    valid.replace("plan.json", canonical(plan))
    assert any(said in claim.detail for claim in valid.check().rejected), valid.check().rejected


def test_a_plan_may_not_name_a_model_that_its_coins_make() -> None:
    def named(plan: Json) -> None:
        plan["subjects"][0]["model"] = {"sha256": digest("file")}

    found = fake_onerun(Run(edit_plan=named))
    with pytest.raises(Rejected, match=r"model: named, but the plan's own coins decide on what this model is trained"):
        found.check()


def test_only_such_a_plan_may_leave_the_model_out() -> None:
    valid = honest(LEAK).copy()
    plan = coin_plan(Knobs(questions=("procedure",)))
    del plan["subjects"][0]["model"]
    valid.replace("plan.json", canonical(plan))
    for key in ("attacks", "alphaSplit"):
        valid.predicate["plan"][key] = plan[key]
    with pytest.raises(Rejected, match=r"subjects\[0\].model: missing"):
        valid.check()


def test_such_a_plan_asks_nothing_else_and_speaks_of_one_model() -> None:
    def both(plan: Json) -> None:
        plan["questions"] = ["procedure", "artifact"]
        plan["attacks"] = ["eps-onerun", "conformal-p"]
        plan["alphaSplit"] = {"procedure": "1/40", "artifact": "1/40"}
        plan["artifact"] = {"references": 70, "positives": 1, "negatives": 8}

    def two(plan: Json) -> None:
        plan["subjects"].append(copy.deepcopy(plan["subjects"][0]) | {"name": "other.pt"})

    for edit in (both, two):
        with pytest.raises(Rejected, match="expected one question about one subject"):
            fake_onerun(Run(edit_plan=edit)).check()


def test_a_drill_cannot_be_presented_for_another_file() -> None:
    """The model of the certificate is the one that the evidence names, and no other."""
    found = honest(CLEAR).copy()
    found.predicate["scope"]["model"]["digest"] = {"sha256": digest("product")}
    found.claim("c-model")["digest"] = {"sha256": digest("product")}
    with pytest.raises(Rejected, match=r"does not hold the digest of scope\.model"):
        found.check()
    payload = json.loads(found.payload)
    payload["subject"][0]["digest"] = {"sha256": digest("product")}
    result = check_payload(canonical(payload), found.files.get)
    assert {claim.id for claim in result.rejected} >= {"c-model", "c-eps-procedure"}
    assert "not the audited model" in result.rejected[0].detail


@pytest.mark.parametrize("plot", ["procedure", "eps"])
def test_a_plot_must_show_the_evidence(plot: str) -> None:
    found = honest(LEAK).copy()
    if plot == "eps":
        found.predicate["plots"]["eps"]["bars"][0]["lower"] = "0.0000"
    else:
        found.predicate["plots"]["procedure"]["series"][1]["counts"][0] += 1
    with pytest.raises(Rejected, match=r"the evidence gives|not the bounds and largest values"):
        found.check()


# --- Every field -----------------------------------------------------------------------------------------------------

PROSE = {
    r"(certificateId|sequence|previous\..*)": "bookkeeping; a reader compares it with other certificates",
    r"(issuedAt|expiresAt)": "time is judged by verify and gate, which know the reader's clock",
    r"auditor\..*": "who signed is established by the signature",
    r"tool\..*": "how it was computed; a replay would compare it",
    r"scope\.(model\.access|excluded\.#|data\.(source|records|trained)|recipe\.(name|parameters\..*))": "the "
    "digests beside it are compared, and no claim speaks of the records that stay",
    r"request\.(scenario|allowedMissing)": "a description; root and size are compared with the plan",
    r"unlearning\.source": "who named the method",
    r"evidence\.#\.(kind|access)": "labels for a person; the checker goes by id and digest",
    r"plots\.\w+\.(title|unit)": "captions",
    r"plots\.\w+\.series\.#\.label": "captions; what a series shows follows from its role",
    r"plots\.procedure\.binEdges\.#": "how far the outermost bins reach: what lies outside is counted in them",
    r"claims\.(c-model|c-(pos|neg|power|utility)-[\w-]+)\.id": "a name nothing refers to",
    r"claims\.m-auc\.(id|name|value|note)": "a metric: unverified, and supports no verdict",
    r"limitations\.#": "said by the report as well; they take nothing back",
    r"verdict\.reasons\.#": "wording may change between versions; the checker prints the reasons that it derives",
}


def others(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value, int(value)]
    if isinstance(value, int):
        return [value + 1, bool(value)]
    if value is None:
        return ["x"]
    if not isinstance(value, str):
        return [["x"]]
    if re.fullmatch(r"[0-9a-f]{64}", value):
        return [("1" if value[0] == "0" else "0") + value[1:]]
    return [f"1{value}", f"{value}x"]


def at(value: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def passes(found: Fake) -> bool:
    try:
        return accepted(found.check())
    except Rejected:
        return False


def named(root: Json, path: tuple[str | int, ...]) -> str:
    parts = [root["claims"][path[1]]["id"] if path[0] == "claims" and n == 1 else part for n, part in enumerate(path)]
    return ".".join("#" if isinstance(part, int) else str(part) for part in parts)


@pytest.mark.slow
@pytest.mark.parametrize("leak", [LEAK, CLEAR] if SLOW else [CLEAR])
def test_every_leaf_of_the_certificate(leak: float) -> None:
    valid, prose = honest(leak), set()
    assert passes(valid)
    for path, value in leaves(valid.predicate):
        for other in others(value):
            found = valid.copy()
            at(found.predicate, path[:-1])[path[-1]] = other
            if passes(found):
                name = named(valid.predicate, path)
                reason = next((p for p in PROSE if re.fullmatch(p, name)), None)
                assert reason, f"{name}: {value!r} became {other!r} unseen"
                prose.add(reason)
    assert prose == set(PROSE), f"no longer prose: {set(PROSE) - prose}"


def every_change(rows: list[Json]) -> Iterator[tuple[str, list[Json]]]:
    seen = set()
    for number, row in enumerate(rows):
        for key, value in row.items():
            if (row["kind"], row.get("role"), key) in seen and not SLOW:
                continue
            seen.add((row["kind"], row.get("role"), key))
            for other in [*others(value), None]:
                changed = copy.deepcopy(rows)
                changed[number][key] = other
                if other is None:
                    del changed[number][key]
                yield f"{row['kind']}.{key} {'deleted' if other is None else other}", changed


TRUSTED = {
    "model": "that scores came from these models is assumed (A2); the checker sees to it that they are different ones",
    "signals": "the same",
    "score": "the same: a change that moves no guess changes nothing",
    "original": "the same",
    "reruns": "the same",
}


def test_every_leaf_of_the_evidence() -> None:
    valid = honest(CLEAR)
    for what, changed in every_change(rows_of(valid)):
        key = what.split(".")[1].split(" ")[0]
        if passes(with_rows(valid, changed)):
            assert key in TRUSTED, f"{what} unseen"
    for what, changed in every_change(rows_of(valid, REFERENCES)):
        assert not passes(with_rows(valid, changed, REFERENCES)), f"{what} unseen"


def test_every_leaf_of_the_plan() -> None:
    """Another plan has other coins, so the roles in the evidence contradict it."""
    valid = honest(CLEAR)
    plan = json.loads(valid.files["plan.json"])
    for path, value in leaves(plan):
        for other in others(value):
            changed = json.loads(valid.files["plan.json"])
            at(changed, path[:-1])[path[-1]] = other
            found = valid.copy()
            entry = changed["subjects"][0]
            for key in ("questions", "attacks", "alphaTotal", "alphaSplit", "detectEps", "seedCommitment", "attempt"):
                found.predicate["plan"][key] = changed.get(key)
            found.predicate["plan"] |= {key: entry.get(key) for key in ("testedEps", "testedDelta")}
            found.predicate["unlearning"] |= {key: entry.get(key) for key in ("method", "guarantee", "level")}
            found.predicate["unlearning"]["parameters"] = entry.get("parameters")
            found.predicate["request"]["commitment"] |= changed.get("request", {})
            for key in ("data", "recipe"):
                found.predicate["scope"][key]["digest"] = changed.get(key)
            found.replace("plan.json", canonical(changed))
            assert not passes(found), f"{path}: {value!r} became {other!r} unseen"


def test_the_rows_name_no_record() -> None:
    keys = {key for row in rows_of(honest(LEAK)) for key in row}
    assert keys == {"kind", "seed", "nonce", "file", "model", "signals", "slot", "index", "role", "score", "original",
                    "reruns"}  # fmt: skip
