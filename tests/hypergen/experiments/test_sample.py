"""Samples of a run, ranked, verified and written."""

import json
import shutil

import pytest
import safetensors.torch
import torch

import attacks
import hypergen
from hypergen.errors import InputError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.trade_off import hypervolume
from hypergen.experiments import sample as module
from hypergen.experiments import sample_config
from hypergen.experiments.run import load_generator
from hypergen.experiments.sample import draw_samples
from hypergen.experiments.sample_config import SampleConfig, parse_prefer
from hypergen.models.bundle import ModelBundle
from hypergen.report.fronts import curve_table
from hypergen.storage import checkpoint
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.storage.weights import load_network, read_metadata, read_network

COUNT, IMAGES = 5, 6


@pytest.fixture(scope="module")
def sampler(ranged_run) -> Sampler:
    return load_generator(ranged_run.folder)


@pytest.fixture(scope="module")
def sample(sampler, digits):
    """Draws from the run, or from another sampler: the files in their order."""

    def draw(out, drawing: Sampler = sampler, **options):
        config = SampleConfig(**{"count": COUNT, "images": IMAGES} | options)
        draw_samples(drawing, digits, out, config)
        return sorted(out.iterdir())

    return draw


@pytest.fixture(scope="module")
def drawn(sample, tmp_path_factory):
    """All networks drawn with seed 3."""
    return sample(tmp_path_factory.mktemp("drawn") / "all", seed=3)


@pytest.fixture(scope="module")
def verified(sample, tmp_path_factory):
    """The same networks, all of them kept."""
    return sample(tmp_path_factory.mktemp("verified") / "all", seed=3, keep=COUNT)


def score(metadata) -> float:
    """What a network is worth to its own preference, by the value network."""
    beta, estimated = metadata["beta"], metadata["estimated"]
    return (1 - beta) * estimated["accuracy"] + beta * estimated["robustness"]


def test_same_seed_same_networks(sample, drawn, tmp_path):
    again = sample(tmp_path / "again", seed=3)
    assert [file.name for file in again] == [f"sample-{i:04d}.safetensors" for i in range(COUNT)]
    assert [file.read_bytes() for file in again] == [file.read_bytes() for file in drawn]
    other = sample(tmp_path / "other", seed=4)
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
        del metadata["sampling"]  # how each was asked for
        assert not {"attack", "robustness", "sra", "pgd"} & set(metadata)
        assert metadata.items() <= by_z[str(metadata["z"])].items()


def test_the_result_is_what_the_files_say(sampler, digits, tmp_path):
    config = SampleConfig(count=3, keep=2, images=IMAGES)
    result = draw_samples(sampler, digits, tmp_path / "out", config)
    assert result["attack"]["name"] == "standard" and result["dataset"] == "digits"
    assert result["summary"]["count"] == 2
    for row in result["networks"]:
        metadata = read_metadata(row["file"])
        assert {name: metadata[name] for name in row if name != "file"} == {
            name: value for name, value in row.items() if name != "file"
        }


def test_drawing_alone_attacks_nothing(sampler, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(Evaluator, "evaluate", None)
    result = draw_samples(sampler, digits, tmp_path / "drawn", SampleConfig(COUNT, images=IMAGES))
    assert result["attack"] is None and len(result["networks"]) == COUNT
    assert all({"accuracy", "estimated", "file"} <= row.keys() for row in result["networks"])


def test_the_metadata_says_what_the_networks_are(drawn, sampler, digits):
    images, labels = digits.test.first(len(digits.test))
    for file in drawn:
        metadata = read_metadata(file)
        assert (metadata["target"], metadata["dataset"]) == ("mlp", "digits")
        assert (metadata["seed"], metadata["epsilon"], metadata["norm"]) == (3, 0.1, "linf")
        assert metadata["version"] == hypergen.__version__
        assert len(metadata["z"]) == sampler.config.generator.latent_size
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
            theta = sampler.models.ema(z, beta)
        network = sampler.draw(1)[0].with_theta(theta)[0]
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-6)


def test_the_best_by_the_value_network_comes_first(drawn):
    scores = [score(read_metadata(file)) for file in drawn]
    assert scores == sorted(scores, reverse=True) and len(set(scores)) > 1


def test_keep_writes_only_the_best(sample, drawn, digits, tmp_path, monkeypatch):
    seen = {}

    def last_two(population, order, betas, split, *verifying):
        seen["order"], seen["verifying"], seen["split"] = order.tolist(), verifying, split
        return order[-2:]

    monkeypatch.setattr(module, "successive_halving", last_two)
    kept = sample(tmp_path / "kept", seed=3, keep=2)
    for file, same in zip(kept, drawn[-2:], strict=True):
        assert read_network(file)[1]["z"] == read_network(same)[1]["z"]
        assert all(t.equal(read_network(same)[0][n]) for n, t in read_network(file)[0].items())
    assert sorted(seen["order"]) == list(range(COUNT))
    assert seen["split"].images.equal(digits.val.images)
    schedule, keep, images, seed, _ = seen["verifying"]
    assert {attack.threat for attack in schedule} == {attacks.Threat("linf", 0.1)}
    assert (keep, images, seed) == (2, IMAGES, 3)


def test_the_value_network_decides_the_order(sample, sampler, tmp_path, monkeypatch):
    scores = torch.tensor([[0.2, 0.2], [0.9, 0.9], [0.1, 0.1], [0.5, 0.5], [0.4, 0.4]])
    unsure = torch.zeros_like(scores)
    monkeypatch.setattr(Sampler, "estimate", lambda *_: (scores, unsure))
    files = sample(tmp_path / "ranked", seed=3)
    z = sampler.draw(COUNT, seed=3)[1]
    ranked = [z[i].tolist() for i in (1, 3, 4, 0, 2)]
    assert [read_metadata(file)["z"] for file in files] == ranked
    unsure[1] = 0.45  # of what it does not know V promises little
    files = sample(tmp_path / "surer", seed=3)
    assert [read_metadata(file)["z"] for file in files][:2] == [ranked[1], ranked[0]]
    assert "uncertainty" not in read_metadata(files[0])


def test_several_value_networks_say_how_sure_they_are(sample, tiny, few, tmp_path):
    config = tiny.replace(value_members=2)
    several = Sampler(config, few.info, ModelBundle.fresh(config, few.info), 3, few)
    for file in sample(tmp_path / "drawn", several):
        uncertainty = read_metadata(file)["uncertainty"]
        assert set(uncertainty) == {"accuracy", "robustness"}
        assert all(0 < value < 0.5 for value in uncertainty.values())


def test_a_preference_is_that_of_all(sample, tmp_path):
    (file,) = sample(tmp_path / "robust", beta="0.8", keep=1, count=3)
    assert read_metadata(file)["beta"] == pytest.approx(0.8)


def test_several_betas_are_a_curve_of_the_same_z(sampler, digits, tmp_path):
    config = SampleConfig(3, keep=2, beta="0:0.8:3", images=IMAGES)
    result = draw_samples(sampler, digits, tmp_path / "out", config)
    stored = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert stored == json.loads(json.dumps(result))
    assert (tmp_path / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")
    rows = result["networks"]
    assert [row["beta"] for row in rows] == pytest.approx([0, 0, 0.4, 0.4, 0.8, 0.8])
    z = {str(sample_z.tolist()) for sample_z in sampler.draw(3, seed=config.seed)[1]}
    assert {str(row["z"]) for row in rows} <= z
    for row in rows:
        state, metadata = read_network(row["file"])
        assert (metadata["beta"], metadata["accuracy"]) == (row["beta"], row["accuracy"])
        drawn, beta = torch.tensor([row["z"]]), torch.tensor([row["beta"]])
        with torch.no_grad():
            network = sampler.draw(1)[0].with_theta(sampler.models.ema(drawn, beta))[0]
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(state[name], tensor, rtol=0, atol=1e-6)
    for index, point in enumerate(result["curve"]):
        own = rows[2 * index : 2 * index + 2]
        for name in ("accuracy", "pgd", "sra"):
            assert point[name]["mean"] == pytest.approx(sum(row[name] for row in own) / 2)
    points = [[point["accuracy"]["mean"], point["sra"]["mean"]] for point in result["curve"]]
    assert result["hypervolume"] == hypervolume(points, 10)
    assert str(curve_table(result)).count("\n") == 3 + 3 - 1 + 1


def test_several_betas_without_attacks(sampler, digits, tmp_path):
    result = draw_samples(sampler, digits, tmp_path / "out", SampleConfig(2, beta="0:0.8:2"))
    assert "hypervolume" not in result and result["attack"] is None
    assert [set(point) for point in result["curve"]] == [{"beta", "count", "accuracy"}] * 2


def test_accuracy_at_least_chooses_beta(sampler, digits, tmp_path, monkeypatch):
    monkeypatch.setattr(sample_config, "value_for_accuracy", lambda *given: given[2] / 2)
    config = SampleConfig(2, accuracy_at_least=0.9)
    result = draw_samples(sampler, digits, tmp_path / "out", config)
    assert [row["beta"] for row in result["networks"]] == pytest.approx([0.45] * 2)


def test_what_cannot_be_drawn_leaves_nothing(sampler, digits, tmp_path):
    out = tmp_path / "none"
    with pytest.raises(InputError, match=r"trained for `beta` in \[0, 0.8\]"):
        draw_samples(sampler, digits, out, SampleConfig(1, beta="0.9"))
    assert not out.exists()
    with pytest.raises(InputError, match=r"`keep` must be at most `count` \(3\), got 4"):
        SampleConfig(3, keep=4)
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="is not empty"):
        draw_samples(sampler, digits, tmp_path, SampleConfig(1))


def test_the_python_way_gives_ready_networks(ranged_run, drawn, digits):
    population = hypergen.load_generator(ranged_run.folder).sample(COUNT, seed=3)
    images, _ = digits.test.first(4)
    with torch.no_grad():
        logits = population(images.expand(COUNT, *images.shape))
        written = torch.stack([hypergen.load_network(file)(images) for file in drawn])
    order = [int((logits - one).abs().amax((1, 2)).argmin()) for one in written]
    assert sorted(order) == list(range(COUNT))
    torch.testing.assert_close(logits[order], written, rtol=0, atol=1e-5)


def test_plain_pytorch_opens_a_sample(drawn, sampler):
    network = sampler.draw(1)[0][0]
    network.load_state_dict(safetensors.torch.load_file(drawn[0]), strict=True)


def test_estimates_use_the_value_attack_that_training_ended_with(ranged_run, tmp_path):
    """It may have been given more steps than the configuration says."""
    again = tmp_path / "run"
    shutil.copytree(ranged_run.folder, again)
    state = checkpoint.load(again / CHECKPOINT)
    checkpoint.save(again / CHECKPOINT, state | {"attack_steps": 12})
    sampler = load_generator(ranged_run.folder)
    assert sampler.attack_steps == sampler.config.attack_steps == 3
    assert load_generator(again).attack_steps == 12


def test_samples_are_as_far_apart_as_the_prior_was_steered_to(ranged_run, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(ranged_run.folder, again)
    first = load_generator(ranged_run.folder)
    size = 2 * first.config.generator.prior_scale
    state = checkpoint.load(again / CHECKPOINT)
    checkpoint.save(again / CHECKPOINT, state | {"prior_scale": size})
    steered = load_generator(again)
    first.models.prior_scale = size
    assert torch.equal(steered.draw(2, seed=1)[0].theta, first.draw(2, seed=1)[0].theta)


NAMES = ["accuracy", "robustness:norm=l2,epsilon=1.5", "int8:bits=4"]


def test_preferences_are_read_by_the_names_of_the_measures():
    assert parse_prefer(None, NAMES) is None
    assert parse_prefer("accuracy=.2,int8:bits=4=0.8", NAMES) == {"accuracy": 0.2, NAMES[2]: 0.8}
    assert parse_prefer(f"{NAMES[1]}=2,accuracy=1", NAMES) == {NAMES[1]: 2, "accuracy": 1}
    assert parse_prefer("other=1", NAMES) == {"other": 1}  # told by the sampler


@pytest.mark.parametrize("text", ["accuracy", "accuracy=x", "=1", "accuracy=1,,", "1", "a=1=2"])
def test_what_is_no_preference_is_told_in_one_line(text):
    with pytest.raises(InputError, match="^`prefer` must be weights of measures"):
        parse_prefer(text, NAMES)


def test_a_measure_is_preferred_once():
    with pytest.raises(InputError, match="^`prefer` names accuracy twice"):
        parse_prefer("accuracy=0.5,accuracy=0.2", NAMES)


def test_more_networks_than_the_memory_holds_are_not_begun(ranged_run, few, tmp_path):
    with pytest.raises(InputError, match="this needs about .* GB of memory, .*lower `count`"):
        draw_samples(ranged_run.sampler, few, tmp_path / "new", SampleConfig(count=10**9))
    assert not (tmp_path / "new").exists()
