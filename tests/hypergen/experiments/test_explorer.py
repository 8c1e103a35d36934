"""An opened run: networks, V's estimates, attacks, measurements, and what is kept."""

import shutil

import pytest
import torch

import attacks
from hypergen.config import TrainConfig
from hypergen.data import DatasetInfo
from hypergen.errors import InputError
from hypergen.evaluation.sampler import Sampler
from hypergen.experiments.evaluate_config import EvaluateConfig
from hypergen.experiments.explorer import VOTERS, Explorer, Slider
from hypergen.experiments.latent_slice import SIDE, LatentSlice
from hypergen.experiments.sample import draw_samples
from hypergen.experiments.sample_config import SampleConfig
from hypergen.experiments.typical_errors import typical_errors
from hypergen.measures.attacked import attack_population
from hypergen.models.bundle import ModelBundle
from hypergen.models.latent import Latent
from hypergen.storage.weights import load_network, read_metadata


@pytest.fixture(scope="module")
def explorer(ranged_run, digits, tmp_path_factory) -> Explorer:
    """A copy of the ranged run, opened; what is kept is kept there."""
    folder = tmp_path_factory.mktemp("explorer") / "run"
    shutil.copytree(ranged_run.folder, folder)
    return Explorer(folder, digits)


@pytest.fixture(scope="module")
def chosen(explorer):
    return explorer.choose(torch.linspace(-1, 1, 16), torch.tensor(0.3))


def of(config: TrainConfig, info: DatasetInfo, explorer: Explorer) -> Explorer:
    """An explorer of a run with other settings, untrained."""
    other = object.__new__(Explorer)
    other.__dict__.update(explorer.__dict__)
    other.sampler = Sampler(config, info, ModelBundle.fresh(config, info), 3)
    return other


def test_a_range_of_beta_has_a_slider_and_a_single_one_has_none(explorer, few):
    assert explorer.sliders() == [Slider("beta", 0.0, 0.8, 0.4)]
    assert float(explorer.preference({"beta": 0.7})) == pytest.approx(0.7)
    fixed = of(TrainConfig.of(target="mlp", beta="0.25"), few.info, explorer)
    assert fixed.sliders() == [] and float(fixed.preference({})) == 0.25


def test_measures_with_ranges_have_a_slider_each(explorer, few):
    measures = ("accuracy=0:1", "robustness=0.5", "int8:bits=4=0:2")
    config = TrainConfig.of(target="mlp", objective="value", measure=measures)
    several = of(config, few.info, explorer)
    assert [(s.name, s.low, s.high) for s in several.sliders()] == [
        ("accuracy", 0, 1),
        ("int8:bits=4", 0, 2),
    ]
    weights = several.preference({"accuracy": 0.5, "int8:bits=4": 1.0})
    assert weights.tolist() == pytest.approx([0.25, 0.25, 0.5])
    two = of(config.replace(measure=measures[::2]), few.info, explorer)
    with pytest.raises(InputError, match="above 0"):
        two.preference({"accuracy": 0.0, "int8:bits=4": 0.0})


def test_the_chosen_network_and_its_estimates_are_those_of_the_sampler(explorer, chosen, digits):
    z, beta = torch.linspace(-1, 1, 16), torch.tensor(0.3)
    population = explorer.sampler.generate(z[None], beta[None])
    assert torch.equal(chosen.population.theta, population.theta)
    estimates, _ = explorer.sampler.estimate(population, digits)
    assert torch.equal(chosen.estimates, estimates[0])
    on_map = explorer.estimates(torch.stack([z, -z]), beta)
    assert torch.allclose(on_map[0], explorer.sampler.estimate(population, digits, 64)[0][0])


def test_voters_are_what_sample_draws(explorer):
    drawn = explorer.sampler.sample(VOTERS, beta=0.3, seed=1)
    assert torch.equal(explorer.voters(torch.tensor(0.3)).theta, drawn.theta)


def test_a_slice_is_a_plane_around_a_sample():
    latent = Latent(16)
    plane = LatentSlice.drawn(latent, 3)
    assert torch.equal(plane.middle, latent.draw(1, torch.Generator().manual_seed(3))[0])
    gram = plane.directions.T @ plane.directions
    assert torch.allclose(gram, 2.5**2 * torch.eye(2), atol=1e-5)
    cells = plane.cells()
    assert cells.shape == (SIDE * SIDE, 2) and cells.abs().max() < 1
    assert cells[0].tolist() == pytest.approx([1 / SIDE - 1] * 2)
    assert cells[1, 0] > cells[0, 0] and cells[1, 1] == cells[0, 1]  # a row from left to right
    assert torch.allclose(plane.points(torch.zeros(1, 2))[0], plane.middle)
    assert torch.equal(LatentSlice.drawn(latent, 3).points(cells), plane.points(cells))


@pytest.mark.parametrize("size", [1, 2])
def test_a_small_latent_space_is_shown_whole(size):
    corners = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    uniform = LatentSlice.drawn(Latent(size, uniform=True), 0).points(corners)
    assert uniform.tolist() == [[-10.0] * size, [10.0] * size]
    normal = LatentSlice.drawn(Latent(size), 0).points(corners)
    assert normal.tolist() == [[-2.5] * size, [2.5] * size]


def test_probabilities_are_the_networks_own(explorer, chosen):
    image, label = explorer.image(5)
    assert 0 <= label < 10
    expected = chosen.population[0](image[None]).softmax(-1)[0]
    assert torch.allclose(explorer.probabilities(chosen.population, image), expected, atol=1e-6)
    ensemble = explorer.voters(chosen.preference)
    members = torch.stack([net(image[None]).softmax(-1)[0] for net in ensemble.members])
    assert torch.allclose(explorer.probabilities(ensemble, image), members.mean(0), atol=1e-6)
    assert explorer.votes(ensemble, image) == members.argmax(-1).tolist()


@pytest.mark.parametrize("voting", [False, True])
@pytest.mark.parametrize("epsilon", [0.0, 0.02, 0.3])
def test_an_attacked_image_lies_within_the_threat(explorer, chosen, voting, epsilon):
    networks = explorer.voters(chosen.preference) if voting else chosen.population
    for number in range(3):
        image, label = explorer.image(number)
        found = explorer.attack(networks, image, label, epsilon)
        assert (found.image - image).abs().max() <= epsilon + 1e-6
        assert found.image.min() >= 0 and found.image.max() <= 1
        again = explorer.probabilities(networks, found.image)
        assert torch.equal(found.probabilities, again)
        before = explorer.probabilities(networks, image)
        if before.argmax() == label and again.argmax() == label and epsilon:
            assert again[label] < before[label]  # it ends at a point that is worse, if not wrong


def test_the_attack_fools_what_pgd_fools(explorer, chosen, digits):
    images, labels = digits.test.first(12)
    pgd = attacks.PGD(attacks.Threat("linf", 0.1), 10)
    for number in range(12):
        some = images[number : number + 1], labels[number : number + 1]
        robust = attack_population(chosen.population, *some, pgd, 0).robust[0, 0]
        found = explorer.attack(chosen.population, images[number], int(labels[number]), 0.1)
        assert (found.probabilities.argmax() == labels[number]) == robust


def test_what_is_measured_is_the_standard_attack_on_validation_images(explorer, chosen, digits):
    told = []
    found = explorer.measure(chosen, 12, told.append)
    images, labels = digits.val.first(12)
    whole = attack_population(
        chosen.population, images, labels, attacks.standard(explorer.threat), 0, batch_size=10
    )
    assert found["sra"] == pytest.approx(float(whole.robust_accuracy))
    with torch.no_grad():
        right = chosen.population[0](digits.val.first(1000)[0]).argmax(-1) == digits.val.labels
    assert found["accuracy"] == pytest.approx(float(right.double().mean()))
    for name, (low, high) in found["intervals"].items():
        assert 0 <= low <= found[name] <= high <= 1
    assert told == sorted(told) and told[-1] == 12
    assert (found["attack"]["images"], found["attack"]["split"]) == (12, "val")


def test_a_measurement_can_be_stopped(explorer, chosen):
    def stop(done: int) -> None:
        raise KeyError(done)

    with pytest.raises(KeyError):
        explorer.measure(chosen, 5, stop)


def test_what_is_kept_is_as_sample_writes_it_and_nothing_is_overwritten(
    explorer, chosen, digits, found, tmp_path
):
    measured = explorer.measure(chosen, 5)
    first, second = explorer.keep(chosen, measured), explorer.keep(chosen)
    assert first.parent == explorer.folder / "explored" and first != second
    before = first.read_bytes()
    (explorer.folder / "explored" / "network-0001.safetensors").unlink()
    assert explorer.keep(chosen) == second and first.read_bytes() == before

    metadata = read_metadata(first)
    draw_samples(explorer.sampler, digits, tmp_path / "s", SampleConfig(count=1))
    sampled = read_metadata(tmp_path / "s" / "sample-0000.safetensors")
    assert set(sampled) - set(metadata) == {"accuracy", "sampling", "seed"}
    assert metadata["z"] == chosen.z.tolist() and metadata["beta"] == pytest.approx(0.3)
    assert metadata["val"] == measured and "val" not in read_metadata(second)
    images, _ = digits.test.first(4)
    assert torch.equal(load_network(first)(images), chosen.population[0](images))
    result = found(first, options=EvaluateConfig(images=4, steps=2, restarts=1))
    assert result["networks"][0]["z"] == chosen.z.tolist()


def test_a_folder_that_cannot_be_written_to_is_told(explorer, chosen, tmp_path):
    other = object.__new__(Explorer)
    other.__dict__.update(explorer.__dict__)
    other.folder = tmp_path / "file"
    other.folder.write_text("")
    with pytest.raises(InputError, match="is not a folder"):
        other.keep(chosen)


def test_a_newer_checkpoint_is_noticed_and_half_written_ones_are_not(ranged_run, digits, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(ranged_run.folder, folder)
    opened = Explorer(folder, digits)
    assert not opened.is_outdated
    (folder / ".checkpoint.safetensors.1.part").write_bytes(b"half")
    assert not opened.is_outdated
    shutil.copy(folder / "checkpoint.safetensors", folder / "new")
    (folder / "new").replace(folder / "checkpoint.safetensors")
    assert opened.is_outdated and not Explorer(folder, digits).is_outdated
    (folder / "checkpoint.safetensors").unlink()
    assert not opened.is_outdated  # there is nothing newer to open
    with pytest.raises(InputError, match="has no checkpoint"):
        Explorer(folder, digits)


def test_errors_are_those_that_the_run_found(ranged_run, tmp_path):
    names = ["accuracy", "robustness", "mine"]
    how, errors = typical_errors(ranged_run.folder, names)
    found = ranged_run.results["value_network"]
    assert errors == {name: found[name]["mean_error"] for name in names[:2]}
    assert "2 samples" in how
    rows = [
        '{"step": 7, "check/accuracy/overestimate": 0.5}',
        '{"step": 9, "check/accuracy/overestimate": -0.25, "check/robustness/overestimate": 0.125}',
        '{"step": 10, "loss": 1.0}',
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    how, errors = typical_errors(tmp_path, names)
    assert errors == {"accuracy": 0.25, "robustness": 0.125} and "step 9" in how
    (tmp_path / "metrics.jsonl").unlink()
    assert typical_errors(tmp_path, names) == ("", {})


def test_members_of_a_value_network_tell_how_they_differ(explorer, few):
    config = TrainConfig.of(target="mlp", beta="0:0.8", value_members=3)
    several = of(config, few.info, explorer)
    chosen = several.choose(torch.zeros(16), torch.tensor(0.2))
    assert (chosen.spread > 0).all()
