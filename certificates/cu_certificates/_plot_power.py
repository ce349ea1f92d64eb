"""What an audit of this size could have seen: how likely a refutation was, for each true share of right guesses.

The curve is no measurement. It is drawn from a claim of the type ``power``, by the checker's binomial tails: with
``critical`` of ``guesses`` right guesses needed, a guesser who is right with the share a refutes with the probability
P[Bin(guesses, a) >= critical].
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt
from typing import Final

from markupsafe import Markup

from cu_certificates._fields import exact, field, fixed, percent, short, text, word
from cu_certificates._phrases import Claim
from cu_certificates._svg import (
    BLUE,
    FAINT,
    PURPLE,
    STEADY,
    Frame,
    Plot,
    Table,
    coord,
    drawing,
    element,
    rule,
    swatch,
    swatch_upright,
    words_at,
)
from cu_certificates._wording import Wording
from cu_certificates.check.design import MAX_SLOTS
from cu_certificates.check.power import POWER
from cu_certificates.check.strict import Rejected
from cu_certificates.check.tails import MAX_EPS, binomial_tail, enclose, sigmoid

KEY: Final = "claim:power"
"""Names the figure. No name in ``predicate.plots`` can clash with it: a colon never stands in an anchor."""

_HALF: Final = Fraction(1, 2)
_GRID: Final = Fraction(1, 1000)
_LETTER: Final = 8
"""Width that a letter takes at most, on average."""
_AXIS: Final = (Fraction(0), Fraction(1, 2), Fraction(1), Fraction(3, 2), Fraction(2), Fraction(3), Fraction(4))
_ROWS: Final = (*_AXIS[:5], Fraction(5, 2), *_AXIS[5:])


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """One claim: right guesses needed of those that count, and the shares that the page draws as lines.

    Args:
        counted: Guesses that are made.
        critical: Fewest right ones that refute.
        seen: Smallest share that is refuted with probability 0.8, as the claim states it; ``None`` when it states none.
        tested: eps of the guarantee under test, ``None`` where it bounds no share of right guesses.
        delta: Its delta.
        of_record: Whether a guess is about one record, so that an eps is one record's.
        wanted: eps that the plan wants to see, ``None`` when it states none.
    """

    counted: int
    critical: int
    seen: Fraction | None
    tested: Fraction | None
    delta: Fraction
    wanted: Fraction | None
    of_record: bool

    @property
    def lines(self) -> list[tuple[str, Fraction, Fraction, str, str]]:
        """Name, eps, share of right guesses, stroke and dashes of each line: what is allowed, what is wanted."""
        found = []
        if self.tested is not None:
            # Under (eps, delta) a guess about a fair coin is right with chance (e^eps + delta) / (1 + e^eps) at most.
            share = _share(self.tested)
            found.append(("tested", self.tested, share + self.delta * (1 - share), "currentColor", "5 3"))
        if self.wanted is not None:
            found.append(("wanted", self.wanted, _share(self.wanted), PURPLE, "9 3 2 3"))
        return found

    def chance(self, share: Fraction) -> Fraction:
        """Return how likely a refutation is at a share of right guesses, at least."""
        return Fraction(binomial_tail(self.counted, enclose(share), self.critical).low)

    @property
    def shares(self) -> list[Fraction]:
        """Where the curve is worked out: evenly, and closer together where it rises."""
        middle = Fraction(self.critical, self.counted)
        # The standard deviation of the share, in steps of the grid.
        width = max(isqrt(int(middle * (1 - middle) / self.counted / _GRID**2)), 1)
        centre = round(middle / _GRID)
        steps = {500 + 20 * index for index in range(26)} | {centre + width * index // 3 for index in range(-12, 13)}
        return [step * _GRID for step in sorted(steps) if 500 <= step <= 1000]


def power(claims: Iterable[Claim], t: Wording) -> Plot | None:
    """Draw the power of the procedure question; ``None`` where no claim states it for guesses of one size.

    Args:
        claims: The claims of the predicate.
        t: The texts of the page's language.

    Raises:
        Rejected: A claim's numbers cannot be true, or are too many.
    """
    listed = list(claims)
    claim = next(filter(_drawable, listed), None)
    if claim is None:
        return None
    curve = _curve(claim, listed)
    zero, one = Fraction(0), Fraction(1)
    frame = Frame(left=56, top=58, width=560, height=220, x0=_HALF, x1=one, y0=zero, y1=one)
    parts = frame.axes(t("plot_power.share"), "", wanted=6, scale=100, x_scale=100)
    parts += [*_top_axis(frame, curve, t), *_lines(frame, curve), _polyline(frame, curve), *_seen(frame, curve, t)]
    title = t("plot_power.title")
    return Plot(
        key=KEY,
        title=title,
        note=t("plot_power.note", critical=curve.critical, guesses=curve.counted),
        svg=drawing(KEY, frame.top + frame.height + 50, title, _describe(curve, t), parts),
        legend=_legend(curve, t),
        table=_table(curve, t),
    )


def _drawable(claim: Claim) -> bool:
    """Whether the claim counts guesses at one look; bets slot by slot and pools follow another arithmetic."""
    return (
        word(claim, "type") == "power" and field(claim, "guesses") is not None and field(claim, "critical") is not None
    )


def _curve(claim: Claim, claims: Iterable[Claim]) -> _Curve:
    where, question = text(claim, "id"), field(claim, "question")
    guesses, critical = (exact(field(claim, key), f"{where}.{key}") for key in ("guesses", "critical"))
    # The bound of the same question says what the power claim does not repeat: delta, and whether one direction alone
    # is guessed, so that half of the guesses count.
    bound = next((one for one in claims if field(one, "question") == question and field(one, "direction")), {})
    counted = guesses // 2 if word(bound, "direction") == "forward" else guesses
    if guesses.denominator != 1 or critical.denominator != 1 or not 1 <= critical <= counted <= MAX_SLOTS:
        raise Rejected(f"{where}.critical: {critical} of {counted} guesses; expected 1 to {MAX_SLOTS} guesses")
    # In one run on drawn records, the guarantee under test speaks of all of them together, not of one guess.
    run = field(claim, "candidates") is not None
    return _Curve(
        counted=int(counted),
        critical=int(critical),
        seen=_within(claim, "accuracy", 1),
        tested=None if run else _within(claim, "testedEps", MAX_EPS),
        delta=_within(bound, "delta", 1) or Fraction(0),
        wanted=_within(claim, "detectEps", MAX_EPS),
        of_record=run,
    )


def _within(claim: Claim, key: str, most: Fraction | int) -> Fraction | None:
    if field(claim, key) is None:
        return None
    where = f"{text(claim, 'id')}.{key}"
    value = exact(field(claim, key), where)
    if not 0 <= value <= most:
        raise Rejected(f"{where}: {short(value)}; expected 0 to {most}")
    return value


def _share(eps: Fraction) -> Fraction:
    """Return the largest share of right guesses under (eps, 0), rounded up in its last digit."""
    return Fraction(sigmoid(eps).high) if eps else _HALF


def _top_axis(frame: Frame, curve: _Curve, t: Wording) -> list[Markup]:
    """Say at the top which eps makes each share possible."""
    top, right = Fraction(frame.top), Fraction(frame.left + frame.width)
    named = t("plot_power.eps_axis_record" if curve.of_record else "plot_power.eps_axis")
    parts = [
        words_at(frame.left, frame.top - 42, t("plot_power.chance"), "start", font_size="12", fill_opacity=FAINT),
        words_at(right, frame.top - 42, named, "end", font_size="12", fill_opacity=FAINT),
    ]
    for eps in _AXIS:
        x = frame.x(_share(eps))
        parts.append(rule(x, top - 5, x, top, stroke_opacity=STEADY))
        parts.append(words_at(x, top - 10, short(eps), font_size="12", fill_opacity=FAINT))
    parts.append(rule(Fraction(frame.left), top, right, top, stroke_opacity=STEADY))
    return parts


def _lines(frame: Frame, curve: _Curve) -> list[Markup]:
    bottom, right = Fraction(frame.top + frame.height), Fraction(frame.left + frame.width)
    y = frame.y(POWER)
    parts = [rule(Fraction(frame.left), y, right, y, stroke_width="1.4", stroke_dasharray="1 3", stroke_opacity=STEADY)]
    for _, _, share, stroke, dash in curve.lines:
        x = frame.x(share)
        parts.append(rule(x, Fraction(frame.top), x, bottom, stroke=stroke, stroke_width="2.2", stroke_dasharray=dash))
    return parts


def _polyline(frame: Frame, curve: _Curve) -> Markup:
    points = " ".join(f"{coord(frame.x(share))},{coord(frame.y(curve.chance(share)))}" for share in curve.shares)
    return element("polyline", points=points, fill="none", stroke=BLUE, stroke_width="2.4", stroke_linejoin="round")


def _seen(frame: Frame, curve: _Curve, t: Wording) -> list[Markup]:
    """Mark the smallest share that is seen with probability 0.8; the label keeps clear of the curve."""
    if curve.seen is None or curve.seen < _HALF:
        return []
    x, y = frame.x(curve.seen), frame.y(POWER)
    said = t("plot_power.seen", share=percent(curve.seen, "up"))
    wide = 12 + len(said) * _LETTER
    lines = [frame.x(share) for _, _, share, _, _ in curve.lines]
    # The curve leaves room to the left above the point and to the right below it.
    crossed = x - wide < frame.left or any(x - wide < line < x for line in lines)
    place = (x + 12, y + 17, said, "start") if crossed else (x - 12, y - 9, said, "end")
    return [element("circle", cx=x, cy=y, r="4.5", fill=BLUE), words_at(*place, font_weight="600")]


def _legend(curve: _Curve, t: Wording) -> tuple[tuple[Markup, str], ...]:
    lines = (
        (swatch_upright(stroke, dash), t(f"plot_power.{name}", eps=short(eps), share=_percent(share)))
        for name, eps, share, stroke, dash in curve.lines
    )
    level = (swatch("currentColor", "1 3", "0"), t("plot_power.level", power=percent(POWER, "down")))
    return ((swatch(BLUE, "", "0"), t("plot_power.curve")), *lines, level)


def _percent(share: Fraction) -> str:
    return percent(share, "up", 1)


def _describe(curve: _Curve, t: Wording) -> str:
    said = [t("plot_power.desc", critical=curve.critical, guesses=curve.counted)]
    said += [
        t("plot_power.desc_at", share=_percent(share), chance=_chance(curve.chance(share)))
        for _, _, share, _, _ in curve.lines
    ]
    if curve.seen is not None:
        said.append(t("plot_power.desc_seen", share=percent(curve.seen, "up")))
    return " ".join(said)


def _chance(value: Fraction) -> str:
    return fixed(value, 4, "down")


def _table(curve: _Curve, t: Wording) -> Table:
    shares = {eps: _share(eps) for eps in _ROWS}
    body = tuple((short(eps), _percent(share), _chance(curve.chance(share))) for eps, share in shares.items())
    eps = t("plot_power.eps_record" if curve.of_record else "plot_power.eps")
    heads = (eps, t("plot_power.share_head"), t("plot_power.chance_head"))
    return Table(caption=t("plot_power.caption"), heads=heads, rows=body)
