"""Fleets: many models of one recipe on planned record sets, stored by content and resumable."""
