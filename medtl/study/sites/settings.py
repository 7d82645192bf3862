"""What a study that leaves each site out cannot be asked for; needs no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medtl.data.domain import parse_domain
from medtl.errors import ConfigError

if TYPE_CHECKING:
    from medtl.study.config import StudyConfig

#: Settings of a study that have no meaning here, and why.
_OTHERS = {
    "folds": "tests one site after the other; drop --folds",
    "inits": "trains a source for each site; drop --inits",
    "primary": "judges all strategies together; drop primary",
    "skip": "adds no arm but zero-shot, which the others are compared with; drop --skip",
}

#: Settings of ``medtl train`` that divide patients in another way, or cut the target's network.
_REFUSED = ("test_cases", "protocol", "keep_blocks")


def check_sites_config(config: StudyConfig) -> None:
    """Raises ConfigError for a setting that contradicts ``--leave-site-out``."""
    for name, why in _OTHERS.items():
        if getattr(config, name):
            raise ConfigError(f"--leave-site-out {why}")
    if config.budgets != ("all",):
        raise ConfigError("--leave-site-out uses no label of the target; drop --budgets")
    if len(config.networks) > 1:
        raise ConfigError("--leave-site-out compares strategies of one network; name one")
    for name in _REFUSED:
        if config.settings.get(name):
            raise ConfigError(f"--leave-site-out: settings.{name} is not for it; drop it")
    ends = [str(config.settings[end]) for end in ("src", "dst") if config.settings.get(end)]
    if len({parse_domain(text) for text in ends}) > 1:
        raise ConfigError(
            f"--leave-site-out: --src {ends[0]} and --dst {ends[1]} differ in more than the site; "
            "give one of them"
        )
    for name in ("src", "dst"):
        text = config.settings.get(name)
        if text and parse_domain(str(text)).sites:
            raise ConfigError(
                f"--leave-site-out: --{name} {text} names a site, but every site is the target in "
                "turn; drop the site, or drop --leave-site-out"
            )
