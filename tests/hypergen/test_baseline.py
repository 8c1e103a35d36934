import contextlib
import copy
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional as F

import targets
from attacks import PGD, AttackError, RandomFGSM, Threat
from hypergen import baseline, checkpoint, data
from hypergen.baseline import (
    BaselineConfig,
    make_baseline,
    save_baseline,
    train_baseline,
    triangle,
)
from hypergen.cli import main
from hypergen.config import TrainConfig
from hypergen.errors import InputError, RunError
from hypergen.train import Training
from hypergen.weights_file import load_network, read_metadata
from targets.kwta import KWTA

SHORT = BaselineConfig(target="mlp", epochs=2)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("target", ["mlp", "small-lenet5"])
def test_the_fbf_step_is_the_published_one_but_for_its_length(
    target, there, device, dtype, monkeypatch
):
    """The gradient is taken at x + delta as drawn, which may leave [0,1], as in the paper's code;
    projecting before as well would be REFERENCE 1's cure for weak *attacks*."""
    monkeypatch.setattr(baseline, "half_precision", lambda device: contextlib.nullcontext())
    torch.manual_seed(0)
    module = targets.build(target).eval().to(device, dtype)
    with torch.no_grad():
        for weight in module.parameters():
            weight *= 4  # far from linear, or the longest step were always the worst
    images, labels = there.train.first(30)
    images = images.to(dtype)
    eps = 0.2
    attack = BaselineConfig(epsilon=eps, epsilon_factor=1.0).training_attack(1.0)
    made = baseline.perturb(module, images, labels, attack, rng(4))

    seed = int(torch.randint(2**31, (), generator=rng(4)))
    own = torch.Generator(device).manual_seed(seed)
    delta = ((2 * torch.rand(images.shape, generator=own, device=device) - 1) * eps).to(dtype)
    points = (images + delta).requires_grad_()
    assert points.min() < 0  # or the case would prove nothing
    F.cross_entropy(module(points), labels, reduction="sum").backward()
    assert points.grad is not None
    chosen = set()
    for image in range(len(images)):
        ends = [
            (images[image] + (delta[image] + k * eps * points.grad[image].sign()).clamp(-eps, eps))
            .clamp(0, 1)
            .detach()
            for k in (0.5, 1, 2)
        ]
        with torch.no_grad():
            losses = [float(F.cross_entropy(module(x[None]), labels[image, None])) for x in ends]
        worst = max(range(3), key=losses.__getitem__)
        chosen.add(worst)
        torch.testing.assert_close(made[image], ends[worst], rtol=0, atol=1e-6)
    assert len(chosen) > 1 or target == "mlp"  # one length would not have done


@torch.no_grad()
def test_pgd_training_sees_worse_images_than_fbf(digits):
    torch.manual_seed(0)
    module = targets.build("mlp").eval()
    images, labels = digits.train.first(12)

    def loss(method):
        attack = BaselineConfig(method=method, epsilon_factor=1.0).training_attack(1.0)
        made = baseline.perturb(module, images, labels, attack, rng())
        assert (made - images).abs().max() <= 0.1 + 1e-6
        return float(F.cross_entropy(module(made), labels))

    assert float(F.cross_entropy(module(images), labels)) < loss("fbf") < loss("pgd")
    assert BaselineConfig(method="standard").training_attack(1.0) is None


@pytest.mark.parametrize("method", ["fbf", "pgd"])
def test_the_radius_trained_against_grows_until_the_learning_rate_falls(method):
    def radius(progress, **settings):
        config = BaselineConfig(method=method, **settings)
        return config.training_attack(progress).threat.epsilon

    radii = [radius(p, epsilon=0.2, epsilon_factor=1.25) for p in (0.1, 0.2, 0.4, 0.7, 1)]
    assert radii == pytest.approx([0.0625, 0.125, 0.25, 0.25, 0.25])
    assert radius(1, epsilon=0.2) == pytest.approx(0.23)


def test_the_learning_rate_is_a_triangle(few, cpu, monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def recorded(self, closure=None):
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    train_baseline(replace(SHORT, epochs=5), few, cpu, show=False)
    assert len(rates) == 5 * 3  # 300 images in batches of 100
    progress = np.arange(1, 16) / 16
    expected = np.interp(progress, [0, 0.4, 1], [0, 5e-3, 0])
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    assert [triangle(p) for p in (0, 0.2, 0.4, 0.7, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_colour_images_have_the_published_recipe():
    config = BaselineConfig(dataset="cifar10", target="mlp")
    for progress in (0.01, 1):
        attack = config.training_attack(progress)
        assert attack == RandomFGSM(Threat("linf", 8 / 255)) and attack.size == 10 / 255
    assert BaselineConfig("pgd", dataset="svhn").training_attack(1).threat.epsilon == 8 / 255
    assert BaselineConfig(dataset="svhn", epsilon_factor=1.5).radius == 12 / 255
    recipe = config.recipe
    assert (config.length, recipe.batch_size, recipe.learning_rate) == (30, 128, 0.2)
    (group,) = recipe.optimizer_of([torch.zeros(1, requires_grad=True)], 0.2).param_groups
    assert (group["momentum"], group["weight_decay"], group["lr"]) == (0.9, 5e-4, 0.2)
    vgg = replace(config, target="vgg", activation="kaf-swish")
    assert (vgg.rate, replace(vgg, activation="gelu").rate) == (0.8, 0.2)
    assert replace(vgg, activation="kaf-swish-40").rate == 0.8
    assert (replace(vgg, learning_rate=0.1).rate, replace(vgg, dataset="mnist").rate) == (0.1, 5e-3)


def test_the_seed_decides_the_weights_and_nothing_else_is_touched(few, cpu):
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first = weights(train_baseline(SHORT, few, cpu, show=False))
    assert torch.random.get_rng_state().equal(before)
    torch.manual_seed(9)
    assert weights(train_baseline(SHORT, few, cpu, show=False)).equal(first)
    other = weights(train_baseline(replace(SHORT, seed=1), few, cpu, show=False))
    assert not other.equal(first)


@pytest.mark.parametrize("method", ["standard", "fbf"])
def test_what_is_trained_is_that_of_a_plain_loop_bit_for_bit(method, few, cpu):
    """With dropout, which draws from the global state; with no average, what is judged too."""
    config = BaselineConfig(method, target="small-lenet5", epochs=2)
    training = baseline.BaselineTraining(config, few, cpu)
    draws = rng(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        module = targets.build("small-lenet5").train()
        optimizer = torch.optim.Adam(module.parameters())
        for step in range(1, 7):
            if step % 3 == 1:
                order = torch.randperm(300, generator=draws).split(100)
            images, labels = few.train.batch(order[(step - 1) % 3])
            if method == "fbf":
                attack = config.training_attack(step / 6)
                images = baseline.perturb(module, images, labels, attack, draws)
            optimizer.param_groups[0]["lr"] = 5e-3 * triangle(step / 7)
            optimizer.zero_grad()
            F.cross_entropy(module(images), labels).backward()
            optimizer.step()
    training.advance()
    training.advance()
    for network in (training.module, training.averaged.module):
        assert weights(network).equal(weights(module))


def test_the_average_is_judged_kept_and_gone_back_to(few, cpu, monkeypatch):
    seen, worth = [], iter([0.3, 0.9, 0.2])

    def validate(module, config, dataset):
        assert not module.training
        seen.append(weights(module).clone())
        return next(worth)

    monkeypatch.setattr(baseline, "validate", validate)
    training = baseline.BaselineTraining(replace(SHORT, epochs=3, ema_decay=0.9), few, cpu)
    average, count = torch.empty(0), 0

    def follow():
        nonlocal average, count
        current = weights(training.module).double()
        decay = min(0.9, (1 + count) / (10 + count))
        average = decay * average + (1 - decay) * current if count else current
        count += 1

    for epoch in range(2):
        training.advance(follow)
        torch.testing.assert_close(seen[epoch].double(), average, rtol=1e-4, atol=1e-6)
        assert not weights(training.module).equal(seen[epoch])
    training.advance()  # lost .7: both are the best average again
    assert not seen[2].equal(seen[1])
    for network in (training.module, training.averaged.module):
        assert weights(network).equal(seen[1])
    worth = iter([0.3, 0.9, 0.2])
    config = replace(SHORT, epochs=3, ema_decay=0.9)
    kept = train_baseline(config, few, cpu, show=False)
    assert weights(kept).equal(seen[1]) and not kept.training


def test_the_share_falls_over_the_first_half_and_the_last_is_judged(few, cpu, monkeypatch):
    trained, judged = [], []

    def shares(module):
        (found,) = {layer.share for layer in module.modules() if isinstance(layer, KWTA)}
        return found

    def validate(module, config, dataset):
        judged.append(shares(module))
        return -float(len(judged))  # the first epoch is the best, and later ones a collapse

    monkeypatch.setattr(baseline, "validate", validate)
    config = replace(SHORT, activation="kwta-0.1", share_start=0.5, epochs=8)
    training = baseline.BaselineTraining(config, few, cpu)
    for _ in range(8):
        training.advance(lambda: trained.append(shares(training.module)))
    expected = [0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1]
    assert trained == pytest.approx(np.repeat(expected, 3))
    assert judged == [0.1] * 8 and trained[-1] == 0.1
    assert shares(train_baseline(replace(config, epochs=2), few, cpu, show=False)) == 0.1
    assert replace(config, share_start=1.0).share(0) == 1.0


def test_the_epoch_best_in_validation_is_kept(few, cpu, monkeypatch):
    seen, worth = [], iter([0.3, 0.9, 0.2, 0.1])

    def validate(module, config, dataset):
        assert not module.training
        seen.append(weights(module).clone())
        return next(worth)

    monkeypatch.setattr(baseline, "validate", validate)
    module = train_baseline(replace(SHORT, epochs=4), few, cpu, show=False)
    assert len(seen) == 4 and not seen[1].equal(seen[3])
    assert weights(module).equal(seen[1]) and not module.training


def test_after_a_collapse_training_goes_on_from_the_best_epoch(few, cpu, monkeypatch):
    """With a learning rate of zero from then on, the end is where it went back to."""
    seen, worth = [], iter([0.9, 0.1, 0.9])

    def validate(module, config, dataset):
        seen.append(weights(module).clone())
        return next(worth)

    monkeypatch.setattr(baseline, "validate", validate)
    monkeypatch.setattr(baseline, "triangle", lambda progress: float(progress < 0.65))
    train_baseline(replace(SHORT, epochs=3), few, cpu, show=False)
    assert not seen[1].equal(seen[0]) and seen[2].equal(seen[0])


def test_how_weights_lie_in_memory_changes_no_result(few, cpu, tmp_path, monkeypatch):
    """On a GPU they lie channels last."""
    config = replace(SHORT, target="small-lenet5", epochs=1)
    expected = train_baseline(config, few, cpu, show=False)
    monkeypatch.setattr(baseline, "convolution_format", lambda device: torch.channels_last)
    found = train_baseline(config, few, cpu, show=False, saved=tmp_path / "checkpoint.safetensors")
    kernel = next(w for w in found.parameters() if w.ndim == 4 and w.shape[1] > 1)
    assert not kernel.is_contiguous() and kernel.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weights(found), weights(expected), rtol=0, atol=1e-4)
    save_baseline(tmp_path / "network.safetensors", found, config)
    assert torch.equal(weights(load_network(tmp_path / "network.safetensors")), weights(found))


def test_epochs_are_compared_on_validation_images_by_what_is_trained_for(base, digits):
    module, (images, labels) = load_network(base), digits.val.first(500)
    config = BaselineConfig("fbf", target="mlp", epsilon=0.05)
    clean = float((module(images).argmax(1) == labels).float().mean())
    population = targets.Population.of([module])
    robust = PGD(config.threat, steps=10)(population, images[None], labels, [0]).robust_accuracy
    assert float(robust) < clean
    for changes, worth in (
        ({}, float(robust)),
        ({"beta": 0.25}, 0.75 * clean + 0.25 * float(robust)),
        ({"beta": 0.0}, clean),
        ({"method": "standard"}, clean),
    ):
        found = baseline.validate(module, replace(config, **changes), digits)
        assert found == pytest.approx(worth)


@pytest.mark.parametrize("method", ["standard", "pgd"])
def test_training_sees_augmented_images(method, few, cpu, monkeypatch):
    monkeypatch.setattr(data, "crop_and_flip", lambda images, *_: images * 0 + 0.5)
    training = baseline.BaselineTraining(replace(SHORT, method=method), replace(few, crop=2), cpu)
    seen = []
    training.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    training.take_step(*few.train.first(8), training.config.training_attack(1.0), 0.001)
    assert seen and all(((x - 0.5).abs() <= training.config.radius + 1e-6).all() for x in seen)


@pytest.mark.parametrize("method", ["standard", "fbf", "pgd"])
def test_every_method_learns(method, digits, cpu):
    config = BaselineConfig(method=method, target="mlp", epsilon=0.02, epochs=8)
    module = train_baseline(config, digits, cpu, show=False)
    images, labels = digits.test.first(500)
    assert (module(images).argmax(1) == labels).float().mean() > 0.6


@pytest.mark.parametrize(("method", "rate"), [("standard", 1e29), ("fbf", 1e20), ("pgd", 1e20)])
def test_training_that_diverges_is_a_failed_run(method, rate, few, cpu):
    with pytest.raises(RunError, match="diverged"):
        train_baseline(replace(SHORT, method=method, learning_rate=rate), few, cpu, show=False)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_of_a_generator_is_no_direct_training(resume, few, cpu, tmp_path):
    training = Training(TrainConfig(target="mlp", population=2), few, cpu)
    checkpoint.save(tmp_path / "checkpoint.safetensors", training.state_dict())
    with pytest.raises(InputError, match="holds a run, no direct training"):
        make_baseline(SHORT, tmp_path, cpu, None, resume=resume)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": "small-lenet5"},  # it has dropout
        {"ema_decay": 0.9},
        {"activation": "kwta-0.1", "share_start": 0.5, "epochs": 6},  # killed while it falls
    ],
    ids=str,
)
def test_a_training_continued_is_one_never_stopped(options, few, cpu, tmp_path, monkeypatch):
    config = replace(SHORT, **{"epochs": 3} | options)
    whole = weights(train_baseline(config, few, cpu, show=False))
    saved = tmp_path / "checkpoint.safetensors"
    validate, calls = baseline.validate, []

    def killed(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return validate(*args)

    monkeypatch.setattr(baseline, "validate", killed)
    with pytest.raises(KeyboardInterrupt):
        train_baseline(config, few, cpu, show=False, saved=saved)
    torch.manual_seed(77)
    assert weights(train_baseline(config, few, cpu, show=False, saved=saved)).equal(whole)
    assert len(calls) == config.length + 1  # the first two epochs were not trained again


@pytest.fixture
def two_cores():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_several_at_once_are_those_trained_alone(few, cpu, tmp_path, two_cores):
    """With dropout, of which each training has its own; one that was cut short goes on."""
    config = BaselineConfig(target="small-lenet5", epochs=2)
    recipes = {
        tmp_path / f"{n}.safetensors": replace(config, method=method, seed=n)
        for n, method in enumerate(("standard", "fbf", "fbf", "standard"))
    }
    there, begun, *_ = recipes
    there.write_bytes(b"not to be touched")
    torch.set_num_threads(1)  # as each of several has, for sums of another order round otherwise
    training = baseline.BaselineTraining(recipes[begun], few, cpu)
    training.advance()
    saved = begun.with_suffix(".checkpoint.safetensors")
    checkpoint.save(saved, training.state_dict())
    torch.set_num_threads(2)
    baseline.train_baselines(recipes, few, cpu)
    assert there.read_bytes() == b"not to be touched" and not saved.exists()
    torch.set_num_threads(1)
    for path, recipe in list(recipes.items())[1:]:
        alone = train_baseline(recipe, few, cpu, show=False)
        assert weights(load_network(path)).equal(weights(alone))


def test_a_single_one_gets_all_cores(few, cpu, tmp_path, two_cores, monkeypatch):
    threads, whole = [], baseline.validate

    def validate(*args):
        threads.append(torch.get_num_threads())
        return whole(*args)

    monkeypatch.setattr(baseline, "validate", validate)
    for count in (1, 2):
        recipes = {tmp_path / f"{count}-{n}.safetensors": SHORT for n in range(count)}
        baseline.train_baselines(recipes, few, cpu)
    assert threads == [2] * SHORT.length + [1] * 2 * SHORT.length


def test_when_one_of_several_fails_the_others_stop(few, cpu, tmp_path, two_cores):
    config = replace(SHORT, method="standard", learning_rate=1e29)
    recipes = {
        tmp_path / "diverges.safetensors": config,
        tmp_path / "long.safetensors": replace(SHORT, epochs=100_000),
    }
    with pytest.raises(RunError, match="diverged"):
        baseline.train_baselines(recipes, few, cpu)
    assert not any(path.exists() for path in recipes)


def test_alongside_a_body_that_ends_well_both_end(few, cpu, tmp_path, two_cores):
    recipes = {tmp_path / f"{n}.safetensors": replace(SHORT, seed=n) for n in range(2)}
    with baseline.trained_alongside(recipes, few, cpu):
        network = train_baseline(SHORT, few, cpu, show=False)
    assert weights(network).isfinite().all()
    assert all(path.exists() for path in recipes)
    torch.set_num_threads(1)
    for path, recipe in recipes.items():
        alone = train_baseline(recipe, few, cpu, show=False)
        assert weights(load_network(path)).equal(weights(alone))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RunError])
def test_alongside_a_body_that_fails_they_stop(few, cpu, tmp_path, two_cores, error):
    recipes = {
        tmp_path / f"{n}.safetensors": replace(SHORT, epochs=100_000, seed=n) for n in range(2)
    }
    with pytest.raises(error), baseline.trained_alongside(recipes, few, cpu):
        raise error
    assert not any(path.exists() for path in recipes)


def test_alongside_a_body_their_failure_is_told(few, cpu, tmp_path, two_cores):
    config = replace(SHORT, method="standard", learning_rate=1e29)
    recipes = {tmp_path / "diverges.safetensors": config}
    with (
        pytest.raises(RunError, match="diverged"),
        baseline.trained_alongside(recipes, few, cpu),
    ):
        pass


def test_the_command_resumes_its_own_training_alone(few, cpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load", lambda *_: few)
    saved = tmp_path / "checkpoint.safetensors"
    training = baseline.BaselineTraining(SHORT, few, cpu)
    training.advance()
    checkpoint.save(saved, training.state_dict())
    command = ["baseline", "--target", "mlp", "--epochs", "2", "--out", str(tmp_path)]
    for options, said in (
        ([], "holds a training cut short; add --resume"),
        (["--resume", "--seed", "1"], "was started with other settings: seed: 0, not 1"),
    ):
        assert main([*command, *options]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
    assert main([*command, "--resume"]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"network.safetensors"}
    module = train_baseline(SHORT, few, cpu, show=False)
    assert weights(load_network(tmp_path / "network.safetensors")).equal(weights(module))


def test_ctrl_c_says_how_to_go_on(few, cpu, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "load", lambda *_: few)
    advance = baseline.BaselineTraining.advance

    def interrupted(training, *args):
        if training.epoch == after:
            raise KeyboardInterrupt
        advance(training, *args)

    monkeypatch.setattr(baseline.BaselineTraining, "advance", interrupted)
    out = tmp_path / "my training"
    command = ["baseline", "--target", "mlp", "--epochs", "2", "--out", str(out)]
    after = 0
    assert main(command) == 130
    assert capsys.readouterr().err == "hypergen: interrupted\n" and not out.exists()
    after = 1
    assert main(command) == 130
    said = f"; continue by the same command with --resume --out '{out}'\n"
    assert capsys.readouterr().err.endswith(said)
    monkeypatch.setattr(baseline.BaselineTraining, "advance", advance)
    assert main([*command, "--resume"]) == 0


def test_plain_pytorch_opens_the_file(few, cpu, tmp_path):
    config = BaselineConfig(target="small-lenet5", epochs=1, ema_decay=0.5)
    module = train_baseline(config, few, cpu, show=False)
    path = tmp_path / "net.safetensors"
    save_baseline(path, module, config)
    plain = targets.build("small-lenet5")
    plain.load_state_dict(safetensors.torch.load_file(path), strict=True)
    images, _ = few.test.first(50)
    assert plain.eval()(images).equal(module(images))
    assert load_network(path)(images).equal(module(images))
    metadata = read_metadata(path)
    assert (metadata["method"], metadata["epsilon"], metadata["dataset"]) == ("fbf", 0.1, "digits")
    assert metadata["ema_decay"] == 0.5


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "fgsm"},
        {"dataset": "x"},
        {"target": "x"},
        {"epochs": 0},
        {"epsilon_factor": -1},
        {"epsilon_factor": -1, "method": "pgd", "epsilon": 0.0},
        {"method": "standard", "epsilon_factor": 2.0},
        {"method": "standard", "beta": 0.5},
        {"learning_rate": 0.0},
        {"beta": 1.5},
        {"ema_decay": 1.0},
        {"ema_decay": float("nan")},
    ],
)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises((InputError, AttackError)):
        BaselineConfig(**wrong)


def test_only_networks_for_imagenet_start_pretrained(capsys, tmp_path):
    options = ["--pretrained", "--target", "mlp", "--out", str(tmp_path / "out")]
    assert main(["baseline", *options]) == 2
    assert "mlp has no pretrained weights" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["fbf", "pgd"])
def test_without_a_threat_adversarial_training_is_the_ordinary_one(method, few, cpu):
    plain = weights(train_baseline(replace(SHORT, method="standard"), few, cpu, show=False))
    other = replace(SHORT, method=method, epsilon=0.0)
    assert weights(train_baseline(other, few, cpu, show=False)).equal(plain)


def test_beta_weighs_attacked_images_against_clean_ones(few, cpu):
    standard = weights(train_baseline(replace(SHORT, method="standard"), few, cpu, show=False))
    assert weights(train_baseline(replace(SHORT, beta=0.0), few, cpu, show=False)).equal(standard)
    training = baseline.BaselineTraining(replace(SHORT, beta=0.3), few, cpu)
    module = copy.deepcopy(training.module)
    images, labels = few.train.first(50)
    attack = training.config.training_attack(1.0)
    attacked = baseline.perturb(module, images, labels, attack, rng(SHORT.seed))
    loss = training.take_step(images, labels, attack, 1e-3)
    with torch.no_grad():
        parts = [F.cross_entropy(module(part), labels) for part in (attacked, images)]
    assert float(loss) == pytest.approx(float(0.3 * parts[0] + 0.7 * parts[1]))


def test_norms_other_than_linf_need_an_epsilon_and_fbf_has_no_recipe_in_l1():
    with pytest.raises(InputError, match="--norm l2 needs an --epsilon"):
        BaselineConfig(norm="l2")
    with pytest.raises(AttackError, match="random-fgsm knows the norms linf and l2 only"):
        BaselineConfig(norm="l1", epsilon=5)
    attack = BaselineConfig("pgd", norm="l1", epsilon=5, epsilon_factor=1.2).training_attack(1.0)
    assert attack == PGD(Threat("l1", 6), steps=7)
