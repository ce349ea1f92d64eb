"""The unlearning engine: Subject, Term, Region, Rule, Schedule, and the one training loop of an edit.

Every method that edits weights minimises a weighted sum of losses on data streams, over a region of the weights, by a
rule that joins the gradients, on a schedule. A method picks the five; it owns no loop. Nothing here imports torch
before an edit runs.
"""
