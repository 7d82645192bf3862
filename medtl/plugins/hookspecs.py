"""The whole plugin contract.

A plugin is a module that an entry point in the group ``medtl.plugins.loader`` names::

    [project.entry-points."medtl.plugins.loader"]
    my_site = "medtl_my_site.plugin"

It states the version of this contract it was written for, as a number of its own, and implements
any of the hooks below. A hook returns a list of :class:`medtl.Component` and imports nothing
heavy::

    from medtl import Component, hookimpl

    PLUGIN_API = 1

    @hookimpl
    def medtl_tasks() -> list[Component]:
        return [Component("my-site", "medtl_my_site.task:MySite", "MR of my hospital")]

A component's name is letters, digits, ``-``, ``_`` and ``.``; ``-``, ``_`` and letter case make no
difference in it. Its full name is ``plugin:component``; the bare name works while only one plugin
offers it. Nothing is overwritten. A plugin that breaks any of this is listed as broken by
``medtl plugins list``, with the reason, and none of it is used; the others work on.

``medtl plugins check NAME|PATH`` tries what the components promise (:mod:`medtl.testing`). Which
changes of this contract raise ``PLUGIN_API``, and how long an older one is read, is decided in
``docs/decisions/0027-plugin-kit.md``.
"""

from __future__ import annotations

import pluggy

from medtl import Component

hookspec = pluggy.HookspecMarker("medtl")


@hookspec
def medtl_tasks() -> list[Component]:
    """Tasks: a folder -> cases, regions and defaults. Targets inherit
    :class:`medtl.data.task.Task`."""
    raise NotImplementedError


@hookspec
def medtl_networks() -> list[Component]:
    """Networks. Targets follow :class:`medtl.networks.blocks.NetworkBuilder`."""
    raise NotImplementedError


@hookspec
def medtl_initialisers() -> list[Component]:
    """Ways to change a network's weights before a stage starts. Targets follow
    :class:`medtl.transfer.initialisers.Initialiser`."""
    raise NotImplementedError


@hookspec
def medtl_transforms() -> list[Component]:
    """Presets: preparation and augmentation. Targets return a
    :class:`medtl.transforms.presets.Preset`."""
    raise NotImplementedError


@hookspec
def medtl_harmonisers() -> list[Component]:
    """Ways to make images alike, fitted on some of them, for measuring shift and, those with
    landmarks, for training. Targets return a :class:`medtl.shift.contract.Harmoniser`."""
    raise NotImplementedError


@hookspec
def medtl_strategies() -> list[Component]:
    """Plans of a transfer. Targets follow :class:`medtl.transfer.strategies.base.Strategy`."""
    raise NotImplementedError


@hookspec
def medtl_losses() -> list[Component]:
    """Terms of the training objective. Targets return a ``torch.nn.Module``; what it may see of
    logits, features and weights is told in :mod:`medtl.training.losses`."""
    raise NotImplementedError


@hookspec
def medtl_features() -> list[Component]:
    """Ways to turn images into rows of features, for measuring shift. Targets take a
    :class:`medtl.shift.contract.FeatureSettings` and return a
    :class:`medtl.shift.contract.FeatureExtractor`."""
    raise NotImplementedError


@hookspec
def medtl_shift_metrics() -> list[Component]:
    """Distances between source and target features. Targets take nothing and return a
    :class:`medtl.shift.contract.ShiftMetric`; tests, intervals and effects come for free."""
    raise NotImplementedError


@hookspec
def medtl_commands() -> list[Component]:
    """Commands of ``medtl``: a function for Typer, or a ``typer.Typer`` for a group of commands.

    A command that has the name of a built-in one breaks its plugin.
    """
    raise NotImplementedError
