"""What decides a run: defaults that depend on others, and what does not go together."""

import json
from dataclasses import asdict

import pytest

import hypergen.models.generator
import hypergen.models.value_network  # noqa: F401  (these fill their registries)
from hypergen.config import TrainConfig
from hypergen.data.threats import threat_on
from hypergen.errors import InputError
from hypergen.knob import Knob
from hypergen.settings import fields


def test_every_setting_has_one_short_name():
    shorts = [field.short for field in fields(TrainConfig)]
    assert len(shorts) == len(set(shorts))
    assert TrainConfig.of(**TrainConfig().flat()) == TrainConfig()


@pytest.mark.parametrize(
    ("given", "text", "ends"),
    [
        ("0.5", "0.5", (0.5, 0.5)),
        (0.25, "0.25", (0.25, 0.25)),
        (1, "1.0", (1, 1)),
        ((0, 1), "0.0:1.0", (0, 1)),
        ("0:1", "0:1", (0, 1)),
    ],
)
def test_beta_is_a_number_or_a_range(given, text, ends):
    objective = TrainConfig.of(beta=given).objective
    assert (objective.beta, objective.beta_range) == (text, ends)


@pytest.mark.parametrize("given", [(0, 0.3), [0.0, 0.3], "0:0.3", "0:3/10"])
def test_epsilon_may_be_a_range_whose_largest_radius_judges(given):
    config = TrainConfig.of(epsilon=given)
    assert config.adversary.epsilon == (0, 0.3) and config.threat.epsilon == 0.3
    assert config.knob == Knob("radius", 0, 0.3, whole=0.3)
    tree = json.loads(json.dumps(asdict(config)))
    assert TrainConfig.from_tree(tree, "config.json") == config
    fixed = TrainConfig.of(epsilon="8/255")
    assert fixed.adversary.epsilon == 8 / 255 and fixed.knob == Knob("beta", 0.5, 0.5)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epsilon": (0.3, 0.1)}, "`epsilon` must be a number or a range such as 0:0.3, got 0.3:0"),
        ({"epsilon": (0.1, 0.1)}, "a range such as 0:0.3, got 0.1:0.1"),
        ({"epsilon": (0, 0.1, 0.2)}, "a range such as 0:0.3, got 0:0.1:0.2"),
        ({"epsilon": ()}, "a range such as 0:0.3, got "),
        ({"epsilon": (-0.1, 0.1)}, "`epsilon` must be at least 0, got -0.1"),
        ({"epsilon": (0, float("nan"))}, "`epsilon` must be"),
        ({"epsilon": (0, 2)}, "`epsilon` in linf is for pixels in"),
        ({"epsilon": ("a", 1)}, "`epsilon` must be a number"),
        ({"epsilon": "0:"}, "`epsilon`: expected a number or a fraction"),
        ({"epsilon": (0, 0.1), "beta": "0:1"}, "one range: `beta` and `epsilon` have one each"),
        (
            {"epsilon": (0, 0.1), "measure": ("accuracy=0:1", "int8=0:1")},
            "one range: `measure` and `epsilon` have one each",
        ),
        ({"epsilon": (0, 0.1), "generator": "published"}, "knows no range: `epsilon` has one"),
        (
            {"epsilon": (0, 0.1), "objective": "value", "value_network": "mlp"},
            "needs a value network that sees attacked images",
        ),
    ],
)
def test_a_range_of_epsilon_that_cannot_be_is_told_in_one_line(settings, words):
    with pytest.raises(InputError) as told:
        TrainConfig.of(**settings)
    assert words in str(told.value) and "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("dataset", "mnst", 'unknown data set "mnst" (did you mean "mnist"?)'),
        ("target", "mpl", 'unknown target "mpl" (did you mean "mlp"?)'),
        ("activation", "rellu", 'unknown activation "rellu" (did you mean "relu"?)'),
        ("generator", "chunky", 'unknown generator "chunky" (did you mean "chunk"?)'),
        ("value_network", "sett", 'unknown value network "sett" (did you mean "set"?)'),
        ("objective", "dirct", 'unknown objective "dirct" (did you mean "direct"?)'),
        ("value_attack", "margn", 'unknown value attack "margn" (did you mean "margin"?)'),
        ("norm", "linv", 'unknown norm "linv" (did you mean "linf"?)'),
    ],
)
def test_unknown_names_are_told_with_the_nearest(setting, value, words):
    with pytest.raises(InputError) as refusal:
        TrainConfig.of(**{setting: value})
    assert str(refusal.value).startswith(words)


def test_families_of_names_are_known():
    made = TrainConfig.of(
        dataset="folder:pets", activation="kwta-0.1", epsilon=0.1, generator="auto"
    )
    assert (made.data.name, made.activation) == ("folder:pets", "kwta-0.1")


def test_the_published_generator_has_its_own_latent_space():
    assert TrainConfig.of(generator="published").generator.kind == "published"
    for name, value in (("beta", "0:1"), ("latent_size", 3), ("prior_scale", 0.0)):
        with pytest.raises(InputError, match=f"the published generator.*`{name}`"):
            TrainConfig.of(generator="published", **{name: value})


ALONE = {"beta": 0.9}


@pytest.mark.parametrize(
    ("settings", "start", "attack"),
    [
        ({}, None, (3, 0.6)),
        (ALONE, "pgd", (7, 1.0)),
        ({"beta": "0.9:1"}, "pgd", (7, 1.0)),
        ({"beta": "0:1"}, None, (3, 0.6)),
        (ALONE | {"objective": "value"}, None, (3, 0.6)),
        ({"measure": ("accuracy=0", "robustness=1")}, None, (3, 0.6)),
        (ALONE | {"base": None}, None, (3, 0.6)),
        (ALONE | {"base": "fbf"}, "fbf", (3, 0.6)),
        ({"base": "pgd"}, "pgd", (7, 1.0)),
        (ALONE | {"attack_steps": 2, "epsilon_start": 0.0}, "pgd", (2, 0.0)),
    ],
    ids=str,
)
def test_for_robustness_alone_a_run_starts_from_pgd_training(settings, start, attack):
    config = TrainConfig.of(**settings)
    assert config.start == start
    assert (config.attack_steps, config.epsilon_start) == attack


def test_the_radius_is_the_usual_one_of_the_data_set():
    assert TrainConfig.of(dataset="mnist").threat.epsilon == 0.1
    assert TrainConfig.of(dataset="cifar10").threat.epsilon == 8 / 255
    given = TrainConfig.of(dataset="folder:pets", norm="l2", epsilon=1.5).threat
    assert (given.norm, given.epsilon) == ("l2", 1.5)


@pytest.mark.parametrize(
    ("dataset", "norm"), [("folder:.", "linf"), ("mnist", "l2"), ("mnist", "l1")]
)
def test_a_radius_is_needed_where_there_is_no_usual_one(dataset, norm):
    with pytest.raises(InputError, match=f"`epsilon` is needed.*{norm} on {dataset}.*8/255"):
        threat_on(dataset, norm, None)


def test_a_radius_of_pixels_up_to_255_is_told():
    with pytest.raises(InputError, match="got 8; did you mean 8/255?"):
        TrainConfig.of(epsilon=8)
    assert TrainConfig.of(norm="l2", epsilon=8).threat.epsilon == 8


def test_measuring_may_be_rarer_where_it_only_watches():
    intervals = {
        objective: TrainConfig.of(objective=objective).measurement_interval
        for objective in ("value", "hybrid", "direct")
    }
    assert intervals == {"value": 1, "hybrid": 1, "direct": 8}
    assert TrainConfig.of(objective="direct", measure_every=3).measurement_interval == 3
