"""Checks: what was measured of all cases -> findings. Each module has one subject."""
