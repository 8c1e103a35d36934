"""The network that a run starts from."""

from typing import cast

import pytest
import safetensors.torch
import torch
from torch import Tensor

from hypergen.errors import InputError
from hypergen.evaluation.sampler import Sampler
from hypergen.experiments.base import (
    direct_recipe,
    method_of,
    open_base,
    prepare_base,
    require_base,
    untrained_base,
)
from hypergen.experiments.competitors import direct_recipes, share_base, starting_network
from hypergen.experiments.run_folder import BASE
from hypergen.models.bundle import ModelBundle
from hypergen.storage.weights import load_network, read_metadata, read_network, save_network


def equal(one, other) -> bool:
    theirs = other.state_dict()
    return all(tensor.equal(theirs[name]) for name, tensor in one.state_dict().items())


def test_a_base_is_copied_into_the_run(tiny, base, few, cpu, tmp_path):
    config = tiny.replace(base=str(base))
    path = prepare_base(config, few, cpu, tmp_path)
    assert path == tmp_path / BASE and equal(load_network(path), load_network(base))
    metadata = read_metadata(path)
    assert metadata["base"] == str(base) and metadata["dataset"] == "digits"
    # From then on the run's own copy counts, whatever becomes of the file.
    gone = config.replace(base=str(tmp_path / "gone.safetensors"))
    assert prepare_base(gone, few, cpu, tmp_path) == path
    assert prepare_base(tiny, few, cpu, tmp_path / "other") is None


def test_a_base_may_be_any_state_dict(tiny, base, few, tmp_path):
    module = load_network(base)
    pickled, plain = tmp_path / "net.pt", tmp_path / "net.safetensors"
    torch.save({"state_dict": module.state_dict()}, pickled)
    safetensors.torch.save_file(module.state_dict(), plain)
    for path in (pickled, plain, base):
        assert equal(open_base(path, tiny, few.info), module)
    with pytest.raises(InputError):
        open_base(pickled, tiny.replace(target="fbf-cnn"), few.info)
    with pytest.raises(InputError, match="`base`: .* holds another network than mlp with elu"):
        open_base(base, tiny.replace(activation="elu"), few.info)


def test_a_base_is_trained_on_the_spot_once(tiny, few, cpu, tmp_path):
    config = tiny.replace(base="standard", seed=3)
    assert [*untrained_base(config, tmp_path)] == [tmp_path / BASE]
    first = prepare_base(config, few, cpu, tmp_path)
    assert first == tmp_path / BASE
    metadata = read_metadata(first)
    assert (metadata["method"], metadata["seed"]) == ("standard", 3)
    assert untrained_base(config, tmp_path) == {}
    written = first.stat().st_mtime_ns
    assert prepare_base(config, few, cpu, tmp_path) == first
    assert first.stat().st_mtime_ns == written
    # Nor is it trained again as a baseline.
    recipes = direct_recipes(tmp_path / "baselines", config)
    share_base(recipes, config, first)
    (shared,) = [path for path in recipes if path.exists()]
    assert shared.name == "standard-3.safetensors"
    assert equal(load_network(shared), load_network(first))


def test_what_cannot_be_trained_on_the_spot_is_refused(tiny, few):
    config = tiny.replace(base="fbf", norm="l1", epsilon=5.0, attack_steps=2)
    with pytest.raises(ValueError, match="random-fgsm knows the norms linf and l2 only"):
        require_base(config, few.info)
    require_base(config.replace(base="pgd"), few.info)
    require_base(config.replace(base=None), few.info)
    assert [method_of(tiny.replace(base=name)) for name in ("pgd", "x.pt", None)] == [
        "pgd",
        None,
        None,
    ]


def test_a_recipe_is_that_of_the_run(tiny):
    config = tiny.replace(activation="elu", norm="l2", epsilon=0.7, dataset="mnist", image_size=20)
    recipe = direct_recipe(config, "pgd", 5)
    assert (recipe.method, recipe.seed) == ("pgd", 5)
    assert (recipe.target, recipe.activation) == ("mlp", "elu")
    assert recipe.threat == config.threat and recipe.data == config.data


def test_the_start_is_the_base_or_the_seeds_initialisation(tiny, ranged_run, base, few, tmp_path):
    images = few.calibration_images(64)
    sampler = ranged_run.sampler
    start = starting_network(ranged_run.folder, sampler, images)
    fresh = ModelBundle.fresh(sampler.config, few.info).generator
    assert start.theta[0].equal(cast(Tensor, fresh.base_weights).detach())
    from_base = Sampler(tiny.replace(base=str(base)), few.info, sampler.models, 3, few)
    save_network(tmp_path / BASE, *read_network(base))
    begun = starting_network(tmp_path, from_base, images)
    assert equal(begun[0], load_network(base))
