"""Figures as tables and sentences show them."""

from __future__ import annotations


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def probability(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{round(value, 2) + 0.0:.0%}"  # no -0%
