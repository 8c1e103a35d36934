"""What samples are compared with."""

import pytest
import torch

from hypergen.experiments.competitors import NOISY_COUNT, direct_recipes, trivial_competitors
from targets import Population


def test_the_recipes_are_one_ordinary_three_fbf_and_one_pgd(tiny, tmp_path):
    recipes = direct_recipes(tmp_path, tiny.replace(seed=4))
    assert {path.stem: (r.method, r.seed) for path, r in recipes.items()} == {
        "pgd-4": ("pgd", 4),
        "fbf-4": ("fbf", 4),
        "fbf-5": ("fbf", 5),
        "fbf-6": ("fbf", 6),
        "standard-4": ("standard", 4),
    }
    in_l1 = direct_recipes(tmp_path, tiny.replace(norm="l1", epsilon=5.0, attack_steps=1))
    assert {recipe.method for recipe in in_l1.values()} == {"standard", "pgd"}


def test_noise_is_as_large_in_each_tensor_as_samples_differ(networks, digits):
    fbf = Population.of(networks)
    layout = fbf.layout
    sizes = torch.linspace(0.5, 2, len(layout.slots))
    samples = fbf.choose(torch.zeros(40, dtype=torch.long))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(samples.theta.shape, generator=generator)
    for slot, size in zip(layout.slots, sizes, strict=True):
        noise[:, slot.start : slot.stop] *= size
    samples = samples.with_theta(samples.theta + noise)
    found = trivial_competitors(fbf, samples, digits.train.first(10)[0], seed=0)
    added = found["fbf + noise"].theta - fbf.theta[:1]
    assert len(added) == NOISY_COUNT and not added[0].equal(added[1])
    for slot, size in zip(layout.slots, sizes, strict=True):
        own = added[:, slot.start : slot.stop]
        if own.numel() > 1000:
            assert float(own.std()) == pytest.approx(float(size), rel=0.05)
    torch.testing.assert_close(found["fbf average"].theta[0], sum(fbf.theta) / 3)
