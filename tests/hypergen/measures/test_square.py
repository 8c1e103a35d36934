import torch

import attacks
from hypergen.measures import Square, prepare_batch, raised
from tests.hypergen.measures.figures import accuracy, figures, stage


def test_it_is_what_the_attack_says_of_each_network(mixture, images, threat):
    measure = Square(threat, queries=20)
    found = figures(measure, mixture, *images, seed=3)
    attack = attacks.Square(threat, queries=20)
    stack = images[0].expand(3, *images[0].shape)
    assert found.equal(attack(mixture, stack, images[1], [3] * 3).robust_accuracy)
    assert (found <= accuracy(mixture, *images)).all() and found[1] < accuracy(mixture, *images)[1]


def test_without_a_threat_it_is_accuracy(mixture, images):
    none = Square(attacks.Threat("linf", 0.0), queries=3)
    assert figures(none, mixture, *images).equal(accuracy(mixture, *images))


def test_options_and_the_radius_of_the_stage_decide_the_threat(mixture, images, threat):
    measure = Square(threat, "l2", 1.0, queries=3)
    batch = prepare_batch([measure], mixture, *images, stage(share=0.5))
    length = (batch.prepared["square"] - batch.images).flatten(2).norm(dim=-1)
    assert (length <= 0.5 + 1e-5).all() and (length > 0.49).any()


def test_figures_are_judged_by_more_queries(threat):
    measure = Square(threat, queries=30)
    measure.name = "square:queries=30"
    strict = measure.strict()
    assert (strict.queries, strict.name, measure.queries) == (1000, "square:queries=30", 30)
    assert Square(threat, queries=5000).strict().queries == 5000


def test_a_raised_one_has_twice_the_queries_and_the_same_name(threat):
    measure = Square(threat, queries=30)
    measure.name = "square:queries=30"
    larger = raised(measure, 2)
    assert (larger.name, vars(larger)["queries"], measure.queries) == (measure.name, 120, 30)


def test_no_gradient_is_asked_for(mixture, images, threat):
    """What has no gradient at all is attacked as well as anything."""
    theta = mixture.theta.detach()
    with torch.no_grad():
        found = figures(Square(threat, queries=10), mixture.with_theta(theta), *images)
    assert found.equal(figures(Square(threat, queries=10), mixture, *images))
