"""cu-cert: run machine-unlearning methods, audit them, issue certificates a stranger can re-check."""

__version__ = "0.1.0"
