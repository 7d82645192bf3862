"""Tuned arms: an equal number of trials per arm, scored on validation patients."""
