import contextlib
import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import targets
from attacks import PGD
from hypergen.data import Dataset, dataset
from hypergen.errors import RunError
from hypergen.experiments.baseline import save_baseline
from hypergen.runtime import precision
from hypergen.storage import checkpoint
from hypergen.storage.weights import load_network
from hypergen.training import direct
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig, DirectPlan
from hypergen.training.recipes import triangle

SHORT = BaselineConfig(target="mlp", epochs=2)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def planned(dataset: Dataset, **settings) -> DirectPlan:
    return DirectPlan.of(BaselineConfig.of(**settings), dataset.info, len(dataset.train))


def trained(
    config: BaselineConfig,
    dataset: Dataset,
    device: torch.device,
    save: Callable[[dict], object] = lambda state: None,
) -> nn.Module:
    return train_direct(DirectTrainer(config, dataset, device), save=save)


@pytest.mark.parametrize("target", ["mlp", "fbf-cnn"])
def test_the_fbf_step_is_the_published_one_but_for_its_length(
    target, digits_on_device, device, dtype
):
    """The gradient is taken at x + delta as drawn, which may leave [0,1], as in the paper's code;
    projecting before as well would be REFERENCE 1's cure for weak *attacks*."""
    torch.manual_seed(0)
    module = targets.build(target, input_shape=digits_on_device.input_shape)
    module = module.eval().to(device, dtype)
    with torch.no_grad():
        for weight in module.parameters():
            weight *= 4  # far from linear, or the longest step were always the worst
    images, labels = digits_on_device.train.first(30)
    images = images.to(dtype)
    eps = 0.2
    plan = planned(digits_on_device, epsilon=eps, epsilon_factor=1.0)
    attack = plan.training_attack(1.0)
    made = direct.perturb(module, images, labels, attack, rng(4), contextlib.nullcontext())

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
    module = targets.build("mlp", input_shape=digits.input_shape).eval()
    images, labels = digits.train.first(12)

    def loss(method):
        attack = planned(digits, method=method, epsilon_factor=1.0).training_attack(1.0)
        made = direct.perturb(module, images, labels, attack, rng(), contextlib.nullcontext())
        assert (made - images).abs().max() <= 0.1 + 1e-6
        return float(F.cross_entropy(module(made), labels))

    assert float(F.cross_entropy(module(images), labels)) < loss("fbf") < loss("pgd")
    assert planned(digits, method="standard").training_attack(1.0) is None


def test_the_learning_rate_is_a_triangle(few, cpu, monkeypatch):
    rates = []
    step = torch.optim.Adam.step

    def recorded(self, closure=None):
        rates.append(self.param_groups[0]["lr"])
        return step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", recorded)
    trained(SHORT.replace(epochs=5), few, cpu)
    assert len(rates) == 5 * 3  # 300 images in batches of 100
    progress = np.arange(1, 16) / 16
    expected = np.interp(progress, [0, 0.4, 1], [0, 5e-3, 0])
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    assert [triangle(p) for p in (0, 0.2, 0.4, 0.7, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])


def test_the_seed_decides_the_weights_and_nothing_else_is_touched(few, cpu):
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    first = weights(trained(SHORT, few, cpu))
    assert torch.random.get_rng_state().equal(before)
    torch.manual_seed(9)
    assert weights(trained(SHORT, few, cpu)).equal(first)
    other = weights(trained(SHORT.replace(seed=1), few, cpu))
    assert not other.equal(first)


@pytest.mark.parametrize("method", ["standard", "fbf"])
def test_what_is_trained_is_that_of_a_plain_loop_bit_for_bit(method, few_large, cpu):
    """With dropout, which draws from the global state; with no average, what is judged too."""
    config = BaselineConfig(method=method, target="small-lenet5", epochs=2)
    trainer = DirectTrainer(config, few_large, cpu)
    draws = rng(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        module = targets.build("small-lenet5").train()
        optimizer = torch.optim.Adam(module.parameters())
        for step in range(1, 7):
            if step % 3 == 1:
                order = torch.randperm(300, generator=draws).split(100)
            images, labels = few_large.train.batch(order[(step - 1) % 3])
            if method == "fbf":
                attack = trainer.plan.training_attack(step / 6)
                fast = targets.fast_context(module, images)
                images = direct.perturb(module, images, labels, attack, draws, fast)
            optimizer.param_groups[0]["lr"] = 5e-3 * triangle(step / 7)
            optimizer.zero_grad()
            F.cross_entropy(module(images), labels).backward()
            optimizer.step()
    trainer.advance()
    trainer.advance()
    for network in (trainer.module, trainer.ema.module):
        assert weights(network).equal(weights(module))


def test_how_weights_lie_in_memory_changes_no_result(few, cpu, tmp_path, monkeypatch):
    """On a GPU they lie channels last."""
    config = SHORT.replace(target="fbf-cnn", epochs=1)
    expected = trained(config, few, cpu)
    monkeypatch.setattr(direct, "convolution_format", lambda device: torch.channels_last)
    path = tmp_path / "checkpoint.safetensors"
    found = trained(config, few, cpu, partial(checkpoint.save, path))
    DirectTrainer(config, few, cpu).load_state_dict(checkpoint.load(path))
    kernel = next(w for w in found.parameters() if w.ndim == 4 and w.shape[1] > 1)
    assert not kernel.is_contiguous() and kernel.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(weights(found), weights(expected), rtol=0, atol=1e-4)
    save_baseline(tmp_path / "network.safetensors", found, config, few)
    assert torch.equal(weights(load_network(tmp_path / "network.safetensors")), weights(found))


@pytest.mark.parametrize("method", ["standard", "pgd"])
def test_training_sees_augmented_images(method, few, cpu, monkeypatch):
    monkeypatch.setattr(dataset, "crop_and_flip", lambda images, *_: images * 0 + 0.5)
    cropped = replace(few, info=replace(few.info, crop=2))
    trainer = DirectTrainer(SHORT.replace(method=method), cropped, cpu)
    fed = []

    def note(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if not inputs[0].is_meta:  # on which it is looked at how the module computes
            fed.append(inputs[0].detach())

    trainer.module.register_forward_pre_hook(note)
    trainer.take_step(*few.train.first(8), trainer.plan.training_attack(1.0), 0.001)
    assert fed and all(((x - 0.5).abs() <= trainer.plan.radius + 1e-6).all() for x in fed)


@pytest.mark.parametrize(
    "method", ["standard", "fbf", "n-fgsm", "pgd", "trades", "ibp", "avg", "msd"]
)
def test_every_method_learns(method, digits, cpu):
    threat = {"norms": "linf=0.02,l2=0.2"} if method in ("avg", "msd") else {"epsilon": 0.02}
    config = BaselineConfig(method=method, target="mlp", **threat, epochs=4, learning_rate=5e-3)
    module = trained(config, digits, cpu)
    images, labels = digits.test.first(500)
    assert (module(images).argmax(1) == labels).float().mean() > 0.6


@pytest.mark.parametrize(("method", "rate"), [("standard", 1e29), ("fbf", 1e20), ("pgd", 1e20)])
def test_training_that_diverges_is_a_failed_run(method, rate, few, cpu):
    with pytest.raises(RunError, match="diverged"):
        trained(SHORT.replace(method=method, learning_rate=rate), few, cpu)


@pytest.mark.parametrize("method", ["fbf", "n-fgsm", "pgd", "trades"])
def test_without_a_threat_adversarial_training_is_the_ordinary_one(method, few, cpu):
    plain = weights(trained(SHORT.replace(method="standard"), few, cpu))
    other = SHORT.replace(method=method, epsilon=0.0)
    assert weights(trained(other, few, cpu)).equal(plain)


def test_beta_weighs_attacked_images_against_clean_ones(few, cpu):
    standard = weights(trained(SHORT.replace(method="standard"), few, cpu))
    assert weights(trained(SHORT.replace(beta=0.0), few, cpu)).equal(standard)
    trainer = DirectTrainer(SHORT.replace(beta=0.3), few, cpu)
    module = copy.deepcopy(trainer.module)
    images, labels = few.train.first(50)
    attack = trainer.plan.training_attack(1.0)
    fast = contextlib.nullcontext()
    attacked = direct.perturb(module, images, labels, attack, rng(SHORT.seed), fast)
    loss = trainer.take_step(images, labels, attack, 1e-3)
    with torch.no_grad():
        parts = [F.cross_entropy(module(part), labels) for part in (attacked, images)]
    assert float(loss) == pytest.approx(float(0.3 * parts[0] + 0.7 * parts[1]))


def test_trades_descends_the_clean_loss_and_how_far_answers_move(few, cpu):
    """As in the authors' trades.py, with smoothed labels besides."""
    settings = {"method": "trades", "trades_weight": 3.0, "label_smoothing": 0.1}
    trainer = DirectTrainer(SHORT.replace(**settings), few, cpu)
    module = copy.deepcopy(trainer.module)
    images, labels = few.train.first(50)
    attack = trainer.plan.training_attack(1.0)
    attacked = direct.perturb(module, images, labels, attack, rng(), contextlib.nullcontext())
    clean, other = module(images), module(attacked)
    natural = nn.CrossEntropyLoss(label_smoothing=0.1)(clean, labels)
    robust = nn.KLDivLoss(reduction="sum")(other.log_softmax(1), clean.softmax(1)) / 50
    expected = torch.autograd.grad(natural + 3 * robust, list(module.parameters()))
    loss = trainer.take_step(images, labels, attack, 1e-3)
    assert float(loss) == pytest.approx((natural + 3 * robust).item(), rel=1e-5)
    for weight, gradient in zip(trainer.module.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


def test_awp_descends_the_gradient_at_weights_moved_up_the_loss(few, cpu):
    trainer = DirectTrainer(SHORT.replace(awp=0.02), few, cpu)
    module = copy.deepcopy(trainer.module)
    images, labels = few.train.first(50)
    attack = trainer.plan.training_attack(1.0)
    attacked = direct.perturb(module, images, labels, attack, rng(), contextlib.nullcontext())
    parameters = list(module.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(module(attacked), labels), parameters)
    with torch.no_grad():
        for weight, gradient in zip(parameters, gradients, strict=True):
            if weight.ndim > 1:
                weight += 0.02 * weight.norm() * gradient / gradient.norm()
    moved = F.cross_entropy(module(attacked), labels)
    loss = trainer.take_step(images, labels, attack, 0.0)
    assert float(loss) < moved.item()  # the loss that is told is that of the weights themselves
    for mine, gradient in zip(
        trainer.module.parameters(), torch.autograd.grad(moved, parameters), strict=True
    ):
        torch.testing.assert_close(mine.grad, gradient)
    fresh = DirectTrainer(SHORT, few, cpu).module  # a step of length 0 has left all as it was
    assert weights(trainer.module).equal(weights(fresh))


def test_avg_descends_the_mean_loss_over_the_norms(few, cpu):
    norms = {"norms": "linf=0.05,l2=0.5,l1=2", "beta": 0.6}
    trainer = DirectTrainer(SHORT.replace(method="avg", **norms), few, cpu)
    module = copy.deepcopy(trainer.module)
    images, labels = few.train.first(50)
    attack, fast, draws = trainer.plan.training_attack(1.0), contextlib.nullcontext(), rng()
    attacked = [direct.perturb(module, images, labels, each, draws, fast) for each in attack]
    loss = F.cross_entropy(module(images), labels) * 0.4
    for each in attacked:
        loss = loss + 0.2 * F.cross_entropy(module(each), labels)
    expected = torch.autograd.grad(loss, list(module.parameters()))
    assert float(trainer.take_step(images, labels, attack, 1e-3)) == pytest.approx(loss.item())
    for weight, gradient in zip(trainer.module.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.grad, gradient)


@torch.no_grad()
def test_msd_sees_images_as_bad_as_the_worst_norm(few, cpu):
    norms = {"norms": "linf=0.05,l2=0.5,l1=2"}
    trainer = DirectTrainer(SHORT.replace(method="msd", **norms), few, cpu)
    module, plan = trainer.module.eval(), trainer.plan
    images, labels = few.train.first(50)
    made = direct.perturb(
        module, images, labels, plan.training_attack(1.0), rng(), contextlib.nullcontext()
    )
    threats = plan.training_attack(1.0).threats
    inside = torch.stack([threat.contains(made[None], images[None]) for threat in threats])
    assert inside.any(0).all()
    for threat in threats:
        alone = PGD(threat, 7, random_start=False)
        own = direct.perturb(module, images, labels, alone, rng(), contextlib.nullcontext())
        assert F.cross_entropy(module(made), labels) > 0.95 * F.cross_entropy(module(own), labels)


def test_steps_are_taken_with_all_bits_of_float32(few, cpu):
    trainer, matmul, used = DirectTrainer(SHORT, few, cpu), torch.backends.cuda.matmul, []
    trainer.module.register_forward_pre_hook(lambda *_: used.append(matmul.fp32_precision))
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    try:
        trainer.take_step(*few.train.first(8), trainer.plan.training_attack(1.0), 0.001)
        assert used and set(used) == {"ieee"} and matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


@pytest.mark.parametrize("method", ["standard", "fbf", "trades"])
def test_bf16_steps_the_weights_and_nothing_else(method, few_large, cpu, monkeypatch):
    """Its gradient is nearly that of float32, its weights stay in it, and so does validation."""
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    gradients, losses = {}, {}
    images, labels = few_large.train.first(32)
    for name in ("float32", "bf16"):
        config = SHORT.replace(method=method, target="fbf-cnn", precision=name)
        trainer = DirectTrainer(config, few_large, cpu)
        losses[name] = trainer.take_step(images, labels, trainer.plan.training_attack(1.0), 1e-3)
        gradients[name] = torch.cat([p.grad.flatten() for p in trainer.module.parameters()])
    assert weights(trainer.module).dtype == gradients["bf16"].dtype == torch.float32
    assert not gradients["bf16"].equal(gradients["float32"])
    torch.testing.assert_close(losses["bf16"], losses["float32"], rtol=0.01, atol=0)
    assert F.cosine_similarity(gradients["bf16"], gradients["float32"], dim=0) > 0.95
    kinds = []
    trainer.module.register_forward_pre_hook(
        lambda *_: kinds.append(torch.is_autocast_enabled("cpu"))
    )
    direct.validate(trainer.module, config, few_large)
    assert kinds and not any(kinds)
