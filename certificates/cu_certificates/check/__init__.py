"""The checker: standard library only, imports nothing else of ours, usable from a copied folder."""
