import json
import shutil
from dataclasses import replace

import pytest
import safetensors.torch
import torch

import hypergen
from attacks import Threat
from hypergen import checkpoint, data
from hypergen.cli import main
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.measure import attacked_batch
from hypergen.sample import Sampler, load_generator
from hypergen.train import Networks
from hypergen.weights_file import load_network, read_metadata, read_network
from targets import Population

COUNT, IMAGES = 5, 6


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run trained for preferences in [0, 0.8]."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = {
        **{"target": "mlp", "steps": 25, "population": 2, "batch-size": 16, "beta": "0:0.8"},
        **{"measure-every": 1, "samples": 2, "sra-samples": 0},
        **{"images": 8, "device": "cpu", "learning-rate": 0.02, "out": folder},
    }
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    assert main(["train", "--no-baseline", *arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def sampler(run) -> Sampler:
    return load_generator(run)


def sample(run, out, *options: str):
    """The files that `hypergen sample` writes, in their order."""
    count = ["--count", str(COUNT), "--images", str(IMAGES), "--out", str(out)]
    assert main(["sample", str(run), *count, *options]) == 0
    return sorted(out.iterdir())


@pytest.fixture(scope="module")
def drawn(run, tmp_path_factory):
    """All networks drawn with seed 3."""
    return sample(run, tmp_path_factory.mktemp("drawn") / "all", "--seed", "3")


@pytest.fixture(scope="module")
def verified(run, tmp_path_factory):
    """The same networks, all of them kept."""
    out = tmp_path_factory.mktemp("verified") / "all"
    return sample(run, out, "--seed", "3", "--keep", str(COUNT))


def score(metadata) -> float:
    """What a network is worth to its own preference, by the value network."""
    beta, estimated = metadata["beta"], metadata["estimated"]
    return (1 - beta) * estimated["accuracy"] + beta * estimated["robustness"]


def test_same_seed_same_networks(run, drawn, tmp_path):
    again = sample(run, tmp_path / "again", "--seed", "3")
    assert [file.name for file in again] == [f"sample-{i:04d}.safetensors" for i in range(COUNT)]
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in drawn]
    other = sample(run, tmp_path / "other", "--seed", "4")
    assert not {str(read_metadata(f)["z"]) for f in other} & {
        str(read_metadata(f)["z"]) for f in drawn
    }


def test_what_is_kept_is_verified(drawn, verified):
    for file in verified:
        metadata = read_metadata(file)
        assert (metadata["attack"]["name"], metadata["attack"]["images"]) == ("standard", IMAGES)
        assert metadata["robustness"] == metadata["sra"] <= metadata["pgd"]
    by_z = {str(read_metadata(file)["z"]): read_metadata(file) for file in verified}
    for file in drawn:  # and what is not, is not said to be
        metadata = read_metadata(file)
        assert not {"attack", "robustness", "sra", "pgd"} & set(metadata)
        assert metadata.items() <= by_z[str(metadata["z"])].items()


def test_drawing_alone_attacks_nothing(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("hypergen.sample.Judge.judge", None)
    files = sample(run, tmp_path / "drawn", "--seed", "3")
    *_, head, first, second, third, fourth, fifth, what, how = capsys.readouterr().out.splitlines()
    assert head.split() == ["network", "accuracy", "robustness,", "estimated"]
    for file, line in zip(files, (first, second, third, fourth, fifth), strict=True):
        metadata = read_metadata(file)
        figures = (metadata["accuracy"], metadata["estimated"]["robustness"])
        assert line.split()[1:] == [f"{100 * value:.2f}" for value in figures]
    assert "estimated by the value network" in what and "hypergen evaluate" in how


def test_the_metadata_says_what_the_networks_are(run, drawn, sampler):
    digits = data.load("digits")
    images, labels = digits.test.first(len(digits.test))
    for file in drawn:
        metadata = read_metadata(file)
        assert (metadata["target"], metadata["dataset"]) == ("mlp", "digits")
        assert (metadata["seed"], metadata["epsilon"]) == (3, 0.1)
        assert metadata["version"] == hypergen.__version__
        assert len(metadata["z"]) == sampler.config.latent_size
        assert 0 <= metadata["beta"] <= 0.8
        assert all(0 <= value <= 1 for value in metadata["estimated"].values())
        with torch.no_grad():
            correct = load_network(file)(images).argmax(-1) == labels
        assert metadata["accuracy"] == pytest.approx(float(correct.float().mean()), abs=1e-6)


def test_z_and_beta_in_the_metadata_make_the_weights_again(drawn, sampler):
    for file in drawn:
        state, metadata = read_network(file)
        z, beta = torch.tensor([metadata["z"]]), torch.tensor([metadata["beta"]])
        with torch.no_grad():
            theta = sampler.networks.averaged(z, beta)
        module = sampler.draw(1)[0].with_theta(theta).module_at(0)
        for name, tensor in module.state_dict().items():
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-6)


def test_the_best_by_the_value_network_comes_first(drawn):
    scores = [score(read_metadata(file)) for file in drawn]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) > 1


def test_keep_writes_only_the_best(run, drawn, tmp_path, monkeypatch):
    seen = {}

    def last_two(population, order, betas, split, *verifying):
        seen["order"], seen["verifying"], seen["split"] = order.tolist(), verifying, split
        return order[-2:]

    monkeypatch.setattr("hypergen.sample.best", last_two)
    kept = sample(run, tmp_path / "kept", "--seed", "3", "--keep", "2")
    for file, same in zip(kept, drawn[-2:], strict=True):
        assert read_network(file)[1]["z"] == read_network(same)[1]["z"]
        assert all(t.equal(read_network(same)[0][n]) for n, t in read_network(file)[0].items())
    assert sorted(seen["order"]) == list(range(COUNT))
    assert seen["split"].images.equal(data.load("digits").val.images)
    assert seen["verifying"] == (Threat("linf", 0.1), 2, IMAGES, 3)


def test_the_value_network_decides_the_order(run, tmp_path, monkeypatch):
    worth = torch.tensor([[0.2, 0.2], [0.9, 0.9], [0.1, 0.1], [0.5, 0.5], [0.4, 0.4]])
    unsure = torch.zeros_like(worth)
    monkeypatch.setattr(Sampler, "estimate", lambda *_: (worth, unsure))
    files = sample(run, tmp_path / "ranked", "--seed", "3")
    z = load_generator(run).draw(COUNT, seed=3)[1]
    ranked = [z[i].tolist() for i in (1, 3, 4, 0, 2)]
    assert [read_metadata(file)["z"] for file in files] == ranked
    unsure[1] = 0.45  # of what it does not know V promises little
    files = sample(run, tmp_path / "surer", "--seed", "3")
    assert [read_metadata(file)["z"] for file in files][:2] == [ranked[1], ranked[0]]
    assert "uncertainty" not in read_metadata(files[0])


def test_several_value_networks_say_how_sure_they_are(tmp_path):
    out = tmp_path / "run"
    options = ["--target", "mlp", "--steps", "2", "--population", "2", "--batch-size", "8"]
    options += ["--value-members", "2", "--samples", "1", "--sra-samples", "0", "--images", "4"]
    assert main(["train", "--no-baseline", *options, "--out", str(out)]) == 0
    for file in sample(out, tmp_path / "drawn"):
        uncertainty = read_metadata(file)["uncertainty"]
        assert set(uncertainty) == {"accuracy", "robustness"}
        assert all(0 < value < 0.5 for value in uncertainty.values())


def test_two_preferences_give_two_networks(run, sampler, tmp_path):
    accurate, z, betas = sampler.draw(3, beta=0.0, seed=5)
    robust, same_z, other_betas = sampler.draw(3, beta=0.8, seed=5)
    assert z.equal(same_z) and betas.tolist() == [0, 0, 0]
    assert other_betas.tolist() == pytest.approx([0.8] * 3)
    assert (accurate.theta - robust.theta).abs().max() > 1e-3
    files = sample(run, tmp_path / "robust", "--beta", "0.8", "--keep", "1")
    assert read_metadata(files[0])["beta"] == pytest.approx(0.8)


def test_without_a_preference_they_are_spread_over_the_range(sampler):
    betas = sampler.draw(200, seed=0)[2]
    assert 0 <= betas.min() < 0.1 and 0.7 < betas.max() <= 0.8


@pytest.mark.parametrize("beta", [0.81, 1.0])
def test_a_preference_never_trained_for_is_refused(run, sampler, beta, tmp_path, capsys):
    with pytest.raises(InputError, match=r"trained for beta in \[0, 0.8\]"):
        sampler.draw(1, beta=beta)
    out = tmp_path / "none"
    command = ["sample", str(run), "--count", "1", "--beta", str(beta), "--out", str(out)]
    assert main(command) == 2 and not out.exists()
    assert "trained for beta in [0, 0.8]" in capsys.readouterr().err


def test_the_python_way_gives_ready_networks(run, drawn):
    population = hypergen.load_generator(run).sample(COUNT, seed=3)
    images, _ = data.load("digits").test.first(4)
    with torch.no_grad():
        logits = population(images.expand(COUNT, *images.shape))
        written = torch.stack([hypergen.load_network(file)(images) for file in drawn])
    order = [int((logits - one).abs().amax((1, 2)).argmin()) for one in written]
    assert sorted(order) == list(range(COUNT))
    torch.testing.assert_close(logits[order], written, rtol=0, atol=1e-5)


def test_plain_pytorch_opens_a_sample(drawn, sampler):
    module = sampler.draw(1)[0].module_at(0)
    module.load_state_dict(safetensors.torch.load_file(drawn[0]), strict=True)


def test_a_run_without_a_checkpoint_cannot_be_sampled(run, tmp_path, capsys):
    young = tmp_path / "young"
    young.mkdir()
    (young / "config.json").write_text(json.dumps(json.loads((run / "config.json").read_text())))
    assert main(["sample", str(young), "--count", "1"]) == 2
    assert "no checkpoint.safetensors yet" in capsys.readouterr().err
    assert [path.name for path in young.iterdir()] == ["config.json"]


def test_estimates_stand_for_the_radius_judged(sampler):
    digits, population = data.load("digits"), sampler.sample(2)
    wide = replace(sampler.config, epsilon_factor=3.0)
    other = Sampler(wide, sampler.networks, sampler.attack_steps)
    mine, its = (s.estimate(population, digits)[0] for s in (sampler, other))
    assert mine.equal(its)
    far = Sampler(replace(wide, epsilon=0.3), sampler.networks, sampler.attack_steps)
    assert not far.estimate(population, digits)[0].allclose(mine)


def test_estimates_do_not_depend_on_how_many_are_in_memory(sampler, monkeypatch):
    digits, population = data.load("digits"), sampler.sample(5)
    together, _ = sampler.estimate(population, digits)
    shapes = []

    def watched(some, *args):
        shapes.append(len(some))
        return attacked_batch(some, *args)

    monkeypatch.setattr("hypergen.sample.attacked_batch", watched)
    monkeypatch.setattr("hypergen.sample.ESTIMATED_AT_ONCE", 2)
    assert sampler.estimate(population, digits)[0].equal(together)
    assert shapes == [2, 2, 1]


def test_estimates_use_the_measurer_that_training_ended_with(run, tmp_path):
    """It may have been given more steps than the configuration says."""
    again = tmp_path / "run"
    shutil.copytree(run, again)
    state = checkpoint.load(again / "checkpoint.safetensors")
    checkpoint.save(again / "checkpoint.safetensors", state | {"attack_steps": 12})
    assert load_generator(run).attack_steps == load_generator(run).config.attack_steps == 3
    assert load_generator(again).attack_steps == 12


def test_batch_norm_is_calibrated_on_images_as_training_sees_them():
    pixels = torch.randint(256, (32, 3, 32, 32), dtype=torch.uint8)
    part = data.Split(pixels, torch.arange(32) % 10)
    colours = data.Dataset("cifar10", 10, (3, 32, 32), 8 / 255, part, part, part, crop=4, flip=True)
    images, plain = colours.calibration_images(1024), part.first(1024)[0]
    assert images.equal(colours.calibration_images(1024))  # always alike
    assert images.shape == plain.shape and not images.equal(plain)
    config = TrainConfig(dataset="cifar10", target="light-cnn")
    population = Sampler(config, Networks.fresh(config), 1, colours).sample(2)
    for index in range(2):
        normalize, convolution, norm = list(population.module_at(index).children())[0][:3]
        with torch.no_grad():
            mean = convolution(normalize(images)).mean((0, 2, 3))
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-4)


def test_networks_with_batch_norm_are_the_same_alone_together_and_from_a_file(
    there, device, tmp_path
):
    dataset = replace(there, train=there.train.head(48))
    config = TrainConfig(target="vgg")
    networks = Networks.fresh(config).to(device)
    with pytest.raises(InputError, match="vgg has batch norm, .* load_generator"):
        Sampler(config, networks, attack_steps=1).sample(2)
    sampler = Sampler(config, networks, 1, dataset)
    population, z, betas = sampler.draw(2)
    images = dataset.test.first(6)[0]
    stack = images.expand(2, *images.shape)
    paths = sampler.save(tmp_path, population, z, betas, [{}, {}])
    with torch.no_grad():
        together = population(stack)
        uncalibrated = Population(networks.module, population.theta)(stack)
        assert not together.allclose(uncalibrated, atol=0.1)
        for index, path in enumerate(paths):
            alone = population[index : index + 1](images[None])[0]
            rounding = 0 if device.type == "cpu" else 1e-4 * float(alone.abs().max())
            torch.testing.assert_close(alone, together[index], rtol=0, atol=rounding)
            # Read on the CPU, wherever it was written.
            written = load_network(path)(images.cpu())
            torch.testing.assert_close(written, alone.cpu(), rtol=1.3e-6, atol=max(rounding, 1e-5))
            # The statistics are those of training images: what a layer says of them is normalised.
            layers = population.module_at(index).features[:3]
            said = layers[2](layers[:2](dataset.train.first(48)[0]))
            spread = layers[2].weight.abs()
            torch.testing.assert_close(said.mean((0, 2, 3)), layers[2].bias, atol=1e-3, rtol=0)
            torch.testing.assert_close(said.std((0, 2, 3)), spread, atol=1e-2, rtol=0)
