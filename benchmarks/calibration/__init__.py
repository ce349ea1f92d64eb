"""How often does each test of the audit floor err, when there is nothing to find? See ``docs/calibration.md``."""
