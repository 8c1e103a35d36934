import pytest

import attacks
from hypergen.measures import Robustness, Stage, Transfer, measured, prepare_batch
from targets import Population


@pytest.fixture
def stage():
    return Stage(lambda threat: attacks.PGD(threat, steps=3), 2)


def test_it_is_the_mean_over_the_others_each_image_of_one(mixture, images, threat, stage):
    transfer, robustness = Transfer(threat), Robustness(threat)
    batch = prepare_batch([transfer, robustness], mixture, *images, stage)
    own, others = batch.prepared["robustness"], batch.prepared["transfer"]
    figures = transfer(mixture, batch)
    for network in range(3):
        right = []
        for image, label in enumerate(images[1]):
            other = (network + 1 + image % 2) % 3
            assert other != network and others[network, image].equal(own[other, image])
            logits = mixture[network](own[other, image][None])
            right.append(float(logits.argmax() == label))
        assert float(figures[network]) == pytest.approx(sum(right) / len(right))


def test_of_two_networks_each_gets_the_images_of_the_other(mixture, images, threat, stage):
    pair = mixture[:2]
    batch = prepare_batch([Transfer(threat), Robustness(threat)], pair, *images, stage)
    assert batch.prepared["transfer"].equal(batch.prepared["robustness"].flip(0))


def test_between_equal_networks_it_is_robustness(mixture, images, threat, stage):
    alike = Population.of([mixture[1]] * 3)
    measures = Transfer(threat), Robustness(threat)
    found = measured(measures, alike, prepare_batch(measures, alike, *images, stage))
    assert found[:, 0].equal(found[:, 1]) and 0 < found[0, 0] < 1


def test_of_a_network_alone_it_is_robustness(mixture, images, threat, stage):
    measures = Transfer(threat), Robustness(threat)
    alone = prepare_batch(measures, mixture[:1], *images, stage)
    assert alone.prepared["transfer"].equal(alone.prepared["robustness"])


def test_its_threat_may_be_another(mixture, images, threat, stage):
    batch = prepare_batch([Transfer(threat, "l2", 0.5)], mixture, *images, stage)
    length = (batch.prepared["transfer"] - batch.images).flatten(2).norm(dim=-1)
    assert (length <= 0.5 + 1e-5).all() and (length > 0.49).any()
