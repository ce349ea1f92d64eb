"""The attacks panel of a certificate: which attacks are shown for which pools, on which records, and in which words."""

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from cu_attacks._panel import judge, leaking_records
from cu_attacks._types import AttackError
from cu_attacks.calibrated import calibrated
from cu_attacks.lira import lira_offline
from cu_attacks.loss import negative_loss
from cu_attacks.population import population_rate
from cu_attacks.rmia import rmia_offline
from cu_attacks.ulira import ulira_pools
from cu_cert.panel import attack_panel
from cu_cert.signals import Signals
from cu_certificates._plots import plots

Array = np.ndarray[Any, Any]
FORGET, HELD_OUT = 40, 260


def models(seed: int, count: int, shift: float = 0.0) -> list[Signals]:
    """Signals with a level of the model's own, records far apart, ``shift`` on the request."""
    rng, size = np.random.default_rng(seed), FORGET + HELD_OUT
    base = np.random.default_rng(0).normal(2, 3, size)
    margins = base + rng.normal(size=(count, 1)) + rng.normal(size=(count, size))
    margins[:, :FORGET] += shift
    return [Signals(margin, margin > 0) for margin in margins]


SHADOWS = models(1, 60)


def by_id(claims: list[dict[str, object]]) -> dict[str, dict[str, Any]]:
    found = {str(claim["id"]): claim for claim in claims}
    assert len(found) == len(claims), "ids are unique"
    return found


def centred(margins: Array) -> Array:
    found: Array = margins - margins[..., FORGET:].mean(axis=-1, keepdims=True)
    return found


def test_every_attack_that_the_pools_allow_is_shown() -> None:
    subject = models(2, 1)[0]
    claims, plot = attack_panel(subject, SHADOWS, FORGET)
    wanted = {f"m-auc-{name}" for name in ("lira", "lira-nig", "calibrated", "rmia", "loss")}
    for name in ("lira", "lira-nig", "rmia", "loss"):
        wanted |= {f"m-tpr-{name}-10", f"m-tpr-{name}-1", f"m-low-{name}-10"}
    assert set(by_id(claims)) == wanted | {"m-tpr-population-10", "m-leaks"}
    labels = [one["label"] for one in plot["series"]]  # type: ignore[attr-defined]
    assert labels[0].startswith("LiRA (offline, pooled")
    assert len(labels) == 4
    more, wider = attack_panel(subject, SHADOWS, FORGET, unlearned=models(3, 8), retrained=models(4, 9))
    assert set(by_id(more)) - set(by_id(claims)) == {"m-auc-ulira", "m-tpr-ulira-10", "m-tpr-ulira-1", "m-leaks-ulira"}
    assert [claim for claim in more if "ulira" not in str(claim["id"])] == claims
    assert len(wider["series"]) == 5  # type: ignore[arg-type]
    few, _ = attack_panel(subject, SHADOWS, FORGET, unlearned=models(3, 3), retrained=models(4, 9))
    assert few == claims, "three models a side are too few for shadows and targets"


def test_the_numbers_are_the_attack_floors() -> None:
    """A second way to each number: straight from the attacks, the population split by hand."""
    subject = models(2, 1, shift=0.8)[0]
    margins = np.stack([one.margin for one in SHADOWS])
    unlearned, retrained = models(3, 8, shift=0.8), models(4, 9)
    found = by_id(attack_panel(subject, SHADOWS, FORGET, unlearned=unlearned, retrained=retrained)[0])
    member = np.arange(FORGET + HELD_OUT) < FORGET
    phi, out = centred(subject.margin), centred(margins)
    p, others = (1 / (1 + np.exp(-value)) for value in (subject.margin, margins))
    population = list(range(FORGET, FORGET + HELD_OUT, 2))
    scored = [i for i in range(FORGET + HELD_OUT) if i not in population]
    naive = {
        "lira": (lira_offline(phi, out), member),
        "lira-nig": (lira_offline(phi, out, variance="nig"), member),
        "calibrated": (calibrated(phi, out), member),
        "rmia": (
            rmia_offline(p[scored], others[:, scored], p[population], others[:, population]),
            member[scored],
        ),
        "loss": (negative_loss(subject.margin), member),
    }
    for name, (scores, inside) in naive.items():
        result = judge(scores, inside, name="x")
        assert found[f"m-auc-{name}"]["value"] == f"{result.auc.value:.4f}"
        assert found[f"m-auc-{name}"]["interval"] == [f"{result.auc.low:.4f}", f"{result.auc.high:.4f}"]
        if name == "calibrated":
            continue
        for rate, exact in result.rates:
            claim = found[f"m-tpr-{name}-{round(rate * 1000)}"]
            assert (claim["value"], claim["interval"]) == (
                f"{exact.value:.4f}",
                [f"{exact.low:.4f}", f"{exact.high:.4f}"],
            )
        assert found[f"m-low-{name}-10"]["value"] == f"{result.low_rates[0][1].value:.4f}"
    assert found["m-auc-calibrated"]["value"] == found["m-auc-lira"]["value"]
    rate = population_rate(subject.margin[:FORGET], subject.margin[population], false_rate=0.01, name="x")
    assert found["m-tpr-population-10"]["value"] == f"{rate.value:.4f}"
    leaks = leaking_records(phi[:FORGET], out[:, :FORGET])
    assert found["m-leaks"]["value"] == f"{leaks.count:.4f}"
    pools = (centred(np.stack([one.margin for one in pool]))[:, :FORGET] for pool in (unlearned, retrained))
    ulira = ulira_pools(*pools)
    assert found["m-auc-ulira"]["value"] == f"{ulira.auc.value:.4f}"
    assert found["m-leaks-ulira"]["value"] == f"{ulira.count:.4f}"


@pytest.mark.parametrize(
    ("shift", "words"),
    [
        (4.0, "seen: remembered (signal above"),
        (-4.0, "seen: over-forgotten (signal below that of never-trained records), which is a leak too"),
        (0.0, "neither remembering nor over-forgetting seen"),
    ],
)
def test_both_sides_of_chance_are_named(shift: float, words: str) -> None:
    found = by_id(attack_panel(models(5, 1, shift)[0], SHADOWS, FORGET)[0])
    assert words in found["m-auc-lira"]["note"]
    assert (Decimal(found["m-auc-lira"]["interval"][1]) < Decimal("0.5")) == (shift < 0)
    assert "never-trained records as control: 0 of 260" in found["m-leaks"]["note"]
    if shift:
        count = int(Decimal(found["m-leaks"]["value"]))
        assert count >= 27, "fewer than 27 of 40 cannot be reported with 60 models"
        sides = f"{count} on the high and 0" if shift > 0 else f"0 on the high and {count}"
        assert sides in found["m-leaks"]["note"]
        assert "no fewer than 27" in found["m-leaks"]["note"]


def test_a_model_that_is_surer_of_everything_leaks_no_record_for_it() -> None:
    calm = models(6, 1)[0]
    sure = Signals(calm.margin + 7, calm.correct)
    one, two = (by_id(attack_panel(subject, SHADOWS, FORGET)[0]) for subject in (calm, sure))
    for key in ("m-leaks", "m-auc-lira", "m-auc-lira-nig"):
        assert one[key] == two[key]


def test_the_model_before_has_ids_and_words_of_its_own() -> None:
    claims = by_id(attack_panel(models(7, 1, 2.0)[0], SHADOWS, FORGET, suffix="-before")[0])
    assert all(key.endswith("-before") for key in claims)
    assert all("of the model before" in claim["name"] for claim in claims.values())


def test_the_plot_is_drawn_and_holds_a_band() -> None:
    _, plot = attack_panel(models(8, 1, 1.0)[0], SHADOWS, FORGET, unlearned=models(9, 8, 1.0), retrained=models(10, 8))
    drawn = plots({"roc": plot})[0]
    assert drawn.table is not None
    assert len(drawn.table.heads) == 6
    for series in plot["series"]:  # type: ignore[attr-defined]
        assert len(series["points"]) <= 200
        assert series["points"][0] == [0, 0] or series["points"][0][0] == 0
        assert series["points"][-1] == [1000, 1000]
    band: Any = plot["band"]
    low, high = (dict(map(tuple, band[side])) for side in ("low", "high"))
    assert band["level"] == "0.9500"
    assert max(len(band["low"]), len(band["high"])) <= 200
    curve = dict(map(tuple, plot["series"][0]["points"]))  # type: ignore[index]
    for x, y in curve.items():
        below = max((v for k, v in low.items() if k <= x), default=0)
        assert below <= y + 10
        assert max((v for k, v in high.items() if k <= x), default=1000) >= y - 10


def test_few_held_out_records_leave_out_what_needs_a_population() -> None:
    def cut(one: Signals) -> Signals:
        return Signals(one.margin[: FORGET + 3], one.correct[: FORGET + 3])

    claims, plot = attack_panel(cut(models(11, 1)[0]), [cut(one) for one in SHADOWS], FORGET)
    assert not any("rmia" in key or "population" in key for key in by_id(claims))
    assert len(plot["series"]) == 3  # type: ignore[arg-type]
    with pytest.raises(AttackError, match="shadows"):
        attack_panel(models(11, 1)[0], SHADOWS[:1], FORGET)
