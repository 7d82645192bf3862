"""medtl's own plugin: its components are found in the same way as those of other plugins."""

from __future__ import annotations

from medtl import Component, components, hookimpl

PLUGIN_API = 1


#: What ``medtl --help`` lists without looking at any plugin.
COMMANDS = (
    Component("train", "medtl.cli.train:train", "Train, transfer and compare on a task."),
    Component("compare", "medtl.cli.compare:compare", "Compare strategies, with verdicts."),
    Component("evaluate", "medtl.cli.evaluate:evaluate", "Score the models of a run on cases."),
    Component("predict", "medtl.cli.predict:predict", "Segment or classify images with a run."),
    Component("explain", "medtl.cli.explain:explain", "Show what a run's networks look at."),
    Component("shift", "medtl.cli.shift:shift", "Measure how far two domains are apart."),
    Component("audit", "medtl.cli.audit:audit", "Find what is wrong with data before training."),
    Component("weights", "medtl.cli.weights:app", "Inspect weights before they are transferred."),
    Component("data", "medtl.cli.data:app", "Make data: the synthetic phantom cohort."),
    Component("list", "medtl.cli.list:app", "List tasks, networks, strategies, ..."),
    Component("plugins", "medtl.cli.plugins:app", "List plugins, check one, write a new one."),
    Component("completion", "medtl.cli.completion:app", "Complete medtl's words in your shell."),
    Component("doctor", "medtl.cli.doctor:doctor", "Show versions, devices, memory and plugins."),
)


@hookimpl
def medtl_tasks() -> list[Component]:
    own = "your own data: nnU-Net raw, MSD, a MONAI datalist or a CSV table"
    classes = "your own images: a folder per class, a MONAI datalist or a CSV table"
    return [
        Component("segmentation", "medtl.data.tasks.segmentation:Segmentation", own),
        Component("classification", "medtl.data.tasks.classification:Classification", classes),
    ]


@hookimpl
def medtl_strategies() -> list[Component]:
    finetune = {
        "scratch": "train on the target alone; use when no source is worth having, and as the "
        "control of every transfer (He et al. 2019)",
        "linear-probe": "train a new head alone; use when target cases are very few, or to see how "
        "good the features are as they are (Alain and Bengio 2016)",
        "fine-tune": "train every block, early ones at lower rates; use when source and target "
        "have the same classes or regions, and target cases are not few (Howard and Ruder 2018)",
        "transfusion": "transfer the first --depth blocks, train all; use when source and target "
        "are far apart (Raghu et al. 2019)",
        "l2-sp": "train every block, pulled towards its start; use when target cases are few and "
        "the source is close (Li et al. 2018)",
    }
    unfreeze = {
        "head-first": "train a new head, then the last block, then deeper ones, by SGD; use when "
        "the target's classes are new (Kumar et al. 2022)",
        "gradual-unfreeze": "train a new head, then one block more per stage; use when target "
        "cases are few and the network is deep (Howard and Ruder 2018)",
    }
    compared = {
        "zero-shot": "score the source's network on the target as it is; use to see what carries "
        "over without any target label (AlBadawy et al. 2018)",
        "joint": "train on source and target together; use to see whether training one after the "
        "other is needed at all (Daume 2007)",
    }
    return [
        *components("medtl.transfer.strategies.finetune", finetune),
        *components("medtl.transfer.strategies.compared", compared),
        *components("medtl.transfer.strategies.unfreeze", unfreeze),
    ]


@hookimpl
def medtl_initialisers() -> list[Component]:
    ways = {
        "mean-var": "draw each loaded tensor anew from its own mean and variance: keeps the scale, "
        "destroys the features (Raghu et al. 2019)",
        "gabor": "Gabor filters of random direction, width and phase as first layer",
    }
    return components("medtl.transfer.initialisers", ways)


@hookimpl
def medtl_losses() -> list[Component]:
    losses = {
        "dice-ce": "Dice plus binary cross-entropy",
        "dice-ce-softmax": "Dice plus softmax cross-entropy, for regions that exclude each other",
        "cross-entropy": "softmax cross-entropy over classes",
        "l2-sp": "distance of the weights from their start; added to another loss",
    }
    return components("medtl.training.losses", losses)


@hookimpl
def medtl_transforms() -> list[Component]:
    presets = {
        "brain-mr": "orient, crop to the brain, clip, z-score in the brain, resample; augment",
        "brain-mr-n4": "brain-mr after N4 bias-field correction",
        "brain-mr-light": "brain-mr with flips and global intensity changes only",
        "brain-mr-plain": "brain-mr without augmentation",
        "mr": "brain-mr that keeps all of the image: skull, body, organs",
        "mr-usual": "mr with nnU-Net's augmentation, for cases by the dozen",
        "ct": "mr for CT: one intensity window and scale for all cases",
        "picture": "whole pictures (PNG, JPEG, ...): scaled to fit, z-scored; augment",
        "picture-plain": "picture without augmentation",
        "picture-raw": "picture with black as 0 and white as 1, not z-scored; augment",
        "picture-raw-plain": "picture-raw without augmentation",
        "picture-imagenet": "picture with ImageNet's mean and deviation, for its weights; augment",
        "head-picture": "picture cropped to the head and blurred to one resolution, so that file "
        "size and margins do not reveal the class; augment",
    }
    return components("medtl.transforms.presets", presets)


@hookimpl
def medtl_shift_metrics() -> list[Component]:
    kernels = {
        "mmd": "unbiased MMD-squared between patients, RBF kernel, median bandwidth",
        "mmd-biased": "MMD-squared over all pairs, never below 0",
        "mmd-bandwidths": "mmd with RBF kernels of five bandwidths",
        "mmd-linear": "mmd of the linear kernel: difference of the means",
        "mmd-polynomial": "mmd of the cubic kernel (kernel inception distance)",
        "energy": "energy distance between patients",
    }
    gaussian = {
        "frechet": "Frechet distance of Gaussians: difference of means and covariances",
        "coral": "CORAL: difference of the covariances",
    }
    distributions = {
        "sliced-wasserstein": "Wasserstein-1 distance along 64 random directions",
        "ks": "largest Kolmogorov-Smirnov statistic of a feature",
    }
    classifier = {
        "domain-auroc": "AUROC of a linear classifier of the domain, on held-out patients",
    }
    legacy = {
        "mmd-legacy": "an MMD loop found in public notebooks, which is wrong; for comparison only",
    }
    return [
        *components("medtl.shift.metrics.mmd", kernels),
        *components("medtl.shift.metrics.gaussian", gaussian),
        *components("medtl.shift.metrics.distributions", distributions),
        *components("medtl.shift.metrics.classifier", classifier),
        *components("medtl.shift.metrics.legacy", legacy),
    ]


@hookimpl
def medtl_harmonisers() -> list[Component]:
    ways = {
        "zscore": "mean 0 and deviation 1, as presets do",
        "histogram-matching": "to the mean quantile function; in training: --set "
        "harmonise=histogram-matching",
        "nyul": "deciles to their mean (Nyul and Udupa 1999); in training: --set harmonise=nyul",
        "resampling": "to the median spacing; pictures to the median size",
    }
    return components("medtl.shift.harmonisers", ways)


@hookimpl
def medtl_features() -> list[Component]:
    appearance = {
        "appearance": "scale, contrast, noise, resolution and view of each image",
        "intensity": "location, scale and histogram of the intensities",
        "texture": "noise, gradients and local contrast",
        "slices": "intensity and texture of up to 16 slices of each image",
    }
    patches = {
        "lines": "lines of voxels from left to right",
        "patches": "64 small patches of each image",
    }
    pca = {"pca": "principal components of small, scaled images"}
    activations = {
        "activations": "mean and deviation per channel of a layer of a trained run",
    }
    labels = {"labels": "share and volume of each region, or the class"}
    return [
        *components("medtl.shift.features.appearance", appearance),
        *components("medtl.shift.features.patches", patches),
        *components("medtl.shift.features.pca", pca),
        *components("medtl.shift.features.activations", activations),
        *components("medtl.shift.features.labels", labels),
    ]


@hookimpl
def medtl_commands() -> list[Component]:
    return list(COMMANDS)
