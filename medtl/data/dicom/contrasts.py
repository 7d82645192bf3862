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

#: Other contrasts come first: ``T2*`` is no T2.
_WORDS = {
    "other": r"t2 ?star|t2\*|t2 ?gre|gre ?t2|t2 ?fl2d|hemo|swi|swan|dwi|dti|adc|diff(usion)?|fa|"
    r"perf(usion)?|dsc|dce|bold|fmri|asl|tof|cow|mra|angio|pd|localizer|scout|survey|phase|"
    r"field ?map(ping)?|gre ?field|stir|(rel)?cbv|(rel)?cbf|mtt|ttp|tmax|tracew?|aniso|ciss|"
    r"fiesta|space ?myelo|mrs|spectro|sub(tract\w*)?",
    "flair": r"(?<!t1 )flair|dark ?fluid|tirm",
    "t1": r"t1w?|t1 ?(ce|c|gd|post|pre)|mp ?rage|mpr|spgr|bravo|tfl|t1 ?(se|tse|gre|flash)",
    "t2": r"t2w?|t2 ?(tse|fse|se)",
}
_BEFORE = r"pre|native?|plain|non ?contrast|no ?contrast|unenhanced|no ?gd|t1 ?pre|c -|c-|" \
    r"(without|w ?o)( iv)?( contrast| gd| gad| c)?"  # fmt: skip
_AFTER = r"post|\+ ?c|c ?\+|gad|gd|gado|ce|t1 ?ce|t1 ?c|contrast|km|ca|enhanced|t1 ?gd|t1 ?post"
#: These words say something else than whether a contrast agent was given.
_ASIDE = r"post ?op\w*|pre ?op\w*|(without|w ?o) (fs|fat\w*|motion|artefact\w*)"
_NO_AGENT = ("", "no", "none", "n", "0", "not", "without")


def _holds(text: str, words: str) -> bool:
    return re.search(rf"(?<![a-z0-9])({words})(?![a-z0-9])", text) is not None


def contrast_of(acquisition: Acquisition) -> tuple[str, str]:
    """The contrast of an MR series: flair, t1, t1ce or t2, or "" and why it is none of them."""
    if acquisition.modality != "MR":
        return "", f"is {acquisition.modality or 'of no modality'}, not MR"
    if acquisition.b_value:
        return "", f"is diffusion (b = {acquisition.b_value:g})"
    text, more = _plain(acquisition.description), _plain(acquisition.protocol)
    words, physics = _by_words(text) or _by_words(more), _by_physics(acquisition)
    if words == "other":
        return "", "shows another contrast by its description"
    if {words, physics} == {"flair", "t2"} and acquisition.inversion_ms is None:
        physics = words  # their echoes are alike; the inversion is not told
    if words and physics and words != physics:
        return "", f"is called {words}, but its times are those of {physics}"
    found = words or physics
    if not found:
        return "", NEITHER
    if found == "flair" and acquisition.inversion_ms and not _takes_water(acquisition):
        return "", f"is called {found}, but its inversion time is that of fat suppression"
    if found == "t1" and _has_agent(text, more, acquisition.agent):
        return "t1ce", ""
    return found, ""


def _plain(text: str) -> str:
    """In lower case, ``T1+C`` in words of their own."""
    text = re.sub(r"[_./()\[\],;:]+", " ", text.lower())
    text = re.sub(r"(?<=[a-z0-9])\+", " +", text)
    return re.sub(r"-(?=\w)", " ", text)


def _by_words(text: str) -> str:
    return next((name for name, words in _WORDS.items() if _holds(text, words)), "")


def _takes_water(acquisition: Acquisition) -> bool:
    inversion = acquisition.inversion_ms
    return inversion is not None and WATER_MS[0] <= inversion <= WATER_MS[1]


def _by_physics(acquisition: Acquisition) -> str:
    """The contrast that the times give; "" where they give none, or are not known."""
    echo, repetition = acquisition.echo_ms, acquisition.repetition_ms
    if echo is None or repetition is None or "EP" in acquisition.sequence:
        return ""
    inversion = acquisition.inversion_ms
    if _takes_water(acquisition) and echo >= LONG_ECHO_MS:
        return "flair"
    if "GR" in acquisition.sequence and "SE" not in acquisition.sequence:
        # Of short gradient echoes, only those after an inversion are T1 for sure.
        return "t1" if inversion and echo < LONG_GRADIENT_ECHO_MS else ""
    if echo >= LONG_ECHO_MS and repetition >= LONG_REPETITION_MS:
        return "t2"
    soon = repetition <= SHORT_REPETITION_MS
    inverted = inversion is not None and 0 < inversion < WATER_MS[0]
    return "t1" if echo <= SHORT_ECHO_MS and (soon or inverted) else ""


def _has_agent(text: str, more: str, agent: str) -> bool:
    """Whether a T1 was taken after a contrast agent: by its own description first."""
    text, more = (
        re.sub(rf"(?<![a-z0-9])({_ASIDE})(?![a-z0-9])", " ", each) for each in (text, more)
    )
    if _holds(text, _BEFORE):
        return False
    if _holds(text, _AFTER) or text.rstrip().endswith("+"):
        return True
    if agent:
        return agent.lower().split()[0] not in _NO_AGENT
    return _holds(more, _AFTER) and not _holds(more, _BEFORE)
