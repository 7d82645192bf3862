"""The core's own plugin: it comes in through the same door as everybody else's."""

from __future__ import annotations

from medtl import Component, hookimpl

PLUGIN_API = 1


#: What ``medtl --help`` lists without looking at any plugin.
COMMANDS = (
    Component("train", "medtl.cli.train:train", "Train, transfer and compare on a task."),
    Component("evaluate", "medtl.cli.evaluate:evaluate", "Score the models of a run on cases."),
    Component("predict", "medtl.cli.predict:predict", "Segment or classify images with a run."),
    Component("explain", "medtl.cli.explain:explain", "Show what a run's networks look at."),
    Component("shift", "medtl.cli.shift:shift", "Measure how far two domains are apart."),
    Component("weights", "medtl.cli.weights:app", "Inspect weights before they are transferred."),
    Component("data", "medtl.cli.data:app", "Make data: the synthetic phantom cohort."),
    Component("list", "medtl.cli.list:app", "List tasks, networks, strategies, ..."),
    Component("plugins", "medtl.cli.plugins:app", "List plugins, check one, write a new one."),
    Component("completion", "medtl.cli.completion:app", "Complete medtl's words in your shell."),
    Component("doctor", "medtl.cli.doctor:doctor", "Show versions, devices, memory and plugins."),
)


@hookimpl
def medtl_tasks() -> list[Component]:
    return [
        Component(
            "segmentation",
            "medtl.data.tasks.segmentation:Segmentation",
            "your own data: nnU-Net raw, MSD, a MONAI datalist or a CSV table",
        ),
        Component(
            "classification",
            "medtl.data.tasks.classification:Classification",
            "your own images: a folder per class, a MONAI datalist or a CSV table",
        ),
    ]


@hookimpl
def medtl_strategies() -> list[Component]:
    return [
        Component(
            "scratch",
            "medtl.transfer.strategies.finetune:scratch",
            "train on the target alone; use when there is no source worth having, and as the "
            "control of every transfer (He et al. 2019)",
        ),
        Component(
            "linear-probe",
            "medtl.transfer.strategies.finetune:linear_probe",
            "train a new head alone; use when target cases are very few, or to see how good the "
            "features are as they are (Alain and Bengio 2016)",
        ),
        Component(
            "head-first",
            "medtl.transfer.strategies.unfreeze:head_first",
            "warm up a new head, then the last block, then deeper ones, by SGD; use when the "
            "target's classes are new (Kumar et al. 2022)",
        ),
        Component(
            "fine-tune",
            "medtl.transfer.strategies.finetune:fine_tune",
            "train every block, early ones at lower rates; use when source and target tell the "
            "same classes or regions, and target cases are not few (Howard and Ruder 2018)",
        ),
        Component(
            "gradual-unfreeze",
            "medtl.transfer.strategies.unfreeze:gradual_unfreeze",
            "train a new head, then one block more per stage; use when target cases are few and "
            "the network is deep (Howard and Ruder 2018)",
        ),
        Component(
            "transfusion",
            "medtl.transfer.strategies.finetune:transfusion",
            "carry over the first --depth blocks, train all; use when source and target are far "
            "apart (Raghu et al. 2019)",
        ),
        Component(
            "l2-sp",
            "medtl.transfer.strategies.finetune:l2_sp",
            "train every block, pulled towards its start; use when target cases are few and the "
            "source is close (Li et al. 2018)",
        ),
    ]


@hookimpl
def medtl_initialisers() -> list[Component]:
    return [
        Component(
            "mean-var",
            "medtl.transfer.initialisers:mean_var",
            "redraw each loaded tensor from its mean and variance: its scale without its features",
        ),
        Component(
            "gabor",
            "medtl.transfer.initialisers:gabor",
            "Gabor filters of random direction, width and phase as first layer",
        ),
    ]


@hookimpl
def medtl_losses() -> list[Component]:
    return [
        Component("dice-ce", "medtl.training.losses:dice_ce", "Dice plus binary cross-entropy"),
        Component(
            "cross-entropy",
            "medtl.training.losses:cross_entropy",
            "softmax cross-entropy over classes",
        ),
        Component(
            "l2-sp",
            "medtl.training.losses:l2_sp",
            "distance of the weights from where they started; beside another loss",
        ),
    ]


@hookimpl
def medtl_transforms() -> list[Component]:
    return [
        Component(
            "brain-mr",
            "medtl.transforms.presets:brain_mr",
            "orient, crop to the brain, clip, z-score in the brain, resample; augment",
        ),
        Component(
            "brain-mr-n4",
            "medtl.transforms.presets:brain_mr_n4",
            "brain-mr after N4 bias-field correction",
        ),
        Component(
            "brain-mr-light",
            "medtl.transforms.presets:brain_mr_light",
            "brain-mr with flips and global intensity changes only",
        ),
        Component(
            "brain-mr-plain",
            "medtl.transforms.presets:brain_mr_plain",
            "brain-mr without augmentation",
        ),
        Component(
            "mr",
            "medtl.transforms.presets:mr",
            "brain-mr without cutting noise away: skull, body, organs",
        ),
        Component(
            "ct", "medtl.transforms.presets:ct", "mr with CT clipped and scaled alike in all cases"
        ),
        Component(
            "picture",
            "medtl.transforms.presets:picture",
            "pictures (PNG, JPEG, ...) whole: scaled to fit, z-scored; augment",
        ),
        Component(
            "picture-plain",
            "medtl.transforms.presets:picture_plain",
            "picture without augmentation",
        ),
        Component(
            "picture-raw",
            "medtl.transforms.presets:picture_raw",
            "picture, black 0 and white 1; augment",
        ),
        Component(
            "picture-raw-plain",
            "medtl.transforms.presets:picture_raw_plain",
            "picture-raw without augmentation",
        ),
        Component(
            "picture-imagenet",
            "medtl.transforms.presets:picture_imagenet",
            "picture with ImageNet's mean and deviation, for weights from there; augment",
        ),
        Component(
            "head-picture",
            "medtl.transforms.presets:head_picture",
            "picture cropped to the head, all blurred alike, so that sizes tell nothing; augment",
        ),
    ]


@hookimpl
def medtl_shift_metrics() -> list[Component]:
    return [
        Component(
            "mmd",
            "medtl.shift.metrics.mmd:mmd",
            "unbiased MMD-squared over different patients, RBF kernel, median bandwidth",
        ),
        Component(
            "mmd-biased",
            "medtl.shift.metrics.mmd:mmd_biased",
            "MMD-squared over all pairs, never below 0",
        ),
        Component(
            "mmd-bandwidths",
            "medtl.shift.metrics.mmd:mmd_bandwidths",
            "mmd with RBF kernels of five bandwidths",
        ),
        Component(
            "mmd-linear",
            "medtl.shift.metrics.mmd:mmd_linear",
            "mmd of the linear kernel: means differ",
        ),
        Component(
            "mmd-polynomial",
            "medtl.shift.metrics.mmd:mmd_polynomial",
            "mmd of the cubic kernel (kernel inception distance)",
        ),
        Component(
            "energy", "medtl.shift.metrics.mmd:energy", "energy distance over different patients"
        ),
        Component(
            "frechet",
            "medtl.shift.metrics.gaussian:frechet",
            "Frechet distance of Gaussians: means and covariances differ",
        ),
        Component("coral", "medtl.shift.metrics.gaussian:coral", "CORAL: covariances differ"),
        Component(
            "sliced-wasserstein",
            "medtl.shift.metrics.distributions:sliced_wasserstein",
            "Wasserstein-1 distance along 64 random directions",
        ),
        Component(
            "ks",
            "medtl.shift.metrics.distributions:ks",
            "largest Kolmogorov-Smirnov statistic of a feature",
        ),
        Component(
            "domain-auroc",
            "medtl.shift.metrics.classifier:domain_auroc",
            "AUROC of a linear classifier of the domain, on patients it has not seen",
        ),
        Component(
            "mmd-legacy",
            "medtl.shift.metrics.legacy:mmd_legacy",
            "the MMD loop of many notebooks, which is wrong; for comparison",
        ),
    ]


@hookimpl
def medtl_harmonisers() -> list[Component]:
    return [
        Component(
            "zscore", "medtl.shift.harmonisers:zscore", "mean 0 and deviation 1, as presets do"
        ),
        Component(
            "histogram-matching",
            "medtl.shift.harmonisers:histogram_matching",
            "to the mean quantile function; in training: --set harmonise=histogram-matching",
        ),
        Component(
            "nyul",
            "medtl.shift.harmonisers:nyul",
            "deciles to their mean (Nyul and Udupa 1999); in training: --set harmonise=nyul",
        ),
        Component(
            "resampling",
            "medtl.shift.harmonisers:resampling",
            "to the median spacing; pictures to the median size",
        ),
    ]


@hookimpl
def medtl_features() -> list[Component]:
    return [
        Component(
            "appearance",
            "medtl.shift.features.appearance:appearance",
            "scale, contrast, noise, resolution and view of each image",
        ),
        Component(
            "intensity",
            "medtl.shift.features.appearance:intensity",
            "location, scale and histogram of the intensities shown",
        ),
        Component(
            "texture",
            "medtl.shift.features.appearance:texture",
            "noise, gradients and local contrast of what is shown",
        ),
        Component(
            "slices",
            "medtl.shift.features.appearance:slices",
            "intensity and texture of up to 16 slices of each image",
        ),
        Component(
            "lines", "medtl.shift.features.patches:lines", "lines of voxels from left to right"
        ),
        Component(
            "patches", "medtl.shift.features.patches:patches", "64 small patches of each image"
        ),
        Component(
            "pca", "medtl.shift.features.pca:pca", "principal components of small, scaled images"
        ),
        Component(
            "activations",
            "medtl.shift.features.activations:activations",
            "mean and deviation per channel of a layer of a trained run",
        ),
        Component(
            "labels",
            "medtl.shift.features.labels:labels",
            "share and volume of each region, or the class",
        ),
    ]


@hookimpl
def medtl_commands() -> list[Component]:
    return list(COMMANDS)
