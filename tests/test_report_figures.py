"""The figures that are drawn from claims, and the curves of the attack panel: each against a second computation."""

import copy
import itertools
import math
import re
from fractions import Fraction
from typing import Any

import pytest
from html_page import Page
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_more import bounded, contradicted, drill, exact, one_model
from sample_predicate import KINDS, sample
from scipy import stats

from cu_certificates._plot_chain import chain
from cu_certificates._plot_power import power
from cu_certificates._plots import plots
from cu_certificates._svg import Plot
from cu_certificates._wording import LANGUAGES, wording
from cu_certificates.check.carrier import join_report
from cu_certificates.check.strict import Rejected, canonical
from cu_certificates.report import render_skeleton

EN = wording()

Place = tuple[float, float]


def claim_of(predicate: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in predicate["claims"] if one["id"] == name)


def numbers(said: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[0-9]+(?:\.[0-9]+)?", said)]


def places(d: str) -> list[Place]:
    """The corners of a path with one start: M, then relative l, h and v, or absolute H and V."""
    found: list[Place] = []
    for letter, rest in re.findall(r"([MlhvHV])([^MlhvHV]*)", d):
        values = numbers(rest)
        x, y = found[-1] if found else (0.0, 0.0)
        match letter:
            case "M":
                found.append((values[0], values[1]))
            case "l":
                found.append((x + values[0], y + values[1]))
            case "h":
                found.append((x + values[0], y))
            case "v":
                found.append((x, y + values[0]))
            case "H":
                found.append((values[0], y))
            case "V":
                found.append((x, values[0]))
    return found


def drawn_power(predicate: dict[str, Any]) -> Plot:
    found = power(predicate["claims"], EN)
    assert found is not None
    return found


def drawn_chain(predicate: dict[str, Any]) -> Plot:
    found = chain(predicate["claims"], "model.pt", EN)
    assert found is not None
    return found


# --- Power -----------------------------------------------------------------------------------------------------------


def right_of(plot: Plot) -> list[Place]:
    """The curve: share of right guesses, chance of a refutation."""
    line = re.search(r'<polyline points="([^"]*)"', plot.svg)
    assert line is not None
    pairs = [tuple(map(float, pair.split(","))) for pair in line[1].split()]
    return [(0.5 + (x - 56) / 560 / 2, (278 - y) / 220) for x, y in pairs]


@pytest.mark.parametrize("make", [lambda: sample("refuted"), drill], ids=["slots", "one run"])
def test_the_power_curve_is_the_binomial_tail_that_scipy_computes(make: Any) -> None:
    predicate = make()
    claim = claim_of(predicate, "c-power-procedure")
    plot = drawn_power(predicate)
    for share, chance in right_of(plot):
        assert chance == pytest.approx(stats.binom.sf(claim["critical"] - 1, claim["guesses"], share), abs=2e-3)
    assert plot.table is not None
    for eps, share, chance in plot.table.rows:
        allowed = 1 / (1 + math.exp(-float(eps)))
        assert float(share[:-2]) == pytest.approx(math.ceil(allowed * 1000 - 1e-9) / 10)
        tail = stats.binom.sf(claim["critical"] - 1, claim["guesses"], allowed)
        assert float(chance) == pytest.approx(tail, abs=1.1e-4)
        assert float(chance) <= tail + 1e-12, "rounded up"


def test_the_share_that_the_claim_states_lies_on_the_curve_at_the_wanted_power() -> None:
    predicate = sample("refuted")
    claim, plot = claim_of(predicate, "c-power-procedure"), drawn_power(predicate)
    mark = re.search(r'<circle cx="([0-9.]+)" cy="([0-9.]+)"', plot.svg)
    assert mark is not None
    assert 0.5 + (float(mark[1]) - 56) / 560 / 2 == pytest.approx(float(claim["accuracy"]), abs=1e-3)
    assert float(mark[2]) == pytest.approx(278 - 0.8 * 220, abs=0.1)
    assert "seen from 80.76" in plot.svg


def test_what_is_allowed_and_what_is_wanted_are_drawn_where_they_belong() -> None:
    predicate = sample("refuted")
    plot = drawn_power(predicate)
    uprights = re.findall(r'<line x1="([0-9.]+)" y1="58" x2="([0-9.]+)" y2="278"', plot.svg)
    assert [0.5 + (float(x) - 56) / 1120 for x, _ in uprights] == pytest.approx([0.6225, 0.8808], abs=1e-3)
    labels = [label for _, label in plot.legend]
    assert "guarantee under test, eps = 0.5: at most 62.3\u00a0% right guesses" in labels
    assert "what the plan wants to see, eps = 2: 88.1\u00a0% right guesses" in labels
    claim_of(predicate, "c-eps-procedure")["delta"] = "1/10"
    # (e^0.5 + 0.1) / (1 + e^0.5)
    assert "at most 66.1\u00a0% right guesses" in " ".join(label for _, label in drawn_power(predicate).legend)


def test_a_guarantee_in_one_direction_counts_half_of_the_guesses() -> None:
    predicate = sample("refuted")
    claim_of(predicate, "c-eps-procedure")["direction"] = "forward"
    claim_of(predicate, "c-power-procedure")["critical"] = 20
    plot = drawn_power(predicate)
    assert "20 of 24 right guesses" in plot.note
    for share, chance in right_of(plot):
        assert chance == pytest.approx(stats.binom.sf(19, 24, share), abs=2e-3)


def test_one_run_on_drawn_records_has_no_line_for_a_guarantee_about_all_of_them() -> None:
    plot = drawn_power(drill())
    assert "guarantee under test" not in " ".join(label for _, label in plot.legend)
    assert "eps of one record" in plot.svg
    assert plot.table is not None
    assert plot.table.heads[0] == "eps of one record"


def test_nothing_is_drawn_where_no_size_refutes_or_guesses_are_not_counted() -> None:
    assert power(one_model()["claims"], EN) is None
    predicate = sample("refuted")
    claim_of(predicate, "c-power-procedure")["critical"] = None
    assert power(predicate["claims"], EN) is None
    sequential = claim_of(sample("refuted"), "c-power-procedure") | {"bets": 60}
    del sequential["guesses"]
    assert power([sequential], EN) is None
    assert power([], EN) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"critical": 49}, r"c-power-procedure.critical: 49 of 48 guesses; expected 1 to 4096 guesses"),
        ({"guesses": 10**9, "critical": 7}, r"c-power-procedure.critical: 7 of 1000000000 guesses"),
        ({"critical": 0}, r"c-power-procedure.critical: 0 of 48"),
        ({"guesses": "97/2"}, r"c-power-procedure.critical: 37 of 97/2"),
        ({"accuracy": "3/2"}, r"c-power-procedure.accuracy: 1.5; expected 0 to 1"),
        ({"detectEps": "1001"}, r"c-power-procedure.detectEps: 1001; expected 0 to 1000"),
        ({"testedEps": "-1"}, r"c-power-procedure.testedEps: -1; expected 0 to 1000"),
    ],
)
def test_sizes_that_cannot_be_are_refused_with_their_place(change: dict[str, Any], said: str) -> None:
    predicate = sample("refuted")
    claim_of(predicate, "c-power-procedure").update(change)
    with pytest.raises(Rejected, match=said):
        render_skeleton(predicate)


@settings(max_examples=40, deadline=None)
@given(guesses=st.integers(1, 300), data=st.data())
def test_the_curve_only_rises_and_stays_in_its_frame(guesses: int, data: st.DataObject) -> None:
    critical = data.draw(st.integers(1, guesses))
    claim = {
        "id": "c", "type": "power", "question": "procedure", "guesses": guesses, "critical": critical,
        "testedEps": data.draw(st.sampled_from(["0", "1/2", "1000"])), "detectEps": "2",
        "accuracy": data.draw(st.sampled_from([None, "0.5000", "0.7312", "1.0000"])),
    }  # fmt: skip
    plot = power([claim], EN)
    assert plot is not None
    curve = right_of(plot)
    assert all(0 <= y <= 1 and 0.5 <= x <= 1 for x, y in curve)
    assert all(a <= b for (_, a), (_, b) in itertools.pairwise(curve))
    assert all(0 <= Fraction(x) <= 640 for x in re.findall(r' (?:x|x1|x2|cx)="(-?[0-9.]+)"', plot.svg))


# --- Chain -----------------------------------------------------------------------------------------------------------


def test_the_chain_shows_its_shards_its_ends_and_what_was_checked() -> None:
    plot = drawn_chain(exact())
    claim = claim_of(exact(), "c-chain")
    assert "shards: 20" in plot.svg
    # Fifteen trained anew, thick and filled; five left as they were, thin and dashed; the same pair in the legend.
    assert plot.svg.count('stroke-width="2.4"') == 15
    assert plot.svg.count('stroke-dasharray="3 2"') == 5
    assert [label for _, label in plot.legend] == ["trained anew for the request", "left as before"]
    assert claim["head"][:14] in plot.svg
    assert "commitments of the request: 50" in plot.svg
    assert "0 found in 2 manifests" in plot.svg
    assert "210 of 210 alike, 400 in all" in plot.svg
    assert "#D55E00" not in plot.svg, "nothing speaks against it"
    assert plot.table is not None
    told = dict(plot.table.rows)  # type: ignore[arg-type]
    assert told["end of the chain"] == claim["head"]
    assert told["chain before"] == claim["earlier"]
    assert told["trained anew for the request"] == ", ".join(map(str, range(15)))
    assert told["records fewer"] == "50"
    assert told["audited model"] == "model.pt"


def test_what_speaks_against_a_chain_is_drawn_as_an_arrow_into_it_and_said() -> None:
    plot = drawn_chain(contradicted())
    assert plot.svg.count('fill="#D55E00"') == 3, "the broken arrow, a commitment that was found, a step that differs"
    assert "contradict each other" in plot.note
    assert "contradict each other" in plot.svg, "its description says so too"
    assert "2 found in 2 manifests" in plot.svg
    assert "209 of 210 alike" in plot.svg
    assert "no chain before it" in plot.svg


def test_of_many_shards_those_trained_anew_are_drawn_and_the_others_counted() -> None:
    predicate = exact()
    claim_of(predicate, "c-chain").update(shards=1000, affected=[3, 700])
    plot = drawn_chain(predicate)
    assert plot.svg.count('stroke-width="2.4"') == 2
    assert "998 more, not drawn" in plot.svg
    assert [label for _, label in plot.legend] == ["trained anew for the request"]
    claim_of(predicate, "c-chain").update(affected=list(range(100)))
    plot = drawn_chain(predicate)
    assert plot.svg.count('stroke-width="2.4"') == 64
    assert plot.table is not None
    assert dict(plot.table.rows)["trained anew for the request"].endswith("63 and 36 more")  # type: ignore[arg-type]


def test_a_chain_without_checks_is_drawn_too_and_without_a_chain_there_is_no_figure() -> None:
    predicate = exact()
    alone = [claim_of(predicate, "c-chain")]
    plot = chain(alone, "model.pt", EN)
    assert plot is not None
    assert "commitments" not in plot.svg
    assert chain(sample("refuted")["claims"], "model.pt", EN) is None


@pytest.mark.parametrize("affected", [[20], [-1], ["1/2"]])
def test_a_shard_that_there_is_not_is_refused(affected: list[Any]) -> None:
    predicate = exact()
    claim_of(predicate, "c-chain")["affected"] = affected
    with pytest.raises(Rejected, match=r"c-chain.affected: expected numbers of the 20 shards, from 0 on"):
        drawn_chain(predicate)


def test_a_name_cannot_leave_the_drawing_or_fake_what_stands_around_it() -> None:
    predicate = exact()
    predicate["scope"]["model"]["name"] = "\u202e</svg><b>" + "x" * 300
    found = Page(render_skeleton(predicate))
    labels = [data for where, data in found.texts if where[-1] == "text"]
    assert "\\u202e</svg><b\u2026" in labels, "cut after what hides was shown"
    assert max(map(len, labels)) < 100


def test_figures_drawn_from_claims_clash_with_no_plot_of_the_certificate() -> None:
    predicate = exact()
    predicate["plots"] |= {"claim:power": {"kind": "3d"}, "claim:chain": predicate["plots"]["artifact"]}
    ids = Page(render_skeleton(predicate)).ids
    assert len(ids) == len(set(ids))
    assert {"figure-claim:power", "figure-claim:chain", "figure-claim_power", "figure-claim_chain"} <= set(ids)


# --- Attack panel ----------------------------------------------------------------------------------------------------


STAIRS = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=1, max_size=60).map(
    lambda points: [[x, y] for x, y in zip(sorted(x for x, _ in points), sorted(y for _, y in points), strict=True)]
)


def curves(svg: str) -> list[list[Place]]:
    return [places(d) for d in re.findall(r'<path d="(M[^"]*)" fill="none" stroke="[^"]*" stroke-width="2.2"', svg)]


def height_at(corners: list[Place], x: float) -> float:
    """The highest place (smallest y) that a staircase has reached at x."""
    return min((y for at, y in corners if at <= x), default=corners[0][1])


@settings(max_examples=60, deadline=None)
@given(points=STAIRS)
def test_the_logarithmic_curve_is_what_is_reached_at_a_rate_or_below(points: list[list[int]]) -> None:
    plot = plots({"roc": {"kind": "roc", "title": "t", "series": [{"label": "a", "points": points}]}})[0]
    even, log = curves(plot.svg)

    def at(rate: int, low: float, length: float) -> float:
        return low + length * (math.log10(max(rate, 1) / 1000) + 3) / 3

    for x, _ in points:
        reached = max(y for other, y in points if other <= max(x, 1))
        place = at(x, 372, 250)
        # Steps too short to be seen are joined, so a corner may lie up to that much to the side.
        highest, lowest = height_at(log, place + 1.6), height_at(log, place - 1.6)
        assert highest - 1.7 <= 286 - (at(reached, 0, 250)) <= lowest + 1.7
    assert log[0][0] == pytest.approx(372)
    assert log[-1][0] == pytest.approx(622)
    for corners, left in ((even, 44), (log, 372)):
        assert all(left - 0.1 <= x <= left + 250.1 and 35.9 <= y <= 286.1 for x, y in corners)


def test_the_band_is_a_filled_shape_that_holds_its_edges_on_both_axes() -> None:
    low = [[x, x * x // 1500] for x in range(0, 1001, 50)]
    high = [[x, min(1000, 200 + x)] for x in range(0, 1001, 50)]
    roc = sample("refuted")["plots"]["roc"] | {"band": {"label": "LiRA", "level": "19/20", "low": low, "high": high}}
    plot = plots({"roc": roc})[0]
    grounds = [places(d) for d in re.findall(r'<path d="(M[^"]*)" fill="#0072B2" fill-opacity="0.13"', plot.svg)]
    assert len(grounds) == 2
    even, log = grounds
    for fpr, tpr in high[:17]:  # from there on it is level
        x, y = 44 + fpr / 4, 286 - tpr / 4
        assert any(abs(px - x) < 1.6 and abs(py - y) < 1.6 for px, py in even), (fpr, tpr)
    # The upper edge is stepped early: between two points it must not lie below the later one.
    upper = log[: log.index(max(log, key=lambda place: (place[0], -place[1]))) + 1]
    for (before, _), (_, tpr) in itertools.pairwise(high):
        x = 372 + 250 * (math.log10(max(before, 1) / 1000) + 3) / 3
        assert height_at(upper, x + 0.1) <= 286 - 250 * (math.log10(tpr / 1000) + 3) / 3 + 1.6
    assert plot.legend[-1][1] == "LiRA, 95\u00a0% band of the whole curve"


def test_bins_of_several_widths_are_drawn_by_area() -> None:
    plot = {
        "kind": "pools", "title": "t", "unit": "u", "binEdges": ["0.00", "1.00", "5.00"],
        "series": [{"label": "a", "role": "request", "counts": [10, 20]}],
    }  # fmt: skip
    drawn = plots({"artifact": plot})[0]
    shape = re.search(r'<path d="(M[^"]*V[^"]*)" stroke-linejoin', drawn.svg)
    assert shape is not None
    corners = places(shape[1])
    ground = corners[0][1]
    bars = [(b[0] - a[0], ground - a[1]) for a, b in itertools.pairwise(corners) if a[1] == b[1] != ground]
    areas = [width * height for width, height in bars]
    assert len(areas) == 2
    assert areas[1] / areas[0] == pytest.approx(2, rel=0.01)
    assert "in % per unit of the score" in drawn.svg
    # Edges of equal bins are rounded to hundredths; their heights stay the shares.
    rounded = plots({"artifact": plot | {"binEdges": ["0.00", "0.57", "1.15"]}})[0]
    assert "per unit" not in rounded.svg


# --- The page --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_figure_reads_in_every_language_without_a_word_of_another(language: str) -> None:
    for predicate in (sample("refuted"), exact(), contradicted(), bounded(), drill()):
        changed = predicate if language == "en" else predicate | {"language": language}
        found = Page(render_skeleton(changed))
        told = [data for where, data in found.texts if where[-1] in ("text", "desc", "title") and "svg" in where]
        assert told or predicate["verdict"]["value"] == "INCONCLUSIVE"
        assert not [said for said in told if "{" in said or "not stated" in said]
        if language != "en":
            english = {said for key, said in EN.texts.items() if key.startswith(("plot_power.", "plot_chain."))}
            english -= set(wording(language).texts.values())
            assert not english & set(told)


def test_a_full_panel_with_its_signed_bundle_stays_below_the_size_limit() -> None:
    # The largest page that this version writes: five curves with a band, and a hundred numbers with long notes.
    predicate = copy.deepcopy(sample("refuted"))
    stairs = [[x * 5, min(1000, x * 5 + (x * 37) % 60)] for x in range(200)]
    points = sorted([x, y] for (x, _), y in zip(stairs, sorted(y for _, y in stairs), strict=True))
    roc = predicate["plots"]["roc"]
    roc["series"] = [{"label": f"attack {n}", "points": points} for n in range(5)]
    roc["band"] = {"label": "attack 0", "level": "0.95", "low": points, "high": points}
    note = "; ".join(f"a clause of about forty letters, number {n}" for n in range(9))
    predicate["claims"] += [
        {"id": f"m-{n}", "type": "metric", "kind": "attack", "name": f"TPR at 1.0% FPR, attack {n}", "value": "0.5000",
         "interval": ["0.4000", "0.6000"], "note": note} for n in range(60)
    ]  # fmt: skip
    # A bundle is the payload in base64 and half a kilobyte around it.
    bundle = b"{" + b" " * (len(canonical(predicate)) * 4 // 3 + 500) + b"}"
    assert len(join_report(render_skeleton(predicate), bundle)) < 300_000


@pytest.mark.parametrize("kind", KINDS)
def test_limitations_stand_in_the_order_in_which_people_count(kind: Any) -> None:
    predicate = sample(kind) | {"limitations": ["L12", "L2", "L1", "L10"]}
    found = Page(render_skeleton(predicate))
    listed = [data for where, data in found.texts if where[-1] == "dt" and re.fullmatch("L[0-9]+", data)]
    assert listed == ["L1", "L2", "L10", "L12"]
