"""What users bring: classes and objects in the place of names, and what they register."""

from dataclasses import replace

import pytest
import torch
from torch import nn

import attacks
import hypergen
from tests.hypergen.experiments.calls import QUICK, TINY, Tiny, same

pytestmark = pytest.mark.usefixtures("registries")


def test_classes_of_ones_own(few, tmp_path, untouched):
    with untouched():
        run = hypergen.train(target=Tiny, dataset=few, out=tmp_path, **TINY)
    assert run.settings.config.target == "Tiny"
    network = run.sample(2)[1]
    assert isinstance(network, Tiny)
    assert hypergen.load_network(tmp_path / "samples" / "sample-0000.safetensors")
    own = tmp_path / "own"
    run = hypergen.train(target="mlp", activation=nn.Softplus, dataset=few, out=own, **TINY)
    assert run.settings.config.activation == "Softplus"
    # The same class again is the same target.
    assert hypergen.baseline(target=Tiny, dataset=few, out=tmp_path / "b", epochs=1, device="cpu")


def test_a_data_set_of_ones_own(tmp_path, untouched, few):
    info = replace(few.info, name="mine", class_names=tuple("abcdefghij"))
    mine = hypergen.Dataset(info, few.train, few.val, few.test)
    with pytest.raises(hypergen.InputError, match="`epsilon` is needed"):
        hypergen.train(target="mlp", dataset=mine, out=tmp_path / "a", **TINY)
    with untouched():
        run = hypergen.train(target="mlp", dataset=mine, epsilon=0.1, out=tmp_path / "a", **TINY)
    found = hypergen.evaluate(run, **QUICK)
    assert found["dataset"] == "mine" and found["networks"][0]["class_names"] == [*"abcdefghij"]
    # Another object of the same name is that one from now on, and no other run's images.
    other = replace(mine, test=mine.val)
    theirs = hypergen.evaluate(run, dataset=other, **QUICK)
    assert theirs["networks"][0]["accuracy"] != found["networks"][0]["accuracy"]
    assert hypergen.evaluate(run, dataset=mine, **QUICK) == found
    with pytest.raises(hypergen.InputError, match="the data set mine itself has changed"):
        hypergen.train(target="mlp", dataset=other, epsilon=0.1, out=tmp_path / "a", **TINY)
    with pytest.raises(hypergen.InputError, match="`image_size` and `grey` are of a `dataset`"):
        hypergen.train(dataset=mine, epsilon=0.1, image_size=8)


def test_what_is_registered_is_found_by_its_name(few, tmp_path):
    @hypergen.register_target("dict-net", output="logits")
    class DictNet(nn.Module):
        def __init__(self, num_classes):
            super().__init__()
            self.layer = nn.Linear(64, num_classes)

        def forward(self, images):
            return {"logits": self.layer(images.flatten(1)), "other": 1}

    @hypergen.register_activation("third")
    class Third(nn.Module):
        def forward(self, values):
            return values.clamp(-3, 3) / 3

    @hypergen.register_attack("one-step")
    class OneStep(attacks.FGSM):
        """FGSM by another name."""

    @hypergen.register_dataset("halves")
    def halves():
        images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        labels = (images.mean((1, 2, 3)) > 0.5).long()
        return images, labels

    assert hypergen.load_dataset("halves").num_classes == 2
    out = tmp_path / "a"
    run = hypergen.train(target=DictNet, dataset=few, out=out, **TINY)
    assert run.settings.config.target == "dict-net"
    found = hypergen.evaluate(run, attack="one-step", **QUICK)
    assert found["attack"]["name"] and len(found["networks"]) == 2
    options = TINY | {"activation": "third", "epsilon": 0.1}
    run = hypergen.train(target="mlp", dataset="halves", out=tmp_path / "b", **options)
    assert run.settings.config.activation == "third"
    assert len(run.settings.info.class_names) == 2


def test_generators_and_value_networks_of_ones_own(few, tmp_path):
    from hypergen.models.value_network import SetValueNetwork

    class Own(SetValueNetwork):
        """A value network of the user's."""

    @hypergen.register_generator("shifted")
    class Shifted(nn.Module):
        def __init__(self, base_weights, latent_size):
            super().__init__()
            self.base_weights = nn.Parameter(base_weights.clone())
            self.map = nn.Linear(latent_size, len(base_weights))

        def forward(self, z, beta):
            return self.base_weights + 0.01 * self.map(z)

    run = hypergen.train(
        target=Tiny, generator=Shifted, value_network=Own, dataset=few, out=tmp_path, **TINY
    )
    config = run.settings.config
    assert (config.generator.kind, config.value_network.kind) == ("shifted", "Own")
    one, other = hypergen.load_generator(tmp_path).sample(2)
    assert not same(one, other)
