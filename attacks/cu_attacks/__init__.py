"""Floor 2: numbers in, evidence out. Never imports torch."""
