"""What each rule of the gate demands, in one sentence, and the first thing to do: the same words as in its page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Help:
    """Two sentences about a rule.

    Args:
        what: What it demands.
        fix: What to do when it blocks.
    """

    what: str
    fix: str


HELP: Final[Mapping[str, Help]] = {
    "CU001": Help(
        "The file must be a certificate with a valid signature by a key that your trust file lists for audits, within "
        "its time, about exactly the model that you give, and each of its claims must follow from its evidence.",
        "Do not rely on the file; read the step in the message and ask the auditor for the certificate of this model.",
    ),
    "CU002": Help(
        "Every evidence file that the certificate lists must be at hand.",
        "Name the folder that holds the evidence with --evidence.",
    ),
    "CU003": Help(
        "As many different keys of each demanded role must have signed the same bytes.",
        "Have the certificate countersigned by a key that the trust file lists with that role.",
    ),
    "CU004": Help(
        "A time-stamping authority that the trust file names must confirm when the certificate existed.",
        "Ask the auditor for certificate.tsr and name its authority in the trust file.",
    ),
    "CU101": Help(
        "No lower bound on eps that the audit measured may exceed the policy's, and the audit must have been able to "
        "show one that does.",
        "Unlearn again with another method or retrain, then audit anew.",
    ),
    "CU102": Help(
        "The verdict, as stated and as derived from the claims, must be one that the policy accepts.",
        "Read the reasons in the report; audit anew once they are settled.",
    ),
    "CU103": Help(
        "For every planned question the audit must have been able to see a leak of the size that the policy names, and "
        "must have detected the original model.",
        "Audit anew with more slots or references.",
    ),
    "CU104": Help(
        "Each test that the policy names must have been planned and carried out.",
        "Add the attack to the plan and audit anew.",
    ),
    "CU105": Help(
        "The certificate must show at least the accuracy that the policy names.",
        "Choose a method or parameters that cost less accuracy, or evaluate on more records.",
    ),
    "CU106": Help(
        "All bounds together may err with at most the probability that the policy names.",
        "Audit anew with an alpha that is at most the policy's.",
    ),
    "CU107": Help(
        "The attacks on single records must have been able to see a leak of the size that the policy names.",
        "Audit more records at once, hold out more, or ask for a leak that these sizes can show.",
    ),
    "CU108": Help(
        "Unlearning may have cost at most so much accuracy on held-out records as the policy names.",
        "Demand an accuracy with utility_min instead: the old accuracy minus the loss you allow.",
    ),
    "CU109": Help(
        "Every planned test must have an answer, also where the verdict rests on provenance or on a theorem.",
        "Complete the audit, give its evidence with --evidence, or plan it larger.",
    ),
    "CU110": Help(
        "A theorem must bound eps from above by at most the policy's value.",
        "Use a method that states (eps, delta), with more noise or fewer steps.",
    ),
    "CU201": Help(
        "The unlearning method must be one that the policy allows.",
        "Unlearn with an allowed method, then audit anew.",
    ),
    "CU202": Help(
        "The auditor must be as independent as the policy asks.",
        "Have the audit made and signed by an outside auditor whose key is in the trust file.",
    ),
    "CU203": Help(
        "The statement must be of the type that the policy names.",
        "Give a certificate of the demanded type, or correct the policy.",
    ),
    "CU204": Help(
        "Every committed record of the request must be shown absent from what the model was trained on.",
        "Use an exact method that writes a chain of training records, and give its evidence.",
    ),
    "CU205": Help(
        "Enough training steps must have been run again, and each must have come out as recorded.",
        "Replay more steps.",
    ),
    "CU301": Help(
        "Every batch of requests that the policy names must be covered by a trusted certificate for this model.",
        "Audit the model for the open batch and give its certificate as well, or correct the root.",
    ),
    "CU401": Help(
        "The certificate must be neither expired nor too old nor from the future.",
        "Audit the model anew.",
    ),
    "CU402": Help(
        "No exception of the policy may have run out.",
        "Settle the matter and delete the exception, or have a new date approved.",
    ),
    "CU501": Help(
        "The signed report must be there, unaltered, and carry this certificate.",
        "Put the auditor's report.html beside the certificate, or write it again with cu-cert report.",
    ),
    "CU502": Help(
        "Nothing in the certificate and its report may look like personal data.",
        "Have the certificate issued again without it.",
    ),
}
"""Two sentences about each rule."""
