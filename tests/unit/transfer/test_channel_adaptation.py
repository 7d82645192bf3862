"""Hand-computed channel adaptations. Axes: O outputs, I source channels, C target channels."""

from __future__ import annotations

import math

import pytest
import torch

from medtl.data.modality import parse_mapping
from medtl.errors import ConfigError
from medtl.transfer.channel_adaptation import adapt_input, identical_pairs, plan_channels

#: One output, kernel 1: channel flair weighs 3, channel t1ce weighs 4; the mean norm is 3.5.
WEIGHT_OIx = torch.tensor([[[[[3.0]]], [[[4.0]]]]])
SOURCE = ("flair", "t1ce")


def adapted(target, mapping=None, *, normalised=True, source=SOURCE, weight=WEIGHT_OIx):
    result = adapt_input(weight, source, target, mapping, normalised=normalised)
    return result, result.weight.flatten().tolist()


def test_shared_names_are_copied_whatever_their_order():
    result, values = adapted(("t1ce", "flair"))
    assert values == [4.0, 3.0]
    assert result.factors == {} and result.new_modalities == () and result.identical == ()


def test_new_modalities_take_their_nearest_contrast_at_the_mean_norm():
    result, values = adapted(("t1", "t2"))
    assert values == pytest.approx([3.5, 3.5])
    assert result.factors == pytest.approx({"t1": 3.5 / 4, "t2": 3.5 / 3})
    assert result.new_modalities == ("t1", "t2")
    assert result.notes == ("t1 = t1ce x 0.875", "t2 = flair x 1.167")


def test_a_stated_mapping_goes_before_the_nearest_contrast():
    result, values = adapted(("t1", "t2"), {"t1": "flair", "t2": "t1ce"})
    assert values == pytest.approx([3.5, 3.5])
    assert [note.split(" x ")[0] for note in result.notes] == ["t1 = flair", "t2 = t1ce"]


def test_a_mapping_may_overrule_a_shared_name_which_is_new_then():
    result, values = adapted(("flair", "t1ce"), {"flair": "t1ce"})
    assert values == pytest.approx([3.5, 4.0])
    assert result.new_modalities == ("flair",)
    assert result.identical == (("flair", "t1ce"),)


def test_an_unrelated_modality_takes_the_mean_of_the_source():
    weight_OIx = torch.tensor([[[[1.0, 0.0]], [[0.0, 3.0]]]])  # orthogonal kernels, norms 1 and 3
    result, values = adapted(("ct", "flair"), weight=weight_OIx)
    # The mean is (0.5, 1.5) of norm sqrt(2.5); the channels' mean norm is 2.
    factor = 2 / math.sqrt(2.5)
    assert values == pytest.approx([0.5 * factor, 1.5 * factor, 1.0, 0.0])
    assert result.factors == pytest.approx({"ct": factor})


@pytest.mark.parametrize(
    ("target", "base"),
    [
        (("flair",), [3.0]),
        (("flair", "t1ce", "t1", "t2"), [3.0, 4.0, 3.5, 3.5]),
    ],
)
def test_another_channel_count_scales_by_the_square_root_without_normalisation(target, base):
    factor = math.sqrt(2 / len(target))
    result, values = adapted(target, normalised=False)
    assert values == pytest.approx([value * factor for value in base])
    assert result.factors["all"] == pytest.approx(factor)
    kept, values = adapted(target, normalised=True)
    assert values == pytest.approx(base) and "all" not in kept.factors


def test_response_to_independent_channels_keeps_its_scale():
    torch.manual_seed(0)
    weight_OIx = torch.randn(64, 2, 3)
    result = adapt_input(weight_OIx, SOURCE, ("flair", "t1ce", "ct", "pd"), normalised=False)
    before = torch.nn.functional.conv1d(torch.randn(8, 2, 500), weight_OIx)
    after = torch.nn.functional.conv1d(torch.randn(8, 4, 500), result.weight)
    # ct and pd both are the mean, so their weights are alike but their images are independent.
    assert float(after.std() / before.std()) == pytest.approx(1, abs=0.05)


def test_channels_of_one_origin_are_reported_as_identical():
    plan = plan_channels(("t1ce",), ("t1", "t2", "t1ce"), {})
    assert identical_pairs(plan) == (("t1", "t2"), ("t1", "t1ce"), ("t2", "t1ce"))
    assert identical_pairs(plan_channels(SOURCE, ("t1", "t2"), {})) == ()


def test_a_zero_channel_stays_zero_instead_of_dividing_by_it():
    weight_OIx = torch.tensor([[[0.0], [4.0]]])
    _, values = adapted(("t2", "t1ce"), weight=weight_OIx)
    assert values == [0.0, 4.0]


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({"ct": "flair"}, "the target has no ct, only t1, t2"),
        ({"t1": "t2"}, "the weights know no t2, only flair, t1ce"),
    ],
)
def test_a_mapping_of_unknown_names_is_an_error(mapping, words):
    with pytest.raises(ConfigError, match=words):
        adapted(("t1", "t2"), mapping)


def test_mapping_options_know_the_aliases():
    assert parse_mapping(["T1n=t1c", "t2w=t2f"]) == {"t1": "t1ce", "t2": "flair"}
    for wrong in (["t1"], ["t1="], ["t1=t1ce", "t1n=flair"]):
        with pytest.raises(ConfigError):
            parse_mapping(wrong)
