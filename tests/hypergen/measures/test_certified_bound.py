"""What is certified is never lost to an attack: image by image, on networks of several kinds."""

import copy

import pytest
import torch
from torch import Tensor, nn

import attacks
from hypergen.config import TrainConfig
from hypergen.measures import Certified, prepare_batch
from hypergen.measures.attacked import attack_population
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.trainer import Trainer
from targets import Ensemble, Population, build
from targets.bounds import METHODS
from tests.hypergen.measures.figures import stage

CPU = torch.device("cpu")
EPSILONS = 0.01, 0.05, 0.15
IMAGES = 20


def normalised() -> nn.Module:
    """Convolutions with batch norm, a sum of two branches, and both poolings."""

    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(4)
            self.first = nn.Conv2d(1, 4, 3, padding=1)
            self.second = nn.Conv2d(4, 4, 3, padding=1)
            self.last = nn.Linear(16, 10)

        def forward(self, images):
            x = torch.relu(self.norm(self.first(images)))
            x = nn.functional.max_pool2d(x + torch.tanh(self.second(x)), 2)
            return self.last(nn.functional.avg_pool2d(x, 2).flatten(1))

    return Branches().eval()


@pytest.fixture(scope="module")
def populations(few, base_network) -> dict[str, Population]:
    """Networks of each kind; those that are trained take a second each."""

    def direct(**options) -> nn.Module:
        recipe = BaselineConfig.of(target="mlp", image_size=8, epochs=3, **options)
        return train_direct(DirectTrainer(recipe, few, CPU))

    settings = {"target": "mlp", "population": 2, "batch_size": 32, "max_robustness_gap": 1.0}
    config = TrainConfig.of(measure=("accuracy=0.5", "certified=0.5"), steps=20, **settings)
    trainer = Trainer(config, few, CPU)
    while trainer.step < 20:
        trainer.advance()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random = [
            build("mlp", name, input_shape=few.input_shape).eval()
            for name in ("prelu", "elu", "softplus")
        ]
        convolutions = build("fbf-cnn", "leaky_relu", input_shape=few.input_shape).eval()
        random += [convolutions, normalised()]
    made = {f"random {index}": Population.of([each]) for index, each in enumerate(random)}
    return made | {
        "standard": Population.of([base_network]),
        "fbf": Population.of([direct(method="fbf", activation="tanh", epsilon=0.1)]),
        "members that vote": Ensemble(
            Population.of([base_network, direct(method="pgd", epsilon=0.05)])
        ).members,
        "generated": trainer.sample(3, seed=1),
    }


def certified(
    population: Population, images: Tensor, labels: Tensor, threat: attacks.Threat, method: str
) -> Tensor:
    """bool [P,B], the images that are certified."""
    measure = Certified(threat, method=method)
    batch = prepare_batch([measure], population, images, labels, stage())
    return measure.correct(population, batch)


def test_no_image_is_certified_that_a_standard_attack_breaks(populations, few):
    images, labels = few.test.first(IMAGES)
    proven = dict.fromkeys(METHODS, 0)
    for kind, population in populations.items():
        for epsilon in EPSILONS:
            threat = attacks.Threat("linf", epsilon)
            ibp, crown = (certified(population, images, labels, threat, m) for m in METHODS)
            assert not (ibp & ~crown).any(), (kind, epsilon)
            attacked = crown.any(0)  # an attack on the others could show nothing
            if not attacked.any():
                continue
            suite = attacks.standard(threat)
            masks = attack_population(population, images[attacked], labels[attacked], suite, seed=0)
            assert not (crown[:, attacked] & ~masks.robust).any(), (kind, epsilon)
            proven["ibp"] += int(ibp.sum())
            proven["crown-ibp"] += int(crown.sum())
    assert proven["crown-ibp"] > proven["ibp"] > 40, "something should be certified"


def test_the_bound_is_of_each_network_alone(populations, few):
    """Of samples together as of each by itself, and of a copy."""
    images, labels = few.test.first(IMAGES)
    threat, generated = attacks.Threat("linf", 0.02), populations["generated"]
    for method in METHODS:
        together = certified(generated, images, labels, threat, method)
        for network, mask in zip(copy.deepcopy(list(generated)), together, strict=True):
            alone = certified(Population.of([network]), images, labels, threat, method)
            assert alone[0].equal(mask)
