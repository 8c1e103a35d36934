from pathlib import Path

import pytest
import torch
from torch import nn

from hypergen.measures import Int8
from hypergen.storage.export import _rounded
from tests.hypergen.measures.figures import accuracy, figures, prepared, stage


def test_with_32_bits_it_is_accuracy(mixture, images):
    assert figures(Int8(32), mixture, *images).equal(accuracy(mixture, *images))


@pytest.mark.parametrize(("per", "bits"), [("channel", 8), ("channel", 3), ("tensor", 4)])
def test_weights_are_what_pytorch_rounds_them_to_and_biases_stay(mixture, per, bits):
    changed = mixture.with_theta(Int8(bits, per).change_weights(mixture, stage()))
    most = 2 ** (bits - 1) - 1
    for before, after in zip(mixture, changed, strict=True):
        for name, weight in before.named_parameters():
            weight, found = weight.detach().float(), after.get_parameter(name).float()
            if weight.ndim == 1:
                assert found.equal(weight)
                continue
            rows = weight if per == "channel" else weight.reshape(1, -1)
            scale, zero = rows.abs().amax(1) / most, torch.zeros(len(rows), device=rows.device)
            known = torch.fake_quantize_per_channel_affine(rows, scale, zero, 0, -most, most)
            torch.testing.assert_close(found, known.view_as(weight))


def test_fewer_bits_cost_accuracy(mixture, images):
    whole, rough = (figures(Int8(bits), mixture, *images)[1] for bits in (8, 2))
    assert whole > rough + 0.1


def test_with_8_bits_a_channel_the_network_is_the_exported_one(mixture, images):
    changed = mixture.with_theta(Int8().change_weights(mixture, stage()))
    points = images[0]
    for network, found in zip(mixture, changed, strict=True):
        known = _rounded(network.requires_grad_(False), points, Path("unused"))(points)
        torch.testing.assert_close(found(points), known, rtol=0, atol=1e-5)


def test_gradients_are_those_at_the_rounded_weights(mixture, images):
    measure = Int8(4)
    batch = prepared(measure, mixture, *images)
    theta = mixture.theta.clone().requires_grad_()
    (found,) = torch.autograd.grad(
        measure.surrogate_loss(mixture.with_theta(theta), batch).sum(), theta
    )
    rounded = measure.change_weights(mixture, stage()).requires_grad_()
    logits = mixture.with_theta(rounded)(images[0].expand(3, *images[0].shape))
    losses = [nn.functional.cross_entropy(each, images[1]) for each in logits]
    (known,) = torch.autograd.grad(torch.stack(losses).sum(), rounded)
    torch.testing.assert_close(found, known, rtol=1e-3, atol=1e-6)
