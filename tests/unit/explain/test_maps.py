"""Maps of what networks look at, against maps worked out by hand.

Axes: B batch, C channel, L class or region, I J K voxels.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, ornt_transform
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from medtl.data.case import Case, ImageFile
from medtl.errors import ConfigError, DataError, UnknownNameError
from medtl.evaluation.intervals import interval
from medtl.explain.feature_grid import Axis, cell_grid, enlarged
from medtl.explain.gradcam import feature_layer, grad_cam, of_class, of_region
from medtl.explain.localisation import (
    SCORES,
    localisation,
    summarise_localisation,
)
from medtl.explain.maps import class_mask, explain_classes, explain_regions
from medtl.explain.run import spread_over_classes
from medtl.explain.slices import cut_at, plane, slice_number
from medtl.inference.classification import Classifier
from medtl.inference.segmentation import Segmenter
from medtl.networks.blocks import Block, Network
from medtl.plugins.catalog import load_catalog
from medtl.runtime.device import build_fabric
from medtl.transforms.preprocessor import Preprocessor
from medtl.transforms.presets import mr, picture_plain

CLASSES = ("dark", "spot")
SIZES = {1: (37, 20), 2: (30, 30), 3: (20, 41)}


class Pooled(nn.Module):
    """Convolution, ReLU that works in place, pooling that is passed over, mean, linear head."""

    def __init__(self, channels: int, features: int, classes: int, dims: int) -> None:
        super().__init__()
        convolution = nn.Conv2d if dims == 2 else nn.Conv3d
        self.features = nn.Sequential(convolution(channels, features, 1), nn.ReLU(inplace=True))
        self.pool = nn.AvgPool2d(2) if dims == 2 else nn.AvgPool3d(2)
        self.head = nn.Linear(features, classes)

    def forward(self, batch_BCIJK: Tensor) -> Tensor:
        pooled = self.pool(self.features(batch_BCIJK))
        return self.head(pooled.flatten(2).mean(2))


def network(module: nn.Module, dims: int, *, dense: bool = False) -> Network:
    blocks = (Block("body", "stem", ("features.*",)), Block("head", "head", ("head.*",)))
    inputs, heads = ("features.0.weight",), ("head.weight", "head.bias")
    return Network("pooled", module, blocks, 1, 2, dims, 1, inputs, heads, dense=dense)


def spot_finder(dims: int) -> Pooled:
    """Class 1 where something is far brighter than the rest."""
    module = Pooled(1, 1, 2, dims)
    with torch.no_grad():
        module.features[0].weight.fill_(1.0)
        module.features[0].bias.fill_(-3.0)
        module.head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        module.head.bias.zero_()
    return module


# --- Grad-CAM -------------------------------------------------------------------------------------


def test_grad_cam_of_a_linear_head_over_mean_pooling_is_the_class_activation_map() -> None:
    """Selvaraju et al. 2017, section 3: equal but for the number of places."""
    torch.manual_seed(0)
    module = Pooled(3, 5, 4, 2)
    net = network(module, 2)
    batch = torch.randn(2, 3, 6, 8)
    layer = feature_layer(Network(**{**_fields(net), "in_channels": 3}), (6, 8))
    cam, logits = grad_cam(net, batch, layer, of_class([1, 3]))
    with torch.no_grad():
        features = module.features(batch)
        expected = torch.einsum("bc,bcij->bij", module.head.weight[[1, 3]], features) / (6 * 8)
        assert torch.equal(logits, module(batch))
    assert torch.allclose(cam, expected.clamp_min(0), atol=1e-7)
    assert cam.max() > 0


def _fields(net: Network) -> dict[str, object]:
    return {name: getattr(net, name) for name in net.__dataclass_fields__}


def test_map_of_an_image_does_not_depend_on_its_batch() -> None:
    builder = load_catalog().networks["resnet18"].load()
    net = builder(in_channels=1, out_channels=3, spatial_dims=2, width=4)
    layer = feature_layer(net, (64, 64))
    batch = torch.randn(3, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    together, _ = grad_cam(net, batch, layer, of_class([0, 1, 2]))
    alone, _ = grad_cam(net, batch[1:2], layer, of_class([1]))
    assert torch.allclose(together[1:2], alone, atol=1e-6)
    assert all(parameter.grad is None for parameter in net.module.parameters())


def test_the_last_map_before_the_head_is_taken_behind_its_activation() -> None:
    builder = load_catalog().networks["resnet18"].load()
    net = builder(in_channels=1, out_channels=3, spatial_dims=2, width=4)
    layer = feature_layer(net, (64, 64))
    assert (layer.block, layer.name, layer.call) == ("encoder4", "layer4.1.act", 1)
    assert layer.shape == (32, 2, 2)
    assert feature_layer(net, (64, 64), "encoder1").shape == (4, 16, 16)
    assert feature_layer(network(Pooled(1, 2, 2, 2), 2), (8, 8)).name == "features.1"
    with pytest.raises(UnknownNameError, match="did you mean 'encoder3'"):
        feature_layer(net, (64, 64), "encodr3")
    with pytest.raises(ConfigError, match=r"head of resnet18 gives no map.*, encoder4$"):
        feature_layer(net, (64, 64), "head")
    with pytest.raises(ConfigError, match="encoder4 of resnet18 gives no map of more than one"):
        feature_layer(net, (32, 32), "encoder4")


def test_map_of_a_region_explains_only_what_is_predicted() -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(1, 2, 1), nn.ReLU())
            self.head = nn.Conv2d(2, 2, 1)

        def forward(self, batch_BCIJ: Tensor) -> Tensor:
            return self.head(self.features(batch_BCIJ))

    torch.manual_seed(3)
    module = Dense()
    net = network(module, 2, dense=True)
    batch = torch.randn(1, 1, 5, 7)
    cam, logits = grad_cam(net, batch, feature_layer(net, (5, 7)), of_region(0))
    share = (logits[0, 0] > 0).float().mean()
    weights = module.head.weight[0, :, 0, 0].detach()
    expected = share * torch.einsum("c,cij->ij", weights, module.features(batch)[0].detach())
    assert torch.allclose(cam[0], expected.clamp_min(0), atol=1e-6)


def test_enlarged_map_ends_at_1_and_an_empty_one_stays_empty() -> None:
    maps = torch.stack([torch.zeros(3, 3), torch.arange(9.0).view(3, 3)])
    empty, full = enlarged(maps, (12, 15), [Axis(1.5, 4.0, 3), Axis(2.0, 5.0, 3)])
    assert not empty.any()
    assert full.shape == (12, 15) and float(full.max()) == 1
    stretched = functional.interpolate(maps[1:][None] / 8, size=(12, 15), mode="bilinear")[0, 0]
    assert torch.allclose(full, stretched, atol=1e-6)


class Strided(nn.Module):
    """Three layers of stride 2: convolutions padded as in a ResNet, or poolings as in a VGG."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        kernel, padding = (2, 0) if pooled else (3, 1)
        levels = [nn.Conv2d(1, 1, kernel, 2, padding, bias=False) for _ in range(3)]
        self.features = nn.Sequential(*levels, nn.ReLU())
        self.head = nn.Linear(1, 2)
        for parameter in self.features.parameters():
            nn.init.ones_(parameter)
        nn.init.ones_(self.head.weight)

    def forward(self, batch_BCIJ: Tensor) -> Tensor:
        return self.head(self.features(batch_BCIJ).flatten(2).mean(2))


@pytest.mark.parametrize("pooled", [False, True])
def test_map_of_a_spot_is_centred_on_it_whatever_the_strides(pooled: bool) -> None:
    net = network(Strided(pooled), 2)
    layer = feature_layer(net, (64, 64))
    grid = cell_grid(net, layer, (64, 64))
    assert grid[0] == Axis(3.5 if pooled else 0.0, 8.0, 8)
    offsets = []
    for place in range(24, 40):
        image = torch.zeros(1, 1, 64, 64)
        image[0, 0, place, 32] = 1
        cam, _ = grad_cam(net, image, layer, of_class([0]))
        along = enlarged(cam, (64, 64), grid)[0].sum(1)
        offsets.append(float((along * torch.arange(64)).sum() / along.sum()) - place)
    assert abs(float(np.mean(offsets))) < 0.6 and max(map(abs, offsets)) <= 4.5


def test_cells_are_followed_through_branches_and_back_up() -> None:
    builder = load_catalog().networks["resnet18"].load()
    net = builder(in_channels=1, out_channels=3, spatial_dims=2, width=4)
    layer = feature_layer(net, (64, 96))
    assert cell_grid(net, layer, (64, 96)) == (Axis(0.0, 32.0, 2), Axis(0.0, 32.0, 3))
    segmenter = load_catalog().networks["unet"].load()
    dense = segmenter(in_channels=1, out_channels=2, spatial_dims=2, width=4)
    grid = cell_grid(dense, feature_layer(dense, (64, 64)), (64, 64))
    assert [(axis.step, axis.cells) for axis in grid] == [(2.0, 32)] * 2
    padded = load_catalog().networks["unet2d-37"].load()  # pads between its layers
    dense = padded(in_channels=1, out_channels=2, spatial_dims=2, width=4)
    assert cell_grid(dense, feature_layer(dense, (64, 64)), (64, 64)) == (Axis(0.0, 1.0, 64),) * 2


# --- maps of cases --------------------------------------------------------------------------------


def write_spot(path: Path, shape: tuple[int, ...], place: tuple[int, ...], flip: bool) -> Path:
    """A dark noisy image with a bright spot of 5 voxels along each edge, and its mask."""
    image = np.random.default_rng(0).integers(20, 60, shape).astype(np.float32)
    mask = np.zeros(shape, dtype=np.uint8)
    spot = tuple(slice(p - 2, p + 3) for p in place)
    image[spot], mask[spot] = 250, 255
    for array, name in ((image, path.name), (mask, f"mask_{path.name}")):
        if len(shape) == 2:
            Image.fromarray(array.astype(np.uint8)).save(path.with_name(name))
        else:
            affine = np.diag([-2.0 if flip else 2.0, 2.0, 2.0, 1.0])
            turned = affine[[1, 0, 2, 3]] if flip else affine
            nib.save(nib.Nifti1Image(array, turned), path.with_name(name))
    return path


def spot_case(path: Path) -> Case:
    mask = ImageFile(path.with_name(f"mask_{path.name}"))
    image = {"image": ImageFile(path)}
    return Case(path.name, path.name, image, class_name="spot", mask=mask)


@pytest.mark.parametrize(("number", "place"), [(1, (30, 4)), (2, (3, 25)), (3, (11, 36))])
def test_map_lies_on_the_pixels_of_the_picture(
    tmp_path: Path, number: int, place: tuple[int, int]
) -> None:
    case = spot_case(write_spot(tmp_path / "x.png", SIZES[number], place, flip=False))
    preprocessor = Preprocessor(("image",), CLASSES, picture_plain().with_size((32, 32)))
    net = network(spot_finder(2), 2)
    classifier = Classifier(net, preprocessor, (32, 32), build_fabric("cpu", "fp32"))
    (found,) = explain_classes(classifier, [case], feature_layer(net, (32, 32)), None)
    assert found.output == found.predicted == "spot"
    assert found.cam_IJK.shape == (*SIZES[number], 1)
    mask_IJK = class_mask(case)
    assert mask_IJK is not None
    scores = localisation(found.cam_IJK, mask_IJK, 0.5)
    assert scores["pointing"] == 1 and scores["dice"] > 0.5


def test_mask_of_another_size_is_refused_by_name(tmp_path: Path) -> None:
    case = spot_case(write_spot(tmp_path / "x.png", (20, 30), (8, 9), flip=False))
    Image.fromarray(np.ones((20, 31), dtype=np.uint8)).save(tmp_path / "mask_x.png")
    with pytest.raises(DataError, match=r"mask_x.png: the mask is 20x31x1 but the image 20x30x1"):
        class_mask(case)


@pytest.mark.parametrize("flip", [False, True])
def test_map_lies_on_the_voxels_of_the_volume(tmp_path: Path, flip: bool) -> None:
    shape, place = (20, 26, 14), (5, 20, 9)
    case = spot_case(write_spot(tmp_path / "x.nii.gz", shape, place, flip))
    preprocessor = Preprocessor(("image",), CLASSES, mr().with_spacing(2.0))
    net = network(spot_finder(3), 3)
    classifier = Classifier(net, preprocessor, (24, 24, 24), build_fabric("cpu", "fp32"))
    layer = feature_layer(net, (24, 24, 24))
    found, other = (next(explain_classes(classifier, [case], layer, c)) for c in ("spot", "dark"))
    mask_IJK = class_mask(case)
    assert mask_IJK is not None and mask_IJK[place]
    assert localisation(found.cam_IJK, mask_IJK, 0.5)["pointing"] == 1
    assert not other.cam_IJK.any()


@pytest.mark.parametrize("flip", [False, True])
def test_map_of_a_region_lies_where_it_is_predicted(tmp_path: Path, flip: bool) -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv3d(1, 1, 1), nn.ReLU())
            self.head = nn.Conv3d(1, 2, 1)

        def forward(self, batch_BCIJK: Tensor) -> Tensor:
            return self.head(self.features(batch_BCIJK))

    shape, place = (26, 28, 24), (6, 20, 18)
    module = Dense()
    with torch.no_grad():
        for layer, bias in ((module.features[0], -3.0), (module.head, -0.1)):
            layer.weight.fill_(1.0)
            layer.bias.fill_(bias)
    case = spot_case(write_spot(tmp_path / "x.nii.gz", shape, place, flip))
    net = network(module, 3, dense=True)
    preprocessor = Preprocessor(("image",), ("A", "B"), mr().with_spacing(2.0))
    predictor = Segmenter(
        net, preprocessor, (16, 16, 16), build_fabric("cpu", "fp32"), nested=False
    )
    layer = feature_layer(net, (16, 16, 16))
    (found,) = explain_regions(predictor, [case], layer, "B")
    mask_IJK = class_mask(case)
    assert mask_IJK is not None
    assert localisation(found.cam_IJK, mask_IJK, 0.5)["dice"] == 1


@pytest.mark.parametrize("stored", ["RAS", "LPI", "SRA", "IPL"])
@pytest.mark.parametrize("patch", [(12, 14, 8), (24, 24, 24), (12, 14)])
def test_activations_are_of_the_slice_that_the_map_shows(
    tmp_path: Path, stored: str, patch: tuple[int, ...]
) -> None:
    """A patch of 8 slices of 4 mm holds less than the volume, one of 24 more."""
    image = np.random.default_rng(0).integers(20, 60, (24, 26, 40)).astype(np.float32)
    image[6:18, 6:18, 14:16] = 250
    volume = nib.Nifti1Image(image, np.diag([2.0, 2.0, 2.0, 1.0]))
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(stored))
    nib.save(volume.as_reoriented(turn), tmp_path / "x.nii.gz")
    nib.save(volume.as_reoriented(turn), tmp_path / "mask_x.nii.gz")
    case = spot_case(tmp_path / "x.nii.gz")
    prepared = Preprocessor(("image",), CLASSES, mr().with_spacing(4.0))(case, with_target=False)
    native = nib.load(tmp_path / "x.nii.gz").get_fdata()
    for height in range(40):
        cut = cut_at(prepared, patch, height)
        (seen,) = plane(cut.patch, cut.share)
        assert (seen.max() > 4) == (cut.height in (14, 15))
        if len(patch) == 2 or patch[2] == 24 or 12 <= height < 28:  # the patch holds this slice
            assert abs(cut.height - height) <= 1
        number = slice_number(case, "image", height)
        axis = next(n for n, letter in enumerate(stored) if letter in "SI")
        assert (native.take(number, axis).max() > 200) == (height in (14, 15))


# --- pointing game --------------------------------------------------------------------------------


def test_pointing_game_and_dice_of_maps_worked_out_by_hand() -> None:
    mask = np.zeros((40, 40, 1), dtype=bool)
    mask[10:14, 10:14] = True
    cam = np.zeros(mask.shape)
    cam[10:14, 10:18] = 0.6
    cam[12, 12] = 1.0
    found = localisation(cam, mask, 0.5)
    assert found["pointing"] == found["pointing_15px"] == 1
    assert found["dice"] == pytest.approx(2 * 16 / (16 + 32))
    assert found["chance_pointing"] == pytest.approx(16 / 1600)
    assert found["centre_pointing"] == 0
    assert localisation(cam, mask, 0.7)["dice"] == pytest.approx(2 / 17)
    cam[12, 28] = 2.0  # 15 pixels from the mask's last column
    near = localisation(cam, mask, 0.5)
    assert (near["pointing"], near["pointing_15px"]) == (0, 1)
    cam[12, 29] = 3.0
    assert localisation(cam, mask, 0.5)["pointing_15px"] == 0
    assert localisation(np.zeros(mask.shape), mask, 0.5)["pointing_15px"] == 0


def test_tolerance_is_in_millimetres_where_voxels_have_a_size() -> None:
    mask = np.zeros((30, 30, 30), dtype=bool)
    mask[5, 15, 15] = True
    hits = {}
    for steps in (4, 5):  # 15 and 18.75 mm
        cam = np.zeros(mask.shape)
        cam[5 + steps, 15, 15] = 1
        found = localisation(cam, mask, 0.5, (3.75, 3.75, 3.75))
        hits[steps] = found["pointing_15mm"]
    assert hits == {4: 1, 5: 0} and "pointing_15px" not in found
    axes = 3.75 * np.arange(-16, 17)
    near = np.add.outer(np.add.outer(axes**2, axes**2), axes**2) <= 15**2
    assert found["chance_pointing_15mm"] == pytest.approx(near.sum() / mask.size)
    summary = summarise_localisation([{"patient": "p", **found}])
    assert set(summary["localisation"]) == set(summary["meaning"]) == set(found)


def test_localisation_is_averaged_within_patients_first() -> None:
    random = np.random.default_rng(0)
    others = dict.fromkeys(set(SCORES) - {"dice"}, 0.0)
    rows = [{"patient": f"p{n % 7}", **others, "dice": float(random.random())} for n in range(20)]
    unscored = {"patient": "p9"}
    found = summarise_localisation([*rows, unscored])
    by_patient: dict[str, list[float]] = {}
    for row in rows:
        by_patient.setdefault(row["patient"], []).append(row["dice"])
    assert found["images_scored"] == 20
    assert found["localisation"]["dice"] == interval(by_patient).to_json()
    assert summarise_localisation([unscored]) == {"images_scored": 0}


def test_cases_that_are_shown_are_of_every_class() -> None:
    cases = [Case(f"{n:02}", "p", {}, class_name="ab"[n > 3]) for n in range(20)]
    shown = spread_over_classes(cases, 6)
    assert [case.class_name for case in shown] == ["a", "b"] * 3
    assert [case.id for case in shown if case.class_name == "b"] == ["04", "12", "19"]
    assert len(spread_over_classes(cases[:3], 8)) == 3
