"""``python -m cu_cert`` is ``cu-cert``."""

from cu_cert.cli.main import main

main()
