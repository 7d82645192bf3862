"""The file of a recipe: a published study, its protocol as published, and a sound one.

title: VGG on four classes
source: who reported it, and where
reported: {accuracy: 0.84}
figures: {accuracy: {metric: accuracy, run: vgg11, arm: fine-tune}}
pretrained: {lgg: {task: lgg-mri, steps: 300}}
as_published:
  leaks: [selected-on-test]
  settings: {task: kaggle-mri, protocol: official}
  runs: {vgg11: {network: vgg11}}
sound: {task: kaggle-mri, strategies: [fine-tune], inits: [lgg]}
departures: [no ImageNet weights]
why: The test images are in training, too.
quick: {as_published: {settings: {steps: 5}}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from medtl.study.config import StudyConfig, resolve_study

SELECTED_ON_TEST, SEEN_BEFORE = "selected-on-test", "seen-before"

#: What medtl prevents, and a recipe does on purpose -> what it does to the scores.
LEAKS = {
    SELECTED_ON_TEST: "the step whose weights are scored was chosen by the score on the test cases",
    SEEN_BEFORE: "the weights to start from were trained on some of the test patients",
}

Settings = dict[str, Any]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Figure(_Part):
    """A row of the table: a score of a run as published, and of an arm of the sound study."""

    metric: str
    output: str = "all"  #: a region or a class; all classes together
    run: str = ""  #: of as_published; "" none
    arm: str = ""  #: of the sound study; "" none
    network: str = ""  #: of the sound study; "" its first
    budget: str = ""  #: of the sound study; "" its largest


class Phantom(_Part):
    """A synthetic cohort of its own; see :func:`medtl.data.phantom.cohort.write_phantom`."""

    cases: Annotated[int, Field(ge=1, le=9999)]
    size: Annotated[int, Field(ge=16, le=512)] = 32
    sites: Annotated[int, Field(ge=1, le=99)] = 2
    seed: Annotated[int, Field(ge=0)] = 0


def _text(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_text)]


Leaks = Annotated[tuple[Literal["selected-on-test", "seen-before"], ...], BeforeValidator(_text)]


class Published(_Part):
    """The protocol as it was carried out. ``settings`` are shared by all ``runs``.

    ``init`` of a run may name a run above it, or one of ``pretrained``.
    """

    leaks: Leaks = ()
    settings: Settings = Field(default_factory=dict)
    runs: Annotated[dict[str, Settings], Field(min_length=1)]


class Recipe(_Part):
    """A published study, and how it is carried out here, twice."""

    title: str
    source: str
    reported: dict[str, float | str]
    figures: dict[str, Figure] = Field(default_factory=dict)
    sets: dict[str, str] = Field(default_factory=dict)  #: task -> its folder below --data
    phantoms: dict[str, Phantom] = Field(default_factory=dict)  #: task -> data without --data
    pretrained: dict[str, Settings] = Field(default_factory=dict)
    as_published: Published
    sound: dict[str, Any]
    departures: Texts = ()
    why: str

    def published_runs(self) -> dict[str, Settings]:
        """Settings of every run as published, with what they share."""
        shared = self.as_published.settings
        return {name: {**shared, **own} for name, own in self.as_published.runs.items()}

    def study(self, pretrained: Mapping[str, str]) -> StudyConfig:
        """The sound half. ``pretrained``: name -> folder of the run."""
        inits = self.sound.get("inits")
        if isinstance(inits, list):
            inits = [pretrained.get(name, name) for name in inits]
        return resolve_study(None, {**self.sound, "inits": inits})
