"""What a study that leaves each site out cannot be asked for; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medtl.data.domain import parse_domain
from medtl.errors import ConfigError

#: Settings of a study that have no meaning here, and why.
_OTHERS = {
    "folds": "tests one site after the other; drop --folds",
    "inits": "trains a source for each site; drop --inits",
    "primary": "judges all strategies together; drop primary",
    "skip": "adds no arm but zero-shot, which the others are compared with; drop --skip",
    "tune": "trains no arm on the target's labels; drop --tune",
    "target": "trains no arm on the target's labels; drop --target",
}

#: Settings of ``medtl train`` that divide patients in another way, or cut the target's network.
_REFUSED = ("test_cases", "protocol", "keep_blocks")


def check_sites_config(study: Mapping[str, Any]) -> None:
    """Raises ConfigError for a setting that contradicts ``--leave-site-out``.

    Args:
        study: the fields of a :class:`medtl.study.config.StudyConfig`.
    """
    settings = study["settings"]
    for name, why in _OTHERS.items():
        if study[name]:
            raise ConfigError(f"--leave-site-out {why}")
    if study["budgets"] != ("all",):
        raise ConfigError("--leave-site-out uses no label of the target; drop --budgets")
    if len(study["networks"]) > 1:
        raise ConfigError("--leave-site-out compares strategies of one network; name one")
    for name in _REFUSED:
        if settings.get(name):
            raise ConfigError(f"--leave-site-out: settings.{name} is not for it; drop it")
    ends = [str(settings[end]) for end in ("src", "dst") if settings.get(end)]
    if len({parse_domain(text) for text in ends}) > 1:
        raise ConfigError(
            f"--leave-site-out: --src {ends[0]} and --dst {ends[1]} differ in more than the site; "
            "give one of them"
        )
    for name in ("src", "dst"):
        text = settings.get(name)
        if text and parse_domain(str(text)).sites:
            raise ConfigError(
                f"--leave-site-out: --{name} {text} names a site, but every site is the target in "
                "turn; drop the site, or drop --leave-site-out"
            )
