import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import attacks
from attacks import (
    FGSM,
    PGD,
    UNIVERSAL,
    Threat,
    UniversalDeepFool,
    UniversalGradient,
    perturbed,
)
from hypergen.baseline import BaselineConfig, fresh_target, save_baseline
from hypergen.cli import main
from hypergen.heatmap import heatmap
from hypergen.measure import survivors
from hypergen.transfer import Mixed, TransferConfig, carried_over, fooling_rates
from hypergen.weights_file import load_network
from targets import Population

THREAT = Threat("linf", 0.05)
COUNT = 60
SOURCES = ["pgd", "apgd-ce", "standard", *UNIVERSAL]


def noisy(path, size: float, seed: int = 0) -> nn.Module:
    """A network like that of the file."""
    module, generator = load_network(path), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return module


@pytest.fixture
def pair(base) -> list[nn.Module]:
    return [load_network(base), noisy(base, 0.03)]


@pytest.fixture
def rates(digits, cpu):
    """Accuracy and the matrix, of modules under a source."""

    def measure(modules, source, count=COUNT):
        return fooling_rates(Mixed(modules, cpu), source, digits, count, 0)

    return measure


def made(name: str, threat: Threat = THREAT) -> attacks.Attack | attacks.Universal:
    """A small source."""
    if name == "universal-deepfool":
        return UniversalDeepFool(threat, passes=1)
    if name == "universal-gradient":
        return UniversalGradient(threat, passes=2, batch=10)
    options = {
        "pgd": {"steps": 5, "restarts": 2},
        "apgd-ce": {"steps": 5},
        "standard": {"steps": 2, "queries": 10},
    }
    return attacks.build(name, threat, **options[name])


def fooled_share(module: nn.Module, images, points, labels) -> float:
    with torch.no_grad():
        right = module(images).argmax(1) == labels
        return float((right & (module(points).argmax(1) != labels)).double().mean())


def test_every_pair_of_networks_whatever_their_architecture(pair, rates, digits):
    """FGSM in a line of plain PyTorch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lenet = fresh_target("small-lenet5", "relu", "digits").eval()
    modules = [pair[0], lenet, pair[1]]
    images, labels = digits.test.first(300)  # more than one batch
    accuracy, matrix = rates(modules, FGSM(THREAT), 300)
    for i, one in enumerate(modules):
        x = images.clone().requires_grad_()
        F.cross_entropy(one(x), labels, reduction="sum").backward()
        points = (images + THREAT.epsilon * x.grad.sign()).clamp(0, 1)
        expected = [fooled_share(other, images, points, labels) for other in modules]
        assert matrix[i].tolist() == pytest.approx(expected, abs=1.01 / 300)
        right = (one(images).argmax(1) == labels).double().mean()
        assert float(accuracy[i]) == pytest.approx(float(right))
    assert matrix[0, 0] > matrix[1, 0] + 0.1, "the problem no longer tells anything"


def test_against_itself_is_the_ordinary_evaluation(pair, rates, digits):
    attack = made("pgd")
    accuracy, matrix = rates(pair, attack)
    left = survivors(Population.of(pair), *digits.test.first(COUNT), attack, 0)
    assert torch.allclose(accuracy, left["clean"].double().mean(1))
    robust = left[attack.name].double().mean(1)
    assert torch.allclose(matrix.diagonal(), accuracy - robust)
    assert (matrix.diagonal() > 0.1).all() and (robust > 0).any()


@pytest.mark.parametrize("name", SOURCES)
def test_equal_networks_are_fooled_alike(name, base, rates):
    modules = [load_network(base) for _ in range(3)]
    _, matrix = rates(modules, made(name, Threat("linf", 0.2)))
    assert (matrix == matrix[0, 0]).all() and matrix[0, 0] > 0


def test_what_carries_over_is_relative_to_what_was_done():
    matrix = torch.tensor([[0.8, 0.4, 0.2], [0.1, 0.1, 0.0], [0.0, 0.0, 0.0]], dtype=torch.double)
    # A half and a quarter of the first's, all and none of the second's; the third fools no one.
    assert carried_over(matrix) == pytest.approx((0.5 + 0.25 + 1 + 0 + 0 + 0) / 6)
    assert carried_over(torch.full((4, 4), 0.3, dtype=torch.double)) == pytest.approx(1)


@pytest.mark.parametrize("name", SOURCES)
def test_without_room_nothing_is_fooled(name, pair, rates):
    assert not rates(pair, made(name, Threat("linf", 0.0)))[1].any()


@pytest.mark.parametrize("name", SOURCES)
def test_a_pair_fares_alike_in_any_company(name, pair, base, rates):
    _, matrix = rates(pair, made(name))
    _, larger = rates([noisy(base, 0.05, 1), *pair], made(name))
    assert torch.equal(larger[1:, 1:], matrix)


@pytest.mark.parametrize("name", UNIVERSAL)
def test_a_universal_perturbation_comes_from_training_images(name, pair, rates, digits):
    source = made(name)
    _, matrix = rates(pair, source)
    images, labels = digits.test.first(COUNT)
    seen, truth = digits.train.first(COUNT)
    for i, one in enumerate(pair):
        perturbation = source.fit(Population.of([one]), seen[None], truth, [0])
        points = perturbed(images[None], perturbation)[0]
        expected = [fooled_share(other, images, points, labels) for other in pair]
        assert matrix[i].tolist() == pytest.approx(expected)


def test_what_only_just_fools_one_network_is_not_what_is_tried_on_others(base, rates, digits):
    modules = [load_network(base), noisy(base, 0.05)]
    attack = PGD(THREAT, steps=10)
    _, matrix = rates(modules, attack)
    images, labels = digits.test.first(COUNT)
    just = attack(Population.of(modules[:1]), images[None], labels, [0]).images[0]
    assert matrix[0, 1] > fooled_share(modules[1], images, just, labels)


def saved(path, seed: int, target: str = "mlp"):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = fresh_target(target, "relu", "digits")
    save_baseline(path, module, BaselineConfig(target=target, epsilon=0.1, seed=seed))
    return path


@pytest.mark.parametrize("name", ["pgd", *UNIVERSAL])
def test_the_command(name, base, tmp_path, capsys):
    other = saved(tmp_path / "other.safetensors", 1, "small-lenet5")
    figures, picture = tmp_path / "figures.json", tmp_path / "picture.png"
    sizes = f"--images 20 --attack {name}".split()
    sizes += ["--steps", "2", "--restarts", "1"] if name == "pgd" else []
    command = ["transfer", str(base), str(other), *sizes]
    assert main([*command, "--json", str(figures), "--picture", str(picture)]) == 0
    result = json.loads(figures.read_text())
    matrix = torch.tensor(result["fooling"], dtype=torch.double)
    assert matrix.shape == (2, 2) and ((matrix >= 0) & (matrix <= 1)).all()
    assert result["white_box"] == pytest.approx(float(matrix.diagonal().mean()))
    assert result["transfer"] == pytest.approx(float(matrix[0, 1] + matrix[1, 0]) / 2)
    assert result["carried_over"] == pytest.approx(carried_over(matrix))
    assert result["attack"]["images"] == 20 and result["attack"]["threat"]["epsilon"] == 0.1
    assert result["attack"].get("fitted") == (20 if name in UNIVERSAL else None)
    assert [row["file"] for row in result["networks"]] == [str(base), str(other)]
    assert picture.read_bytes().startswith(b"\x89PNG")
    head, own, _, mean, *_ = capsys.readouterr().out.splitlines()
    assert head.split()[0] == "network" and mean.startswith("mean")
    cells = [float(cell) for cell in own.split()[-4:]]
    row = [result["networks"][0]["accuracy"], matrix[0, 0], matrix[0, 1], matrix[1, 0]]
    assert cells == pytest.approx([100 * float(share) for share in row], abs=0.01)
    assert {p.name for p in tmp_path.iterdir()} == {other.name, figures.name, picture.name}


def test_nothing_is_written_when_the_attack_cannot_run(base, tmp_path, capsys):
    loud = tmp_path / "loud.safetensors"
    module = load_network(base)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter *= 1e30
    save_baseline(loud, module, BaselineConfig(target="mlp", epsilon=0.1))
    options = ["--images", "5", "--steps", "1", "--json", str(tmp_path / "x.json")]
    assert main(["transfer", str(loud), str(base), *options]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "NaN or infinite logits" in said
    assert list(tmp_path.iterdir()) == [loud]


def test_options_of_pgd_are_refused_beside_another_attack(base, capsys):
    for option in ("steps", "restarts"):
        command = ["transfer", str(base), "--attack", "universal-deepfool", f"--{option}", "3"]
        assert main(command) == 2
        said = f"hypergen: --{option} is of pgd, which universal-deepfool does without\n"
        assert capsys.readouterr().err == said


def test_names_of_attacks():
    for name in ("pgd", "universal-deepfool", "torchattacks:BIM"):
        assert TransferConfig(attack=name).source(THREAT).name.startswith(name)
    pgd = TransferConfig(steps=7, restarts=2, step_size=0.01).source(THREAT)
    assert pgd == PGD(THREAT, 7, 0.01, 2)


@pytest.mark.parametrize(("count", "written"), [(12, 144), (13, 0)])
def test_the_picture_has_numbers_where_they_can_be_read(count, written):
    rates = torch.linspace(0, 0.8, count**2, dtype=torch.double).view(count, count)
    axes, bar = heatmap(rates, "title").axes
    assert len(axes.texts) == written and axes.get_title() == "title"
    assert torch.equal(torch.tensor(axes.images[0].get_array().data), 100 * rates)
    assert axes.get_ylabel() == "made against network" and "fooling rate" in bar.get_ylabel()
    lowest, highest = axes.images[0].get_clim()
    assert (lowest, highest) == (0, pytest.approx(100 * float(rates.max())))
    if written:
        text = axes.texts[count + 2]  # second row, third column
        assert text.get_position() == (2, 1) and text.get_text() == f"{100 * rates[1, 2]:.0f}"
