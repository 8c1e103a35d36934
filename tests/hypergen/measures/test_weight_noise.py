import torch

from hypergen.measures import WeightNoise
from targets import Population
from tests.hypergen.measures.figures import accuracy, figures, stage


def test_without_noise_it_is_accuracy(mixture, images):
    assert figures(WeightNoise(0), mixture, *images).equal(accuracy(mixture, *images))


def test_much_noise_leaves_chance(mixture, images):
    assert figures(WeightNoise(100), mixture, *images)[1] < 0.4 < accuracy(mixture, *images)[1]


def test_noise_is_relative_to_each_tensors_spread_and_the_same_for_all(mixture):
    noise = WeightNoise(0.5).change_weights(mixture, stage(3)) - mixture.theta
    for slot in mixture.layout.slots:
        own, weights = (each[:, slot.start : slot.stop] for each in (noise, mixture.theta))
        relative = own / weights.std(1, correction=0, keepdim=True)
        torch.testing.assert_close(relative, relative[:1].expand_as(relative), rtol=0, atol=1e-3)
        if own.shape[1] > 1000:
            assert abs(float(relative.std()) - 0.5) < 0.02 and abs(float(relative.mean())) < 0.05
    other = WeightNoise(0.5).change_weights(mixture, stage(4)) - mixture.theta
    assert not other.equal(noise)


def test_weights_that_are_all_alike_stay():
    norm = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.LayerNorm(2))
    population = Population.of([norm])
    changed = WeightNoise().change_weights(population, stage())
    moved = changed != population.theta
    assert moved[:, :4].all() and not moved[:, 6:].any()
