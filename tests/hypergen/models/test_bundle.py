import pytest
import torch
from torch import nn

import targets
from hypergen.catalog import TARGETS
from hypergen.errors import InputError
from hypergen.models.bundle import ModelBundle, describe, fresh_target
from hypergen.models.generator import ChunkHead, DenseHead
from hypergen.models.latent import Latent
from hypergen.models.value_network import EnsembleValueNetwork
from targets import WeightLayout

PARTS = ("target", "generator", "ema", "value")


def tensors(models: ModelBundle) -> list[torch.Tensor]:
    return [tensor for part in PARTS for tensor in getattr(models, part).state_dict().values()]


def equal(mine: ModelBundle, theirs: ModelBundle) -> bool:
    return all(a.equal(b) for a, b in zip(tensors(mine), tensors(theirs), strict=True))


def test_the_seed_decides_everything_and_the_global_state_is_left_alone(tiny, digits):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = ModelBundle.fresh(tiny, digits.info)
    assert torch.random.get_rng_state().equal(before)
    torch.manual_seed(6)
    assert equal(first, ModelBundle.fresh(tiny, digits.info))
    assert not equal(first, ModelBundle.fresh(tiny.replace(seed=1), digits.info))


def test_the_generator_starts_at_the_base_or_at_the_fresh_target(tiny, digits, base_network):
    for base in (None, base_network):
        models = ModelBundle.fresh(tiny, digits.info, base)
        start = models.target if base is None else base
        layout = WeightLayout.of(models.target)
        assert models.generator.base_weights.equal(layout.flatten(start.state_dict()))
        assert models.latent is models.generator.latent and models.latent == Latent(16)


def test_it_holds_what_the_config_asks_for(tiny, few, fresh_mlp):
    config = tiny.replace(generator="chunk", value_network="mlp", value_members=3)
    models = ModelBundle.fresh(config, few.info)
    assert isinstance(models.generator.head, ChunkHead)
    assert isinstance(models.value, EnsembleValueNetwork) and len(models.value.members) == 3
    assert isinstance(ModelBundle.fresh(tiny, few.info).generator.head, DenseHead)
    published = tiny.replace(generator="published")
    short, long = (
        ModelBundle.fresh(published, few.info, fresh_mlp, pretraining_steps=steps)
        for steps in (1, 8)
    )
    goal = WeightLayout.of(fresh_mlp).flatten(fresh_mlp.state_dict())
    with torch.no_grad():
        far, near = (
            (models.generator(torch.zeros(1, 2), torch.zeros(1)) - goal).norm()
            for models in (short, long)
        )
    assert near < 0.9 * far


def test_a_checkpoint_is_taken_over(tiny, digits):
    models, other = (ModelBundle.fresh(tiny.replace(seed=seed), digits.info) for seed in (0, 1))
    other.load_state_dict({name: getattr(models, name).state_dict() for name in PARTS[1:]})
    for name in PARTS[1:]:
        mine, theirs = (getattr(each, name).state_dict() for each in (models, other))
        assert all(mine[key].equal(theirs[key]) for key in mine)


def test_all_of_it_moves(tiny, digits, device):
    models = ModelBundle.fresh(tiny, digits.info)
    assert models.to(device) is models
    averaged = "n_averaged"  # which a step reads
    for part in PARTS:
        state = getattr(models, part).state_dict()
        assert {t.device.type for key, t in state.items() if key != averaged} == {device.type}


def test_a_fresh_target_is_that_of_the_data(digits):
    torch.manual_seed(0)
    module = fresh_target("fbf-cnn", "elu", digits.info)
    torch.manual_seed(0)
    same = targets.build("fbf-cnn", "elu", 10, (1, 8, 8))
    images, _ = digits.val.first(4)
    assert module.eval()(images).equal(same.eval()(images))
    layout = WeightLayout.of(module)
    assert module.metadata == describe("fbf-cnn", "elu", digits.info, layout)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ("small-lenet", "relu"),
            r'unknown target "small-lenet" \(did you mean "small-lenet5"\?\)',
        ),
        (("mlp", "rleu"), r'unknown activation "rleu" \(did you mean "relu"\?\)'),
    ],
)
def test_unknown_names_are_told_with_the_nearest(names, message, digits):
    with pytest.raises(InputError, match=message):
        fresh_target(*names, digits.info)


def test_the_metadata_say_all_that_opening_needs(digits, register):
    layout = WeightLayout.of(nn.Linear(3, 2))
    assert describe("mlp", "elu", digits.info, layout) == {
        "target": "mlp",
        "activation": "elu",
        "num_classes": 10,
        "class_names": [str(digit) for digit in range(10)],
        "input_shape": [1, 8, 8],
        "layout": layout.fingerprint,
        "dataset": "digits",
        "plugins": [],
    }
    register(TARGETS, "my-net", nn.Linear)  # of no plugin, since it was registered in Python
    assert describe("my-net", "relu", digits.info, layout)["plugins"] == []
