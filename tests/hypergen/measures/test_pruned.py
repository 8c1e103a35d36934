import pytest
from torch.nn.utils import prune

from hypergen.measures import Pruned
from tests.hypergen.measures.figures import accuracy, figures, stage


def test_with_nothing_pruned_it_is_accuracy(mixture, images):
    assert figures(Pruned(0), mixture, *images).equal(accuracy(mixture, *images))
    assert Pruned(0).change_weights(mixture, stage()).equal(mixture.theta)


@pytest.mark.parametrize("share", [0.3, 0.8, 1])
def test_the_same_weights_are_gone_as_by_pytorchs_pruning(mixture, share):
    pruned = mixture.with_theta(Pruned(share).change_weights(mixture, stage()))
    for network, found in zip(mixture, pruned, strict=True):
        layers = [layer for layer in network.modules() if hasattr(layer, "weight")]
        weights = [(layer, "weight") for layer in layers]
        prune.global_unstructured(weights, prune.L1Unstructured, amount=float(share))
        for layer, name in weights:
            prune.remove(layer, name)
        for name, known in network.named_parameters():
            assert found.get_parameter(name).equal(known)
    gone = (pruned.theta == 0).sum(1)
    count = sum(slot.stop - slot.start for slot in mixture.layout.slots if len(slot.shape) > 1)
    assert (gone >= round(share * count)).all() and (gone < mixture.layout.size).all()
