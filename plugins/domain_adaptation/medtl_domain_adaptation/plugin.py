"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, hookimpl

PLUGIN_API = 1


@hookimpl
def medtl_strategies() -> list[Component]:
    return [
        Component(
            "dann",
            "medtl_domain_adaptation.strategies:dann",
            "train on the source while a critic keeps its features from telling the target apart; "
            "use when many unlabelled target images are there and the shift is of any kind "
            "(Ganin et al. 2016)",
        ),
        Component(
            "coral",
            "medtl_domain_adaptation.strategies:coral",
            "train on the source with the covariances of both domains' features made alike; use "
            "when source and target differ in contrast and scale, and batches are large (Sun and "
            "Saenko 2016)",
        ),
        Component(
            "mmd",
            "medtl_domain_adaptation.strategies:mmd",
            "train on the source with the distributions of both domains' features made alike; use "
            "as coral, where not only the covariances of features differ (Long et al. 2015)",
        ),
        Component(
            "adabn",
            "medtl_domain_adaptation.strategies:adabn",
            "train on the source, then take the statistics of batch norm from the target; use "
            "first: it trains nothing, needs a network with batch norm, and passes over the images "
            "once per norm (Li et al. 2016)",
        ),
    ]


@hookimpl
def medtl_losses() -> list[Component]:
    return [
        Component(
            "dann",
            "medtl_domain_adaptation.adversary:dann",
            "a critic of the domain behind a gradient reversal; for strategies that adapt",
        ),
        Component(
            "coral",
            "medtl_domain_adaptation.alignment:coral",
            "distance of the covariances of features; for strategies that adapt",
        ),
        Component(
            "mmd",
            "medtl_domain_adaptation.alignment:mmd",
            "multi-kernel MMD-squared of features; for strategies that adapt",
        ),
    ]
