import pytest
import torch

from attacks import losses

LOGITS = torch.tensor([[[5.0, 3.0, 2.0, 1.0]]])


def label(number: int) -> torch.Tensor:
    return torch.tensor([[number]])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (losses.margin(LOGITS, label(0)), 3 - 5),
        (losses.margin(LOGITS, label(2)), 5 - 2),
        (losses.dlr(LOGITS, label(0)), (3 - 5) / (5 - 2)),
        (losses.dlr(LOGITS, label(1)), (5 - 3) / (5 - 2)),
        (losses.targeted_margin(LOGITS, label(0), label(3)), 1 - 5),
        (losses.targeted_dlr(LOGITS, label(0), label(3)), (1 - 5) / (5 - (2 + 1) / 2)),
        (losses.targeted_dlr(LOGITS, label(2), label(1)), (3 - 2) / (5 - (2 + 1) / 2)),
    ],
)
def test_by_hand(loss, expected):
    assert loss.shape == (1, 1) and float(loss) == pytest.approx(expected)


def test_ratios_are_blind_to_the_size_of_logits():
    for shifted in (100 * LOGITS, LOGITS - 7, 0.01 * LOGITS + 3):
        for given, target in ((0, 1), (2, 3)):
            assert losses.dlr(shifted, label(given)) == pytest.approx(
                losses.dlr(LOGITS, label(given)), rel=1e-4
            )
            assert losses.targeted_dlr(shifted, label(given), label(target)) == pytest.approx(
                losses.targeted_dlr(LOGITS, label(given), label(target)), rel=1e-4
            )


def test_wrong_classes_are_all_others_likeliest_first():
    assert losses.wrong_classes(LOGITS, label(1)).tolist() == [[[0, 2, 3]]]


def test_the_divergence_is_kullback_and_leiblers():
    clean, logits = torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0)).unbind()
    found = losses.divergence(clean, logits)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=clean),
        torch.distributions.Categorical(logits=logits),
    )
    assert torch.allclose(found, expected, atol=1e-6)
