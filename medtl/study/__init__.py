"""Comparisons of networks and of runs: what transfers, and what changes on the way."""
