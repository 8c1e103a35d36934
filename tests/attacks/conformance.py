"""What any attack must do, whatever it does: models to try it on, and the checks.

Every function in CHECKS takes a function from a Threat to an attack of small budget, and a device.
"""

import copy
import functools
import json
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from attacks import Attack, AttackError, AttackResult, Threat

CLASSES = 5
SEEDS = [5, 6]
"""Of two networks; what attacks them must take these, not their places."""
CPU = torch.device("cpu")
LIMITED = {
    "random-fgsm": ["linf", "l2"],
    "mi-fgsm": ["linf", "l2"],
    "deepfool": ["linf", "l2"],
    "rays": ["linf"],
}
"""The norms that registered attacks know, where these are not all."""
MakeAttack = Callable[[Threat], Attack]


class Loop:
    """P modules as one model, called one after the other."""

    def __init__(self, nets: Sequence[nn.Module]) -> None:
        self.nets = nets

    def __call__(self, images: Tensor) -> Tensor:
        return torch.stack([net(x) for net, x in zip(self.nets, images, strict=True)])


class RowwiseLinear(nn.Linear):
    """A linear layer without matrix products, whose rounding would depend on the batch's size."""

    def forward(self, input: Tensor) -> Tensor:
        return (input[:, None] * self.weight).sum(-1) + self.bias


def network(seed: int, features: int = 36) -> nn.Module:
    """A small random net with logits far enough apart to have something to attack."""
    return copy.deepcopy(_drawn(seed, features))  # 10 times as quick as to draw it again


@functools.cache
def _drawn(seed: int, features: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Flatten(), RowwiseLinear(features, 16), nn.Tanh(), RowwiseLinear(16, CLASSES)
        )
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 4
    return net


def problem(
    networks: int, batch: int, seed: int = 0, device: torch.device = CPU
) -> tuple[Loop, Tensor, Tensor]:
    """A population, images [P,B,1,6,6] with exact 0s and 1s among them, and labels [P,B].

    About one label in five is wrong, and networks differ in how many. In float64 on a GPU, where
    what float32 rounds to depends on the batch's size.
    """
    dtype = torch.float32 if device.type == "cpu" else torch.float64
    generator = torch.Generator().manual_seed(seed)
    model = Loop([network(100 * seed + i).to(device, dtype) for i in range(networks)])
    images = torch.rand(networks, batch, 1, 6, 6, generator=generator)
    images = (1.5 * images - 0.25).clamp(0, 1).to(device, dtype)
    with torch.no_grad():
        labels = model(images).argmax(-1)
    wrong = (torch.rand(networks, batch, generator=generator) < 0.2).to(device)
    return model, images, torch.where(wrong, (labels + 1) % CLASSES, labels)


def assert_same(one: Tensor, other: Tensor) -> None:
    """That points are equal, to the last bit, on a GPU to 1e-6."""
    torch.testing.assert_close(one, other, rtol=0, atol=0 if one.device == CPU else 1e-6)


def threats(make: MakeAttack) -> list[Threat]:
    """The threats at which the attack breaks some images and not others, of norms it knows."""
    known = []
    for threat in (Threat("linf", 0.02), Threat("l2", 0.08), Threat("l1", 0.25)):
        try:
            make(threat)
        except AttackError:
            continue
        known.append(threat)
    assert known
    return known


@functools.cache
def attacked(attack: Attack, device: torch.device) -> tuple[Loop, Tensor, Tensor, AttackResult]:
    """A problem of two networks and what the attack makes of it, once for all checks.

    One of them gets 2 of its 20 images wrong and the other one 6, so that images drop out unevenly.
    """
    model, images, labels = problem(2, 20, seed=2, device=device)
    return model, images, labels, attack(model, images, labels, SEEDS)


def stays_inside_the_threat(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        _, images, labels, result = attacked(make(threat), device)
        assert result.images.shape == images.shape and result.robust_mask.shape == labels.shape
        assert (threat.distance(result.images, images) <= threat.epsilon + 1e-6).all()
        assert result.images.min() >= 0 and result.images.max() <= 1


def visits_only_the_threat(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        model, images, _ = problem(1, 1, device=device)
        points = []

        def recorded(x: Tensor, points: list[Tensor] = points, model: Loop = model) -> Tensor:
            points.append(x.detach().clone())
            assert x.is_contiguous()
            return model(x)

        make(threat)(recorded, images, model(images).argmax(-1), [0])
        visited = torch.cat(points, 1)
        if threat.norm not in make(threat).unconstrained_norms:
            assert (threat.distance(visited, images) <= threat.epsilon + 1e-6).all()
        assert visited.min() >= 0 and visited.max() <= 1


def reports_what_the_model_answers(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        model, images, labels, result = attacked(make(threat), device)
        clean = model(images).argmax(-1) == labels
        assert torch.equal(result.robust_mask, model(result.images).argmax(-1) == labels)
        assert torch.equal(result.images[~clean], images[~clean])
        assert 0 < result.robust_mask.sum() < clean.sum(), "the problem is too easy or too hard"
        assert torch.equal(result.robust_accuracy, result.robust_mask.double().mean(1))
        assert torch.equal(list(result.masks.values())[-1], result.robust_mask)


def packed_equals_alone(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        model, images, labels, packed = attacked(make(threat), device)
        assert packed.robust_mask[0].sum() != packed.robust_mask[1].sum()
        for order in ([1], [1, 0]):
            nets, seeds = [model.nets[i] for i in order], [SEEDS[i] for i in order]
            alone = make(threat)(Loop(nets), images[order], labels[order], seeds)
            assert torch.equal(alone.robust_mask, packed.robust_mask[order])
            assert_same(alone.images, packed.images[order])


def image_fares_alike_in_any_company(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        model, images, labels, together = attacked(make(threat), device)
        # The other images are misclassified from the start, so that this one is alone in the work.
        others = torch.arange(20, device=device) != 3
        wrong = (model(images).argmax(-1) + 1) % CLASSES
        alone = make(threat)(model, images, torch.where(others, wrong, labels), SEEDS)
        assert_same(alone.images[:, 3], together.images[:, 3])
        assert torch.equal(alone.robust_mask[:, 3], together.robust_mask[:, 3])


def no_room_is_clean_accuracy(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        model, images, labels = problem(1, 10, device=device)
        result = make(Threat(threat.norm, 0))(model, images, labels, [0])
        assert torch.equal(result.images, images)
        assert torch.equal(result.robust_mask, model(images).argmax(-1) == labels)


def nothing_to_attack(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        model, images, _ = problem(2, 4, device=device)
        labels = (model(images).argmax(-1) + 1) % CLASSES
        result = make(threat)(model, images, labels, [0, 1])
        assert torch.equal(result.images, images) and not result.robust_mask.any()


def leaves_the_model_and_inputs_alone(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        model, images, labels = problem(1, 10, device=device)
        net = model.nets[0].train()
        before = [parameter.clone() for parameter in net.parameters()]
        given = images.clone()
        result = make(threat)(model, images, labels, [0])
        assert net.training and torch.is_grad_enabled()
        assert torch.equal(images, given) and not images.requires_grad
        assert result.images.data_ptr() != images.data_ptr()
        assert not result.images.requires_grad
        for parameter, was in zip(net.parameters(), before, strict=True):
            assert parameter.grad is None and torch.equal(parameter, was)


def takes_one_label_for_all_networks(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        model, images, labels, each = attacked(make(threat), device)
        shared = make(threat)(model, images, labels[0].to(torch.int32), SEEDS)
        assert_same(shared.images[0], each.images[0])
        right = model(shared.images).argmax(-1) == labels[0]
        assert shared.robust_mask.equal(right) and shared.robust_mask[1].any()


def refuses_what_is_not_finite(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        model, images, labels = problem(2, 6, device=device)
        calls = 0

        def failing(x: Tensor, model: Loop = model) -> Tensor:
            nonlocal calls
            calls += 1
            logits = model(x).clone()
            if calls > 1:
                logits[1, 0, 0] = torch.nan
            return logits

        with pytest.raises(AttackError, match=r"NaN or infinite logits \(networks \[1\]\)"):
            make(threat)(failing, images, labels, [0, 1])


def same_seed_same_result_in_any_global_state(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        model, images, labels, expected = attacked(make(threat), device)
        default, state = torch.get_default_dtype(), torch.random.get_rng_state()
        torch.set_default_dtype(torch.float64 if images.dtype == torch.float32 else torch.float32)
        try:
            with torch.inference_mode():
                found = make(threat)(model, images.clone(), labels.clone(), SEEDS)
        finally:
            torch.set_default_dtype(default)
        assert torch.equal(state, torch.random.get_rng_state()), "the global generator was used"
        assert found.images.dtype == images.dtype
        assert_same(found.images, expected.images)


def describes_itself(make: MakeAttack, device: torch.device) -> None:
    for threat in threats(make):
        attack = make(threat)
        described = attack.describe()
        assert described["name"] == attack.name
        assert described["threat"] == {"norm": threat.norm, "epsilon": threat.epsilon}
        assert json.loads(json.dumps(described)).keys() == described.keys()
        assert hash(attack) == hash(make(threat)) and attack == make(threat)


CHECKS = [
    stays_inside_the_threat,
    visits_only_the_threat,
    reports_what_the_model_answers,
    packed_equals_alone,
    image_fares_alike_in_any_company,
    same_seed_same_result_in_any_global_state,
    no_room_is_clean_accuracy,
    nothing_to_attack,
    leaves_the_model_and_inputs_alone,
    takes_one_label_for_all_networks,
    refuses_what_is_not_finite,
    describes_itself,
]
