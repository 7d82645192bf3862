"""Figures and tables of a run. Each one says so when its data are synthetic."""
