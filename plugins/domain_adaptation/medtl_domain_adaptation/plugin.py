"""What this plugin offers; nothing heavy is imported."""

from __future__ import annotations

from medtl import Component, components, hookimpl

PLUGIN_API = 1


@hookimpl
def medtl_strategies() -> list[Component]:
    strategies = {
        "dann": "train on the source, with features in which a domain classifier cannot recognise "
        "the target; use when target images are many and the kind of shift is unknown (Ganin et "
        "al. 2016)",
        "coral": "train on the source, with the same covariance of features in both domains; use "
        "when contrast and scale differ and batches are large (Sun and Saenko 2016)",
        "mmd": "train on the source, with the same distribution of features in both domains; use "
        "where more than the covariances of features differs (Long et al. 2015)",
        "adabn": "train on the source, then estimate batch-norm statistics on the target; use "
        "first: no weight is trained, one pass over the images per norm layer (Li et al. 2016)",
    }
    return components("medtl_domain_adaptation.strategies", strategies)


@hookimpl
def medtl_losses() -> list[Component]:
    adversary = {
        "dann": "a domain classifier behind a gradient reversal; for domain adaptation",
    }
    alignment = {
        "coral": "distance of the covariances of features; for domain adaptation",
        "mmd": "multi-kernel MMD-squared of features; for domain adaptation",
    }
    return [
        *components("medtl_domain_adaptation.adversary", adversary),
        *components("medtl_domain_adaptation.alignment", alignment),
    ]
