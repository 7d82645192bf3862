"""Logits as probabilities and back, with and without a softmax."""

from __future__ import annotations

import pytest
import torch

from medtl.inference.probability import logits_of, probabilities


@pytest.mark.parametrize("softmax", [False, True])
def test_probabilities_are_torchs_and_come_back(softmax: bool) -> None:
    logits = 5 * torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    found = probabilities(logits, softmax=softmax)
    with_background = torch.cat((torch.zeros(1, 40), logits)).double().softmax(0)[1:]
    torch.testing.assert_close(found, with_background if softmax else logits.double().sigmoid())
    torch.testing.assert_close(logits_of(found, softmax=softmax), logits.double())


def test_the_mean_of_certain_networks_is_finite() -> None:
    certain = probabilities(torch.tensor([[900.0], [-900.0]]), softmax=True)
    assert logits_of(certain, softmax=True)[0] > 0
