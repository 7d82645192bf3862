"""The whole plugin contract.

A plugin is a module that an entry point in the group ``medtl.plugins`` names::

    [project.entry-points."medtl.plugins"]
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

The code behind the components may import the modules of ``PUBLIC_MODULES``; anything else in
medtl may change at any time. ``medtl plugins check NAME|PATH`` tests what the components promise
(:mod:`medtl.testing`). ``docs/decisions/0027-plugin-kit.md`` says which changes of this contract
raise ``PLUGIN_API``, and how long an older version is supported.
"""

from __future__ import annotations

import pluggy

from medtl import Component

#: All that a plugin may import of medtl -> what it is for.
PUBLIC_MODULES = {
    "medtl": "Component, components, hookimpl: all that a plugin.py needs",
    "medtl.errors": "errors that are shown in one line, and helpers for their messages",
    "medtl.testing": "the checks of medtl plugins check, for a plugin's own tests",
    "medtl.data.task": "tasks: the base class, default settings, advice from the training cases",
    "medtl.data.case": "cases and cohorts, which a task reads from a folder",
    "medtl.data.modality": "names of modalities",
    "medtl.data.voxel_size": "voxel spacing: one number, or one per axis",
    "medtl.data.domain": "domains such as mod:t1,site:CS",
    "medtl.data.io.nifti": "volumes: read and write NIfTI files",
    "medtl.data.io.pictures": "2-D images: read PNG, JPEG, TIFF and BMP files",
    "medtl.data.phantom": "whether data are synthetic, and the built-in synthetic cohorts",
    "medtl.data.formats.class_folders": "lists the images of a folder per class",
    "medtl.data.formats.folders": "what folders hold: links followed, nothing lost",
    "medtl.data.duplicates": "finds 2-D images that are stored more than once",
    "medtl.data.tasks.classification_defaults": "settings for tasks that classify 2-D images",
    "medtl.data.tasks.fingerprint": "what is measured of training images, and the window of CT",
    "medtl.runtime.cache": "keeps facts about files between runs",
    "medtl.runtime.parallel": "reads many files at once, in threads",
    "medtl.runtime.console": "progress and notes of a task that reads many files",
    "medtl.transforms.presets": "presets: how a case is preprocessed and augmented",
    "medtl.transforms.augment": "ranges of the augmentation",
    "medtl.networks.blocks": "networks: blocks, and the arguments and results of a builder",
    "medtl.networks.builder": "turns a torch module into a network builder",
    "medtl.networks.layers": "layers and heads of classifiers",
    "medtl.networks.cpu.instance_norm": "instance norm that is fast on the CPU",
    "medtl.networks.cpu.layout": "batches that lie channels-last in training on the CPU",
    "medtl.networks.cpu.transposed": "transposed convolutions that train fast on the CPU",
    "medtl.networks.options": "options that several networks share: head, keep_blocks, slim_from",
    "medtl.transfer.strategies.base": "strategies: requests, stages and plans",
    "medtl.training.losses": "base classes of losses: on features, on weights, for partial labels",
    "medtl.shift.contract": "features, harmonisers and shift metrics",
    "medtl.shift.metrics.base": "shift metrics: balanced rows by patient",
}


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
    """Presets: preprocessing and augmentation. Targets return a
    :class:`medtl.transforms.presets.Preset`."""
    raise NotImplementedError


@hookspec
def medtl_harmonisers() -> list[Component]:
    """Ways to bring images to a common intensity scale or spacing, fitted on some of them: for
    measuring shift and, with landmarks, for training. Targets return a
    :class:`medtl.shift.contract.Harmoniser`."""
    raise NotImplementedError


@hookspec
def medtl_strategies() -> list[Component]:
    """Plans of a transfer. Targets follow :class:`medtl.transfer.strategies.base.Strategy`."""
    raise NotImplementedError


@hookspec
def medtl_losses() -> list[Component]:
    """Terms of the training objective. Targets return a ``torch.nn.Module``;
    :mod:`medtl.training.losses` says which logits, features and weights it receives."""
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
    :class:`medtl.shift.contract.ShiftMetric`; medtl adds the tests, intervals and effect sizes."""
    raise NotImplementedError


@hookspec
def medtl_commands() -> list[Component]:
    """Commands of ``medtl``: a function for Typer, or a ``typer.Typer`` for a group of commands.

    A command that has the name of a built-in one breaks its plugin.
    """
    raise NotImplementedError
