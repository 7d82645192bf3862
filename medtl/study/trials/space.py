"""What the trials of an arm search, and the settings of each trial."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medtl.errors import ConfigError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

#: The searched rates lie between the arm's own divided and multiplied by it; so do weight decays.
FACTOR = 10.0

#: Significant digits of what is drawn.
DIGITS = 4

#: Of the draws: trial k of two arms stands at the same place of their ranges.
SEED = 0

#: From the lowest to the highest value, of which the logarithm is drawn evenly.
Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Space:
    """The values that are searched beside the untuned ones."""

    lr: Range
    weight_decay: Range | None = None  #: None: the arm has none
    depths: tuple[int, ...] = ()  #: of a strategy that takes ``depth``

    def words(self) -> dict[str, str]:
        """Setting -> what is searched, for tables."""
        decay, depths = self.weight_decay, self.depths
        return {
            "lr": f"{self.lr[0]:.3g} to {self.lr[1]:.3g}",
            "weight decay": f"{decay[0]:.3g} to {decay[1]:.3g}" if decay else "as it is",
            "depth": f"{depths[0]} to {depths[-1]}" if depths else "none",
        }


def around(own: float) -> Range:
    """The range about an arm's own value, which is above 0."""
    return own / FACTOR, own * FACTOR


def check_optuna() -> None:
    """Raises ConfigError where the optional dependency is not installed."""
    try:
        import optuna  # noqa: F401
    except ModuleNotFoundError:
        raise ConfigError("--tune needs Optuna; install it by pip install 'medtl[tune]'") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from telling what it makes."""
    import warnings

    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)


def draw_trials(space: Space, count: int) -> tuple[Mapping[str, Any], ...]:
    """The settings of ``count`` trials, of which the first changes nothing.

    Scrambled points of Sobol's sequence, by Optuna. Trial k is the same whatever the count is, and
    in whatever order trials end.
    """
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    searched: dict[str, BaseDistribution] = {"lr": FloatDistribution(*space.lr, log=True)}
    if space.weight_decay:
        searched["weight_decay"] = FloatDistribution(*space.weight_decay, log=True)
    if space.depths:
        searched["depth"] = CategoricalDistribution(space.depths)
    drawn: list[dict[str, Any]] = [{}]
    with quiet():
        sampler = optuna.samplers.QMCSampler(
            scramble=True, seed=SEED, warn_independent_sampling=False
        )
        study = optuna.create_study(sampler=sampler)
        for _ in range(count - 1):
            trial = study.ask(searched)
            study.tell(trial, 0.0)
            drawn.append({name: _rounded(trial.params[name]) for name in searched})
    return tuple(drawn)


def distributions_of(trials: Iterable[Mapping[str, Any]]) -> dict[str, BaseDistribution]:
    """The ranges of drawn settings, as Optuna's own tools show them."""
    from optuna.distributions import FloatDistribution, IntDistribution

    values: dict[str, list[Any]] = {}
    for settings in trials:
        for name, value in settings.items():
            values.setdefault(name, []).append(value)
    found: dict[str, BaseDistribution] = {}
    for name, own in values.items():
        low, high = min(own), max(own)
        whole = name == "depth"
        found[name] = (
            IntDistribution(low, high) if whole else FloatDistribution(low, high, log=True)
        )
    return found


def _rounded(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
