"""Floor 1: nouns, claims, signing, policy, report. Nothing is imported on load."""
