"""cu-cert: run machine-unlearning methods, audit them, issue certificates a stranger can re-check.

The front door: one function a verb, imported when it is first used, so that reading a certificate never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from cu_cert.drill_certificate import certify_drill
    from cu_cert.drilling import drill
    from cu_cert.fleet.housekeeping import clean_store, store_status
    from cu_cert.main_job import demo
    from cu_cert.no_retrain import audit_without_retraining
    from cu_cert.outside import audit_scores
    from cu_cert.outside import hand_out as plan
    from cu_cert.project import init_project as init
    from cu_cert.project import load_project
    from cu_cert.protocol import audit
    from cu_cert.stocking import plan_release, train_release
    from cu_cert.training import train_model as train
    from cu_cert.unlearning import unlearn_model as unlearn
    from cu_certificates.check.main import check_file as check
    from cu_certificates.countersign import countersign
    from cu_certificates.gate import run_gate as gate
    from cu_certificates.keys import generate_key
    from cu_certificates.lint import lint_privacy, lint_wording
    from cu_certificates.log import verify_log
    from cu_certificates.receipt import verify_receipt
    from cu_certificates.report import report_bytes as report
    from cu_certificates.revocation import revoke
    from cu_certificates.rotation import rotate as rotate_key
    from cu_certificates.signing import sign_draft as sign
    from cu_certificates.verify import verify

__version__ = "0.1.0"

_DOOR: Final = {
    "audit": ("cu_cert.protocol", "audit"),
    "audit_scores": ("cu_cert.outside", "audit_scores"),
    "audit_without_retraining": ("cu_cert.no_retrain", "audit_without_retraining"),
    "certify_drill": ("cu_cert.drill_certificate", "certify_drill"),
    "check": ("cu_certificates.check.main", "check_file"),
    "clean_store": ("cu_cert.fleet.housekeeping", "clean_store"),
    "countersign": ("cu_certificates.countersign", "countersign"),
    "demo": ("cu_cert.main_job", "demo"),
    "drill": ("cu_cert.drilling", "drill"),
    "gate": ("cu_certificates.gate", "run_gate"),
    "generate_key": ("cu_certificates.keys", "generate_key"),
    "init": ("cu_cert.project", "init_project"),
    "lint_privacy": ("cu_certificates.lint", "lint_privacy"),
    "lint_wording": ("cu_certificates.lint", "lint_wording"),
    "load_project": ("cu_cert.project", "load_project"),
    "plan": ("cu_cert.outside", "hand_out"),
    "plan_release": ("cu_cert.stocking", "plan_release"),
    "report": ("cu_certificates.report", "report_bytes"),
    "revoke": ("cu_certificates.revocation", "revoke"),
    "rotate_key": ("cu_certificates.rotation", "rotate"),
    "sign": ("cu_certificates.signing", "sign_draft"),
    "store_status": ("cu_cert.fleet.housekeeping", "store_status"),
    "train": ("cu_cert.training", "train_model"),
    "train_release": ("cu_cert.stocking", "train_release"),
    "unlearn": ("cu_cert.unlearning", "unlearn_model"),
    "verify": ("cu_certificates.verify", "verify"),
    "verify_log": ("cu_certificates.log", "verify_log"),
    "verify_receipt": ("cu_certificates.receipt", "verify_receipt"),
}

__all__ = [
    "__version__",
    "audit",
    "audit_scores",
    "audit_without_retraining",
    "certify_drill",
    "check",
    "clean_store",
    "countersign",
    "demo",
    "drill",
    "gate",
    "generate_key",
    "init",
    "lint_privacy",
    "lint_wording",
    "load_project",
    "plan",
    "plan_release",
    "report",
    "revoke",
    "rotate_key",
    "sign",
    "store_status",
    "train",
    "train_release",
    "unlearn",
    "verify",
    "verify_log",
    "verify_receipt",
]


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module 'cu_cert' has no attribute {name!r}")
    module, attribute = _DOOR[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
