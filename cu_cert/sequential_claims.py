"""Evidence of slots judged one after another -> claims and the plot of the wealth."""

from fractions import Fraction

from cu_attacks.coinflip import coinflip
from cu_attacks.sequential import Sequential, sequential
from cu_cert.claims import Claim, Plot
from cu_certificates._design_sequential import betting_terms
from cu_certificates.check.bet_table import Bet, BetTable, read_bets, read_betting
from cu_certificates.check.betting import accuracy_needed, betting_bound, ending, guess_of, rights_needed
from cu_certificates.check.common import CONTROL_TAIL
from cu_certificates.check.fields import Node, printed, shown
from cu_certificates.check.tails import binomial_tail, enclose
from cu_certificates.plan import Plan, Subject


def read_opened(data: bytes, plan: Plan, subject: Subject, *, middle: int) -> BetTable:
    """Read the evidence of a sequence as the checker will.

    Args:
        data: Its bytes.
        plan: The plan.
        subject: Whose method was judged.
        middle: The threshold that the pilots fix.
    """
    node = Node(plan.to_json(), "plan")
    return read_bets(
        data,
        "slots.jsonl",
        plan=node,
        plan_digest=plan.digest,
        sizes=read_betting(node, Node(subject.to_json(), "subject")),
        middle=middle,
        identity=subject.method == "identity",
    )


def _bets(bets: tuple[Bet, ...], table: BetTable, plan: Plan, subject: Subject) -> Sequential:
    """Multiply the bets of one sequence."""
    return sequential(
        [None if bet.model.score is None else guess_of(bet.model.score, bet.threshold, bet.margin) for bet in bets],
        table.coins,
        alpha=plan.share(),
        budget=plan.sizes.slots,
        delta=subject.tested_delta,
        tested_eps=subject.tested_eps,
        failed=[slot for slot, bet in enumerate(bets) if bet.model.score is None],
        forward_only=plan.direction == "forward",
    )


def _counts(found: Sequential) -> Claim:
    marks = found.marks
    return {"right": found.right, "wrong": found.wrong, "abstained": marks.count("A"), "failed": marks.count("F")}


def sequential_claims(table: BetTable, plan: Plan, subject: Subject) -> list[Claim]:
    """Claims of the procedure question: the bound and where the sequence ended, both controls, the power."""
    main, positive = (_bets(bets, table, plan, subject) for bets in (table.main, table.positive))
    end = ending(main.marks, positive.marks, betting_terms(plan, subject))
    assert end is not None  # nothing is claimed before the sequence has ended
    common = {"question": "procedure", "evidence": "slots"}
    return [
        {
            "id": "c-eps-procedure",
            "type": "eps-sequential",
            **common,
            "alpha": str(plan.share()),
            "delta": str(subject.tested_delta),
            "direction": plan.direction,
            "slots": plan.sizes.slots,
            "opened": main.slots,
            "ended": end[1],
            **_counts(main),
            "bound": printed(main.bound),
            "planned": True,
        },
        {
            "id": "c-pos-procedure",
            "type": "control",
            **common,
            "sign": "positive",
            "alpha": str(plan.share()),
            "opened": positive.slots,
            **_counts(positive),
            "bound": printed(positive.bound),
            "outcome": "detected" if positive.bound > subject.tested_eps else "missed",
        },
        _negative(table, plan),
        _power(main, plan, subject),
    ]


def _negative(table: BetTable, plan: Plan) -> Claim:
    scores = [model.score for model in table.negative]
    forward = plan.direction == "forward"
    found = coinflip(
        scores, table.control_coins, alpha=plan.share(), guesses=plan.sizes.control_guesses, forward_only=forward
    )
    most = min(found.right + scores.count(None), found.guesses)
    tail = binomial_tail(found.guesses, enclose(Fraction(1, 2)), most)
    return {
        "id": "c-neg-procedure",
        "type": "control",
        "question": "procedure",
        "evidence": "slots",
        "sign": "negative",
        "guesses": plan.sizes.control_guesses,
        "right": found.right,
        "tail": str(CONTROL_TAIL),
        "outcome": "sound" if tail.above(CONTROL_TAIL) else "failed",
    }


def _power(main: Sequential, plan: Plan, subject: Subject) -> Claim:
    terms = betting_terms(plan, subject)
    accuracy = accuracy_needed(main.bets, subject.tested_eps, terms.wanted)
    return {
        "id": "c-power-procedure",
        "type": "power",
        "question": "procedure",
        "alpha": str(plan.share()),
        "testedEps": str(subject.tested_eps),
        "detectEps": str(plan.detect_eps),
        "bets": main.bets,
        "critical": rights_needed(subject.tested_eps, terms.wanted, main.bets),
        "needed": terms.needed,
        "accuracy": None if accuracy is None else printed(accuracy),
        "maxEps": printed(betting_bound("R" * main.bets, terms.wanted)),
        "reached": terms.needed is not None and main.bets >= terms.needed,
    }


def wealth_plot(table: BetTable, plan: Plan, subject: Subject) -> Plot:
    """Plot the wealth of both sequences, slot by slot."""
    forward = plan.direction == "forward"
    wanted = betting_terms(plan, subject).wanted
    return {
        "kind": "bets",
        "title": "Wealth of the bets, slot by slot",
        "tested": shown(subject.tested_eps),
        "wanted": None if wanted is None else str(wanted),
        "series": [
            {"label": label, "role": role, "marks": table.marks(bets, forward=forward)}
            for label, role, bets in (
                (f"unlearned by {subject.method}", "unlearned", table.main),
                ("original (positive control)", "original", table.positive),
            )
        ],
    }
