"""Every fixed sentence of the report: verdicts, assumptions, limitations, glossary.

One table, so that a lawyer can read it whole, a translator can replace it, and a test can hold it to the wording rules:
an audit can refute, it can never attest that nothing is left. Words in braces are filled in by ``report.py``.
"""

from dataclasses import dataclass
from typing import Final

TITLE: Final = "Audit of an unlearning operation"

FORBIDDEN: Final = (
    "proof", "proved", "proves that", "certificate of erasure", "erased", "data has been deleted",
    "deleted from the model", "has forgotten", "forgotten by the model", "no longer contains", "anonymous",
    "anonymised", "compliant", "certified by", "verified", "guaranteed", "guarantees that", "impossible to recover",
    "fixed before testing", "criteria were fixed", "passed", "100 %", "100%", "0 risk", "zero risk", "no risk",
    "p = 0.000",
)  # fmt: skip
"""Words that claim more than an audit can show; no sentence of ours may hold one (a test looks)."""


@dataclass(frozen=True, kw_only=True)
class VerdictText:
    """What the report says about one verdict.

    Args:
        headline: One sentence for everyone.
        shows: What follows from the audit.
        not_shown: What does not follow from it.
        tone: Name of the colour and of the shape; the word itself always stands beside them.
        plain: The box for people whose records it concerns, in easy words.
    """

    headline: str
    shows: str
    not_shown: str
    tone: str
    plain: tuple[str, ...]


_ASKED: Final = (
    "Some records were to be taken out of a computer model that had learned from them. The model was {treated}."
)
_COMPARED: Final = "{compared}"
_OWNER: Final = "If you think that your records are among them, you can ask the owner of the model what happens next."

VERDICTS: Final[dict[str, VerdictText]] = {
    "REFUTED": VerdictText(
        headline="The outcome can be told apart from retraining without the request, by more than the guarantee "
        "under test allows.",
        shows="{guesses} {allowed} What was measured lies above what is allowed.",
        not_shown="Which record leaves the trace, whether its content can be read out of the model, or how large the "
        "true value is: the bound is a lower one.",
        tone="refuted",
        plain=(
            f"{_ASKED} {_COMPARED}",
            "The two can be told apart more clearly than the plan of this test allows. So the treatment did not do the "
            "same as training again without the records.",
            "This page does not say whose records they were. It does not show that anyone can read them out of the "
            f"model. {_OWNER}",
        ),
    ),
    "NOT_REFUTED": VerdictText(
        headline="The planned tests did not tell the outcome apart from retraining by more than the guarantee under "
        "test allows.",
        shows="{guesses} {allowed} What was measured does not exceed what is allowed. {resolution}",
        not_shown="That nothing of the request is left. A test can find a trace; that it found none beyond the limit "
        "is no evidence that there is none. A stronger attack or a larger audit may find one.",
        tone="open",
        plain=(
            f"{_ASKED} {_COMPARED}",
            "Our tests could not tell the two apart more clearly than the plan allows. This does not mean that nothing "
            "is left. A test like this can find traces. It can never show that there are none.",
            f"This page does not say whose records they were. {_OWNER}",
        ),
    ),
    "INCONCLUSIVE": VerdictText(
        headline="This audit cannot decide.",
        shows="Nothing for or against the guarantee under test. The reasons are listed below. {resolution}",
        not_shown="Neither that a trace of the request is left nor that none is. A larger audit, or one whose controls "
        "work as planned, could still come out either way.",
        tone="undecided",
        plain=(
            f"{_ASKED} {_COMPARED}",
            "{undecided} So we cannot say "
            "whether the treatment did the same as training again. This is not a good result and not a bad one.",
            f"This page does not say whose records they were. {_OWNER}",
        ),
    ),
    "EXACT_BY_PROVENANCE": VerdictText(
        headline="The recorded training history leaves out the committed records, under the assumptions listed below.",
        shows="The steps that led to these bytes are recorded and linked, and no committed record stands in what they "
        "say they used. {guesses}",
        not_shown="That the record of the steps is true where nobody replayed them, or anything about copies and "
        "derived models outside the scope.",
        tone="provenance",
        plain=(
            _ASKED,
            "The owner kept a log of every training step. By this log, the model was built again from steps that "
            "never used those records. If the log is true, the model could not learn from them afterwards.",
            f"Other copies of the records or of the model are a different matter. {_OWNER}",
        ),
    ),
    "BOUNDED_BY_THEOREM": VerdictText(
        headline="The bound that the method states follows from its theorem, under the assumptions listed below.",
        shows="The arithmetic of the stated bound holds, and no planned test contradicts it. {guesses}",
        not_shown="That the assumptions of the theorem hold for this model and this program: those marked as assumed "
        "are signed by the auditor, not recomputed.",
        tone="provenance",
        plain=(
            _ASKED,
            "The method comes with a mathematical rule. If the conditions of the rule hold, the result differs only by "
            "a known amount from training again without those records. The tests on this page do not contradict it.",
            f"Whether all conditions hold is an assumption, listed below. {_OWNER}",
        ),
    ),
}

COMPARED: Final = "We compared the result with models that were trained again without those records."
COMPARED_RECORDS: Final = (
    "We compared what the model says about those records with what it says about similar ones that it never learned "
    "from."
)
"""In its place where no model was trained again."""

UNDECIDED: Final = "The comparison was too small, or a check on the test itself did not work as it should."
UNDECIDED_RECORDS: Final = (
    "This kind of comparison can find a trace and can never show that there is none. It found none beyond the limit, "
    "or a check on the test itself did not work as it should."
)

DRAFT: Final = VerdictText(
    headline="This page is an unsigned draft and states no verdict.",
    shows="How the finished page will look. Nobody has signed these numbers.",
    not_shown="Anything about the model. Do not pass this page on as a result.",
    tone="draft",
    plain=(
        "This page is a draft. Nobody has signed it and it states no result.",
        "Please wait for the signed version, and ask for its file: a file can be checked, a picture or a printed page "
        "cannot.",
    ),
)

ALLOWED: Final = "The guarantee under test, eps = {tested}, lets a guesser be right at most {share} of the time."
ALLOWED_ALL: Final = "The guarantee under test, eps = {tested}, leaves a guesser almost free."
GUESSES: Final = (
    "Someone who guesses whether a model was retrained, and may choose when to guess, could be right in at least "
    "{shares}."
)
GUESSES_NONE: Final = "No way was shown to guess better than by tossing a coin whether a model was retrained."

SURE: Final = (
    "If the guarantee under test were kept, an audit planned like this one would refute it in at most {alpha} of all "
    "runs, given the assumptions below. {controls}"
)
SURE_DRAFT: Final = "Not at all: there is no signature."

INDEPENDENCE: Final = {
    "internal": "Internal. The key that signed this audit belongs to whoever ran it; no outside party took part. A "
    "signature shows that nothing was changed afterwards, not that the audit was run fairly.",
    "external": "External. The auditor declares to be independent of the owner of the model. This file cannot show "
    "whether that is so.",
}
INDEPENDENCE_OTHER: Final = "The certificate does not say whether the auditor is independent of the owner of the model."

LEAKAGE: Final = (
    "Whoever has both the model before and the model after the request can compare them and learn about the records in "
    "between. This holds even after exact retraining, because the two models differ by just those records. The "
    "tests that decide do not measure it: they compare the outcome with retraining, not with the model before. Where "
    "the model before was at hand, one attack on the difference stands among the numbers beyond the audited model, "
    "beside the same attack on retrained models. Keep the earlier model closed, or delete it, and answer several "
    "requests together."
)

QUESTIONS: Final = {
    "procedure": (
        "Procedure",
        "Does this method, on this training recipe and this request, lead to the same kind of model as retraining "
        "without the request?",
    ),
    "artifact": (
        "Artifact",
        "Is this very file typical of models that never saw the request?",
    ),
}

ATTACKS: Final = {
    "eps-coinflip": "coin-flip slots: a fair coin decides for each model whether it is unlearned or retrained, and the "
    "audit guesses the coin",
    "eps-sequential": "coin-flip slots, one after another: a fair coin decides for each model whether it is unlearned "
    "or retrained; the audit bets on the coin, learns from the slots opened before, and ends early where the "
    "plan allows it",
    "conformal-p": "rank of the audited file among retrained reference models",
    "label-p": "on the audited file alone: the request's place among never-trained records of the same classes, "
    "against random places",
}

TREATED: Final = {
    None: "treated with an unknown method",
    "identity": "left as it was (method identity)",
}
TREATED_WITH: Final = "treated with the method {method}"

VOID: Final = "claims nothing: the negative control of this question did not hold"

BASES: Final = {
    "recounted": "the checker computes it again from the evidence files",
    "derived": "the checker redoes the arithmetic on the claims named",
    "assumed": "the same, and it holds only under the assumptions of this page, A1 and A9 first",
    "descriptive": "for information; cannot support a verdict",
    "unread": "this version of the report does not know the type",
}

GUARANTEES: Final = {
    "none": "none",
    "exact": "exact: the same as retraining",
    "certified": "certified: an (eps, delta) bound from a theorem",
}

SOURCES: Final = {
    "option": "whoever ran the audit, on the command line",
    "project": "the project file",
    "sidecar": "the file that the method wrote beside the model",
    "declared": "the plan file of whoever handed the scores in",
    "unknown": "nobody: the method is unknown",
}

ACCESS: Final = {
    "public": "public",
    "controlled": "controlled: handed to an auditor on request",
}

ASSUMPTIONS: Final = {
    "A1": "The retrained models, and where records are compared the never-trained records, are exchangeable with what "
    "they stand for: apart from the request, nothing tells them apart.",
    "A2": "The scores in the evidence were computed from the models that the evidence names, and those of the audited "
    "file from the audited bytes.",
    "A3": "Training and retraining used exactly the recorded data, program, and seeds that the plan commits to.",
    "A4": "The commitment to the request was computed from the real record identifiers and is complete for each "
    "person, near-duplicates included.",
    "A5": "No copy or derivative of the model outside the stated scope is in use.",
    "A6": "SHA-256 is collision resistant, and the signature scheme cannot be forged.",
    "A7": "The decimal arithmetic of CPython rounds as it documents.",
    "A8": "The clock of the machine that issued this certificate was right.",
    "A9": "The seed was drawn once. No outside nonce or beacon took part, so somebody who tried many seeds, or dropped "
    "whole runs, could have chosen a convenient one.",
    "A10": "Every planned model was trained and reported; failures were written down as failures.",
    "A11": "The scores were fitted on pilot models only, and saw neither the coins nor the models that they judge.",
    "A12": "The request's records and the never-trained ones of the same class are exchangeable: but for the request, "
    "nothing tells them apart. A whole class, one person's records or a cluster of outliers is not exchangeable. The "
    "never-trained records took no part in training, and the scores were made without looking at which is which.",
    "A13": "The score and the threshold of a slot were fixed before its coin was opened: they were learned on pilot "
    "models and on slots opened before it, in the order of the plan, and saw neither that coin nor the models of "
    "later slots.",
}

LIMITATIONS: Final = {
    "L1": "Measured bounds are lower bounds. A test can refute a guarantee and can never confirm one.",
    "L2": "The result holds for these model bytes, this training recipe, this method with these parameters, and this "
    "request. Any change needs a new audit.",
    "L3": "Only the scores named in the plan were used. Another score may tell models apart where these did not.",
    "L4": "Whoever runs an audit of their own work can choose weak tests. The controls show that the tests see a "
    "model that was not treated at all, not that they see everything.",
    "L5": "Backups, other copies, derived models and the records themselves are outside this audit.",
    "L6": "The bound concerns the request as a whole. It is not a bound for one record or one person.",
    "L7": "The procedure question is about freshly trained models treated by the same method, not about the audited "
    "file itself.",
    "L8": "The artifact question looks in one direction only: how unusual the audited file is among retrained models.",
    "L9": "What an observer of both the earlier and the later model can learn decides nothing here; at most one attack "
    "of that kind is shown.",
    "L10": "Metrics of the attack panel inform. They carry no level and cannot support a verdict.",
    "L11": "This page is evidence for the owner's own legal assessment. It is not that assessment.",
    "L15": "plan: after the fact. The scores existed before the plan did, so nobody can show that the question, the "
    "models or the audit's seed were not chosen after a look at them.",
    "L16": "The models were made and scored elsewhere. Nothing here shows that the scores come from the models named, "
    "or that the models were made as declared.",
    "L12": "The data set is small and public. Results on it say little about other data.",
    "L13": "No retrained model took part: records of the request were compared with never-trained ones on the audited "
    "file alone. Such a comparison can refute and never clears. It cannot see what the model kept of all records of a "
    "kind alike, nor one record that stands out no more than some never-trained one does.",
    "L14": "Slots were judged one after another, until the plan's rule ended the sequence. A bound from a few slots is "
    "a coarse one: more slots could show a larger eps, and a small one needs many.",
}

METRICS: Final = {
    "attack": "Attacks on single records: what an adversary would see; for information, no verdict rests on them",
    "test": "Tests of a difference between pools of models: each p is valid at its level; no verdict rests on them",
    "descriptive": "Descriptive numbers, without a confidence statement; no verdict rests on them",
    "probe": "Beyond the audited model: each number beside that of retrained models; no verdict rests on them",
    "extrapolation": "Extrapolations: right only if their assumption is; no verdict may rest on them",
}

UNKNOWN_TEXT: Final = "No text for this entry in this version of the report."

GLOSSARY: Final = (
    (
        "alpha",
        "The share of audits that would wrongly refute a kept guarantee. It is split in the plan over all tests.",
    ),
    ("Artifact question", "Whether one given model file is typical of models that never saw the request."),
    ("AUC", "Area under the ROC curve: 0.5 is guessing, 1 is perfect. Descriptive here."),
    (
        "Certificate",
        "The signed statement inside the file of this page: what was asked, planned, measured and concluded.",
    ),
    ("Commitment", "A fingerprint of the request that reveals no record, yet cannot be changed later without notice."),
    ("delta", "A small share of cases that a guarantee leaves out."),
    ("Digest", "A SHA-256 fingerprint of a file. One changed bit gives another digest."),
    (
        "eps",
        "How well the outcome and retraining can be told apart. At 0 not at all; at 0.5 a guesser is right at most "
        "62.3 % of the time; at 2 at most 88.1 %.",
    ),
    ("LiRA", "A membership test that compares a record's loss with that of models trained with and without it."),
    ("Lower bound", "A value that the true one exceeds, at the stated level. Printed rounded down."),
    ("Model before", "The model as it was trained, with the records of the request."),
    (
        "Negative control",
        "The same audit with retraining put in the place of the method. It must find nothing; otherwise the question "
        "makes no claim.",
    ),
    ("One-sided", "The level counts errors in one direction only: a bound that is too high."),
    ("p", "How often a model that never saw the request would score at least as high as the audited file."),
    (
        "Positive control",
        "The same audit on the model before, untreated. It must be detected; otherwise the test is blind.",
    ),
    ("Power", "The probability that an audit of this size sees an effect of a given size."),
    ("Procedure question", "Whether a method, run again and again, leads to the same kind of model as retraining."),
    ("Request", "The set of records that are to be taken out. Elsewhere called the forget set."),
    ("Retraining", "Training from the beginning without the records of the request. The yardstick of this audit."),
    ("Slot", "One place in the plan, filled by one model; a fair coin decides how that model is made."),
    (
        "TPR at an FPR",
        "Share of trained records that a test finds while it wrongly accuses the stated share of never-trained ones.",
    ),
)
