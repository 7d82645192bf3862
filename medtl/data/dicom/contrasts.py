"""Which contrast an MR series shows: by the words of its header, checked by its physics.

Sources: weighting by echo and repetition time as in Brown et al., Magnetic Resonance Imaging,
2nd ed., ch. 15; inversion times of FLAIR as in Hajnal et al. 1992.
"""

from __future__ import annotations

import re

from medtl.data.dicom.frames import Acquisition

#: A spin echo of this length (ms) or less, and repeated so soon, shows T1.
SHORT_ECHO_MS, SHORT_REPETITION_MS = 35.0, 1500.0

#: An echo of this length or more, with so long a repetition, shows T2.
LONG_ECHO_MS, LONG_REPETITION_MS = 60.0, 1800.0

#: Gradient echoes of this length or more show T2*.
LONG_GRADIENT_ECHO_MS = 12.0

#: Inversion times that take away the signal of water; shorter ones take away that of fat.
WATER_MS = (1400.0, 3500.0)

#: Why nothing can be said of a series.
NEITHER = "says neither by words nor by times what it shows"

_WORDS = {
    "flair": r"(?<!t1 )flair|dark ?fluid|tirm",
    "t1": r"t1w?|mp ?rage|mpr|spgr|bravo|tfl|t1 ?(se|tse|gre|flash)",
    "t2": r"t2w?|t2 ?(tse|fse|se)",
    "other": r"t2 ?star|t2\*|gre ?t2|swi|swan|dwi|dti|adc|diff(usion)?|perf(usion)?|dsc|dce|bold"
    r"|fmri|asl|tof|mra|angio|pd|localizer|scout|survey|phase|field ?map|stir|cbv|cbf|mtt|tracew?",
}
_AFTER = r"post|\+ ?c|c ?\+|\+|gad|gd|gado|ce|t1 ?ce|t1 ?c|contrast|km|ca|enhanced|t1 ?gd|t1 ?post"
_BEFORE = r"pre|native?|plain|non ?contrast|without|w ?o|unenhanced|no ?gd|t1 ?pre"
_NO_AGENT = ("", "no", "none", "n", "0", "not", "without")


def _holds(text: str, words: str) -> bool:
    return re.search(rf"(?<![a-z0-9])({words})(?![a-z0-9])", text) is not None


def contrast_of(acquisition: Acquisition) -> tuple[str, str]:
    """The contrast of an MR series: flair, t1, t1ce or t2, or "" and why it is none of them."""
    if acquisition.modality != "MR":
        return "", f"is {acquisition.modality or 'of no modality'}, not MR"
    if acquisition.b_value:
        return "", f"is diffusion (b = {acquisition.b_value:g})"
    text = re.sub(r"[_\-./()\[\]]+", " ", acquisition.description.lower())
    more = re.sub(r"[_\-./()\[\]]+", " ", acquisition.protocol.lower())
    words, physics = _by_words(text) or _by_words(more), _by_physics(acquisition)
    if words == "other":
        return "", "shows another contrast by its description"
    if {words, physics} == {"flair", "t2"}:  # whose echo is the same; the inversion is not told
        physics = words
    if words and physics and words != physics:
        return "", f"is called {words}, but its echo and repetition times are those of {physics}"
    found = words or physics
    if not found:
        return "", NEITHER
    if found == "t1" and _has_agent(text, more, acquisition.agent):
        return "t1ce", ""
    return found, ""


def _by_words(text: str) -> str:
    for name in ("other", "flair", "t1", "t2"):
        if _holds(text, _WORDS[name]) or (name == "t1" and _holds(text, r"t1 ?(ce|c|gd|post|pre)")):
            return name
    return ""


def _by_physics(acquisition: Acquisition) -> str:
    """The contrast that the times give; "" where they give none, or are not known."""
    echo, repetition = acquisition.echo_ms, acquisition.repetition_ms
    inversion = acquisition.inversion_ms
    if echo is None or repetition is None:
        return ""
    if inversion and WATER_MS[0] <= inversion <= WATER_MS[1] and echo >= LONG_ECHO_MS:
        return "flair"
    if echo >= LONG_ECHO_MS and repetition >= LONG_REPETITION_MS:
        return "t2"
    if "GR" in acquisition.sequence and "SE" not in acquisition.sequence:
        short = echo < LONG_GRADIENT_ECHO_MS
    else:
        short = echo <= SHORT_ECHO_MS
    if short and (repetition <= SHORT_REPETITION_MS or (inversion and inversion < WATER_MS[0])):
        return "t1"
    return ""


def _has_agent(text: str, more: str, agent: str) -> bool:
    """Whether a T1 was taken after a contrast agent: by its own description first."""
    if _holds(text, _BEFORE):
        return False
    if _holds(text, _AFTER):
        return True
    if agent:
        return agent.lower().split()[0] not in _NO_AGENT
    return _holds(more, _AFTER) and not _holds(more, _BEFORE)
