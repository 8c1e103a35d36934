import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import attacks
from hypergen.errors import InputError
from hypergen.measures import Certified, prepare_batch
from hypergen.measures.attacked import attack_population
from targets import Population, build
from targets.bounds import METHODS, margin_bounds
from tests.hypergen.measures.figures import accuracy, figures, made, stage

BOTH = pytest.mark.parametrize("method", METHODS)


def test_it_is_never_above_what_survives_standard_attacks(mixture, images):
    for epsilon in (0.003, 0.015):
        threat = attacks.Threat("linf", epsilon)
        masks = attack_population(mixture, *images, attacks.standard(threat), seed=0)
        ibp, crown = (figures(Certified(threat, method=m), mixture, *images) for m in METHODS)
        assert (ibp <= crown).all() and (crown <= masks.robust_accuracy).all()
        assert crown[1] > 0.3  # of the trained network


@BOTH
def test_without_a_radius_it_is_accuracy(mixture, images, method):
    certified = Certified(attacks.Threat("linf", 0.0), method=method)
    assert figures(certified, mixture, *images).equal(accuracy(mixture, *images))


def test_crown_certifies_more(mixture, images):
    threat = attacks.Threat("linf", 0.01)
    ibp, crown = (figures(Certified(threat, method=m), mixture, *images) for m in METHODS)
    assert (crown >= ibp).all() and crown[1] > ibp[1]


@BOTH
def test_its_loss_is_that_of_the_worst_logits(mixture, images, method):
    measure = made(f"certified:epsilon=0.01,method={method}")
    batch = prepare_batch([measure], mixture, *images, stage())
    worst = margin_bounds(mixture, *images, 0.01, method)
    expected = torch.stack([F.cross_entropy(each, images[1]) for each in worst])
    torch.testing.assert_close(measure.surrogate_loss(mixture, batch), expected)
    share = (worst.argmax(-1) == images[1]).double().mean(1)
    assert measure(mixture, batch).equal(share)


def test_its_radius_is_the_stages(mixture, images, threat):
    measure = Certified(threat)
    halved = prepare_batch([measure], mixture, *images, stage(share=0.5))
    torch.testing.assert_close(halved.prepared["certified"], images[0].new_full((3,), 0.025))
    own = figures(Certified(attacks.Threat("linf", 0.025)), mixture, *images)
    assert measure(mixture, halved).equal(own)


def test_what_cannot_be_certified_is_told_in_one_line(images):
    population = Population.of([build("mlp", "swish", input_shape=(1, 8, 8))])
    shared: tuple[Tensor, Tensor] = images[0].cpu().float(), images[1].cpu()
    with pytest.raises(InputError, match=r"^certified: cannot bound SiLU in layer layers.1$"):
        figures(made("certified"), population, *shared)


@pytest.mark.parametrize(
    ("threat", "options", "line"),
    [
        (attacks.Threat("l2", 1.0), {}, "only linf can be certified, not l2"),
        (attacks.Threat("linf", 0.1), {"method": "lp"}, "`method` must be ibp or crown-ibp"),
        (attacks.Threat("linf", 0.1), {"epsilon": 2.0}, "`epsilon` in linf is for pixels"),
        (attacks.Threat("linf", 0.1), {"epsilon": -1.0}, "got -1"),
    ],
)
def test_wrong_options_are_told_in_one_line(threat, options, line):
    with pytest.raises((InputError, attacks.AttackError), match=line):
        Certified(threat, **options)


def test_a_run_in_another_norm_certifies_a_radius_of_its_own():
    measure = Certified(attacks.Threat("l2", 1.0), epsilon=0.1)
    assert measure.threat == attacks.Threat("linf", 0.1)
