"""Attacks that look for the nearest adversarial example, where that one is known."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torchattacks
from scipy.optimize import linprog, minimize, root_scalar
from torch import Tensor, nn

from attacks import (
    LBFGS,
    Attack,
    AttackError,
    CarliniWagner,
    DeepFool,
    Model,
    TargetedFAB,
    Threat,
    build,
)
from attacks.fab import to_hyperplane
from attacks.lbfgs import minimise as projected_lbfgs
from attacks.losses import margin
from tests.attacks.conformance import Loop, problem
from tests.attacks.test_linear import DUAL, grey_images, linear

CLASSES = 6
FEATURES = 25
ORDER = {"linf": np.inf, "l2": 2, "l1": 1}
BOTH = pytest.mark.parametrize("norm", ["linf", "l2"])
ALL = pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
BOX = {"linf": Threat("linf", 1.0), "l2": Threat("l2", 100.0), "l1": Threat("l1", 100.0)}
"""Threats that hold every image there is: what an attack finds, it may keep."""


def affine(images: Tensor, seed: int = 0) -> tuple[Loop, Tensor, Tensor, Tensor]:
    """A classifier of many classes with its weight, bias, and what it says of the images."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(CLASSES, FEATURES, generator=generator)
    # So that the likeliest wrong class is often not the nearest.
    weight *= torch.linspace(0.3, 3, CLASSES)[:, None]
    bias = -weight.sum(1) / 2
    model = Loop([linear(weight, bias)])
    return model, weight, bias, model(images).detach().argmax(-1)


def closed_form(weight: Tensor, bias: Tensor, images: Tensor, labels: Tensor, norm: str) -> Tensor:
    """How far each image is from the nearest other class, [P,B], if [0, 1] does not bind."""
    logits = images.flatten(2) @ weight.T + bias
    gaps = logits.gather(-1, labels[..., None]) - logits
    distances = gaps / (weight[:, None] - weight).norm(p=DUAL[norm], dim=-1)[labels]
    return distances.scatter(-1, labels[..., None], torch.inf).amin(-1)


def way_within_the_box(norm: str, point: Tensor, normal: Tensor, gap: float) -> np.ndarray | None:
    """The shortest way from the point to where gap + normal * way = 0 in [0, 1], by scipy."""
    x, w = (values.double().flatten().numpy() for values in (point, normal))
    size = len(x)
    # The way, then its lengths, one for all pixels or in l1 one for each: way <= length and
    # -way <= length for every pixel.
    lengths = np.eye(size) if norm == "l1" else np.ones((size, 1))
    count = lengths.shape[1]
    linear = linprog(
        c=np.append(np.zeros(size), np.ones(count)),
        A_ub=np.block([[np.eye(size), -lengths], [-np.eye(size), -lengths]]),
        b_ub=np.zeros(2 * size),
        A_eq=np.append(w, np.zeros(count))[None],
        b_eq=[-gap],
        bounds=[*zip(-x, 1 - x, strict=True), *[(0, None)] * count],
    )
    if linear.status == 2:  # nowhere in the box
        return None
    if norm != "l2":
        return linear.x[:size]
    return minimize(
        lambda way: way @ way,
        linear.x[:size],
        jac=lambda way: 2 * way,
        bounds=[*zip(-x, 1 - x, strict=True)],
        constraints={"type": "eq", "fun": lambda way: w @ way + gap, "jac": lambda way: w},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    ).x


def boxed(batch: int, generator: torch.Generator) -> Tensor:
    """Images of which a third of the pixels are 0 or 1, [1,B,1,5,5]."""
    return (1.5 * torch.rand(1, batch, 1, 5, 5, generator=generator) - 0.25).clamp(0, 1)


def exact_within_the_box(
    weight: Tensor, bias: Tensor, images: Tensor, labels: Tensor, norm: str
) -> Tensor:
    """How far each image is from the nearest other class, [1,B], by scipy."""
    nearest = []
    for image, label in zip(images[0], labels[0], strict=True):
        logits = weight @ image.flatten() + bias
        ways = [
            way_within_the_box(norm, image, weight[k] - weight[label], float(z - logits[label]))
            for k, z in enumerate(logits)
            if k != label
        ]
        nearest.append(min(np.linalg.norm(way, ORDER[norm]) for way in ways if way is not None))
    return torch.tensor(np.array(nearest), dtype=torch.float32)[None]


def found_at(attack: Attack, norm: str, model: Model, images: Tensor, labels: Tensor) -> Tensor:
    """How far the examples are that the attack finds, one for every image, [P,B]."""
    result = attack(model, images, labels, [0])
    assert not result.correct.any()
    return Threat(norm, 0.0).distance(result.images, images)


@BOTH
def test_deepfool_steps_just_over_the_nearest_boundary(norm):
    images = grey_images(1, 100, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    exact = closed_form(weight, bias, images, labels, norm)
    for overshoot in (0.02, 0.3):
        distance = found_at(DeepFool(BOX[norm], overshoot=overshoot), norm, model, images, labels)
        assert torch.allclose(distance, (1 + overshoot) * exact, rtol=1e-3)
    # Not simply the boundary to the likeliest wrong class, which is all that two candidates see.
    distance = found_at(DeepFool(BOX[norm], candidates=2), norm, model, images, labels)
    assert (distance > 1.05 * exact).float().mean() > 0.1


@BOTH
def test_deepfool_counts_what_is_within_epsilon(norm):
    images = grey_images(1, 100, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    exact = closed_form(weight, bias, images, labels, norm)
    epsilon = float(exact.median())
    found = DeepFool(Threat(norm, 1.02 * epsilon * (1 + 1e-4)))(model, images, labels, [0])
    assert torch.equal(~found.correct, exact <= epsilon)
    assert torch.equal(found.images[found.correct], images[found.correct])


def test_deepfool_finds_the_examples_of_torchattacks(digits):
    net, images, labels = digits
    images, labels = images[:40], net(images[:40]).argmax(-1)
    theirs = torchattacks.DeepFool(net, steps=20)(images, labels)
    crossed = net(theirs).argmax(-1) != labels
    # Theirs, held up by pixels at 0 or 1, often only tends to the boundary.
    assert 0.3 < crossed.float().mean() < 0.9
    attack = DeepFool(BOX["l2"], steps=20)
    ours = found_at(attack, "l2", lambda x: net(x[0])[None], images[None], labels[None])[0]
    ratio = ours / (theirs - images).flatten(1).norm(dim=1)
    assert ratio[crossed].min() > 0.999 and ratio[crossed].max() < 1.02 * 1.001


def test_deepfool_lets_go_of_images_whose_class_has_changed():
    model, images, labels = problem(1, 30)
    sizes = []

    def counted(x: Tensor) -> Tensor:
        sizes.append(x.shape[1])
        return model(x)

    DeepFool(Threat("l2", 1e-4))(counted, images, labels, [0])
    # Clean, then a step's gradients, of four classes in one pass, its judgement, and a last check.
    gradients, judged = sizes[1:-1:2], sizes[2:-1:2]
    assert gradients == judged
    assert judged == sorted(judged, reverse=True) and judged[-1] < judged[0] and len(judged) < 20


@BOTH
def test_deepfool_looks_past_classes_whose_lead_is_flat(norm):
    images = grey_images(1, 20, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    twins = Loop([linear(weight[[0, 0, 1, 2]], bias[[0, 0, 1, 2]] + torch.tensor([9, 9, 0, 0]))])
    distance = found_at(DeepFool(BOX[norm], steps=2), norm, twins, images, 0 * labels)
    assert (distance > 0.1).all()
    flat = Loop([linear(0 * weight, bias)])
    result = DeepFool(BOX[norm], steps=2)(flat, images, 0 * labels + bias.argmax(), [0])
    assert result.correct.all() and torch.equal(result.images, images)


def nearest_visited(
    make: Callable[[Threat], Attack], norm: str, model: Model, images: Tensor, labels: Tensor
) -> Tensor:
    """How far the nearest example is that the attack comes upon, where it never stops, [P,B]."""
    nearest = torch.full(labels.shape, torch.inf)

    def watched(x: Tensor) -> Tensor:
        logits = model(x)
        distance = Threat(norm, 0.0).distance(x.detach(), images)
        nearest[:] = nearest.where(logits.argmax(-1) == labels, nearest.minimum(distance))
        return logits

    make(Threat(norm, 0.0))(watched, images, labels, [0])
    return nearest


@ALL
def test_fab_follows_the_boundary_to_the_nearest_point(norm):
    images = grey_images(1, 50, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    exact = closed_form(weight, bias, images, labels, norm)
    nearest = nearest_visited(partial(TargetedFAB, steps=5), norm, model, images, labels)
    # It goes 5 % too far, then back, then too far by 5 % of a tenth.
    assert (nearest > exact * 0.999).all() and (nearest < exact * 1.007).all()
    # Class after class: the likeliest alone will not do.
    likeliest = partial(TargetedFAB, steps=5, targets=1)
    nearest = nearest_visited(likeliest, norm, model, images, labels)
    assert (nearest > 1.05 * exact).float().mean() > 0.1


@ALL
def test_fab_follows_the_boundary_within_the_box(norm):
    images = boxed(15, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    exact = exact_within_the_box(weight, bias, images, labels, norm)
    free = closed_form(weight, bias, images, labels, norm)
    assert (exact > 1.01 * free).float().mean() > 0.3, "the box hardly binds"
    nearest = nearest_visited(partial(TargetedFAB, steps=20), norm, model, images, labels)
    assert (nearest > exact * 0.999).all() and (nearest < exact * 1.01).all()


@ALL
def test_fab_stops_at_an_example_within_epsilon(norm):
    images = grey_images(1, 100, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    exact = closed_form(weight, bias, images, labels, norm)
    epsilon = float(exact.median())
    sizes = []

    def counted(x: Tensor) -> Tensor:
        sizes.append(x.shape[1])
        return model(x)

    found = TargetedFAB(Threat(norm, epsilon), steps=5)(counted, images, labels, [0])
    assert (found.correct | (exact <= epsilon)).all()
    assert (~found.correct | (exact > epsilon / 1.007)).all()
    # Half of the images go, and are not in the work of the last target.
    assert sizes[1] == 100 and sizes[-2] == found.correct.sum() < 60


@BOTH
def test_fab_comes_as_near_as_that_of_torchattacks(digits, norm):
    net, images, labels = digits
    images, labels = images[:50], net(images[:50]).argmax(-1)
    theirs = torchattacks.FAB(net, norm.capitalize(), steps=10, multi_targeted=True)
    theirs.target_class = 2  # the second likeliest class
    examples = theirs.attack_single_run_targeted(images, labels)
    expected = Threat(norm, 0.0).distance(examples[None], images[None])
    nearest = nearest_visited(
        partial(TargetedFAB, steps=10, targets=1),
        norm,
        lambda x: net(x[0])[None],
        images[None],
        labels[None],
    )
    assert torch.allclose(nearest, expected, rtol=1e-3, atol=1e-5)


def test_fab_follows_a_boundary_that_curves():
    images = grey_images(1, 50, torch.Generator().manual_seed(1))
    squeeze, level = torch.linspace(1, 4, FEATURES), 0.5

    def ellipsoid(x: Tensor) -> Tensor:
        inside = level - (squeeze * (x.flatten(2) - 0.5).square()).sum(-1)
        return torch.stack([inside, 0 * inside], -1)

    def distance(image: Tensor) -> float:
        # By Lagrange, the way is longer by 1 / (1 - m squeeze), with the least m that suffices.
        a, way = squeeze.double().numpy(), (image - 0.5).double().flatten().numpy()
        excess = lambda m: (a * (way / (1 - m * a)) ** 2).sum() - level  # noqa: E731
        m = root_scalar(excess, bracket=(0, (1 - 1e-9) / a.max())).root
        return float(np.linalg.norm(way / (1 - m * a) - way))

    exact = torch.tensor([[distance(image) for image in images[0]]])
    labels = torch.zeros(1, 50, dtype=torch.int64)
    nearest = nearest_visited(partial(TargetedFAB, steps=20), "l2", ellipsoid, images, labels)
    assert (nearest > exact * 0.999).all() and (nearest < exact * 1.015).all()


@ALL
def test_ways_to_a_hyperplane_are_the_shortest_there_are(norm):
    generator = torch.Generator().manual_seed(0)
    points = boxed(40, generator)
    normals = torch.randn(points.shape, generator=generator)
    normals[torch.rand(points.shape, generator=generator) < 0.1] = 0
    gaps = 4 * torch.randn(1, 40, generator=generator)
    ways = to_hyperplane(norm, points, normals, gaps)
    assert (points + ways).min() >= 0 and (points + ways).max() <= 1
    nowhere = 0
    for point, normal, gap, way in zip(points[0], normals[0], gaps[0], ways[0], strict=True):
        exact = way_within_the_box(norm, point, normal, float(gap))
        if exact is None:
            nowhere += 1
            corner = (normal * gap < 0).float()
            assert torch.allclose((point + way)[normal != 0], corner[normal != 0], atol=1e-6)
            continue
        assert abs(gap + (normal * way).sum()) < 1e-4
        length = Threat(norm, 0.0).distance(way[None, None], torch.zeros(1, 1, 1, 5, 5))
        assert float(length) == pytest.approx(np.linalg.norm(exact, ORDER[norm]), rel=1e-3)
    assert 0 < nowhere < 20


@pytest.mark.parametrize("scale", [1e-38, 1e-25, 1e30])
@ALL
def test_ways_to_a_hyperplane_know_no_scale(norm, scale):
    generator = torch.Generator().manual_seed(0)
    points = boxed(10, generator)
    normals = torch.randn(points.shape, generator=generator)
    gaps = 2 * torch.randn(1, 10, generator=generator)
    ways = to_hyperplane(norm, points, normals, gaps)
    scaled = to_hyperplane(norm, points, normals * scale, gaps * scale)
    assert torch.allclose(scaled, ways, rtol=0, atol=1e-3)
    for nothing in (to_hyperplane(norm, points, 0 * normals, g) for g in (gaps, 0 * gaps)):
        assert not nothing.any()


def two_classes(images: Tensor, seed: int = 0) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A classifier that says 0 of nearly all images, about .8 from the boundary in l2."""
    weight = torch.randn(2, FEATURES, generator=torch.Generator().manual_seed(seed))
    lead = weight[0] - weight[1]
    bias = torch.stack([0.8 * lead.norm() - lead.sum() / 2, torch.tensor(0.0)])
    net = linear(weight, bias)
    return net, weight, bias, net(images[0])[None].argmax(-1)


L2_ONLY = pytest.mark.parametrize(
    "attack",
    [
        CarliniWagner(BOX["l2"], steps=150, searches=6, learning_rate=0.03),
        LBFGS(BOX["l2"], steps=20, searches=10),
    ],
    ids=lambda attack: attack.name,
)


@L2_ONLY
def test_nearest_in_l2_within_the_box(attack):
    images = boxed(10, torch.Generator().manual_seed(1))
    net, weight, bias, labels = two_classes(images)
    exact = exact_within_the_box(weight, bias, images, labels, "l2")
    assert (exact > 1.01 * closed_form(weight, bias, images, labels, "l2")).any()
    # The other network's logits are a hundred times as large: every image has its own weight.
    model = Loop([net, linear(100 * weight, 100 * bias)])
    result = attack(model, images.expand(2, -1, -1, -1, -1), labels[0], [0, 1])
    assert not result.correct.any()
    ratio = Threat("l2", 0.0).distance(result.images, images) / exact
    assert (ratio > 0.9999).all() and (ratio < 1.03).all()


@L2_ONLY
def test_never_nearer_than_the_nearest_of_many_classes(attack):
    images = boxed(10, torch.Generator().manual_seed(1))
    model, weight, bias, labels = affine(images)
    exact = exact_within_the_box(weight, bias, images, labels, "l2")
    ratio = found_at(attack, "l2", model, images, labels) / exact
    assert (ratio > 0.9999).all() and ratio.median() < 1.03


@L2_ONLY
def test_an_example_counts_within_epsilon_only(attack):
    images = boxed(10, torch.Generator().manual_seed(1))
    net, weight, bias, labels = two_classes(images)
    distance = found_at(attack, "l2", Loop([net]), images, labels)
    epsilon = float(distance.median()) + 1e-4
    result = replace(attack, threat=Threat("l2", epsilon))(Loop([net]), images, labels, [0])
    assert torch.equal(~result.correct, distance <= epsilon)
    assert torch.equal(result.images[result.correct], images[result.correct])


@L2_ONLY
@pytest.mark.parametrize("norm", ["linf", "l1"])
def test_in_other_norms_every_example_visited_inside_the_ball_counts(attack, norm):
    model, images, labels = problem(1, 30)
    epsilon = {"linf": 0.1, "l1": 1.0}[norm]
    threat = Threat(norm, epsilon)
    first = model(images).argmax(-1) == labels
    broken, farther = ~first, torch.zeros_like(first)

    def watched(points: Tensor) -> Tensor:
        nonlocal broken, farther
        logits = model(points)
        if points.shape == images[first][None].shape:
            wrong = logits.argmax(-1) != labels[first]
            inside = threat.contains(points, images[first][None])
            broken[first] |= (wrong & inside)[0]
            farther[first] |= (wrong & ~inside)[0]
        return logits

    result = replace(attack, threat=threat)(watched, images, labels, [0])
    assert torch.equal(result.correct, ~broken)
    assert 0 < int((broken & first).sum()) < int(first.sum()) and (broken & first & farther).any()


def test_cw_moves_pixels_of_0_and_1():
    # Half of the pixels are 0, half are 1, and the nearest example has all of them go inwards.
    images = (torch.arange(FEATURES).view(1, 1, 1, 5, 5) % 2).float()
    inward = 1 - 2 * images.flatten()
    model = Loop([linear(torch.stack([-inward, inward]), torch.tensor([-19.0, 0.0]))])
    labels = torch.zeros(1, 1, dtype=torch.int64)
    exact = 5 / 2 / FEATURES**0.5  # the lead is 5, and every pixel takes 2 away at full length
    attack = CarliniWagner(BOX["l2"], steps=200, searches=5)
    found = attack(model, images, labels, [0]).images
    moved = (found - images).flatten() * inward
    assert moved.min() > 0.05 and exact < float(moved.norm()) < 1.02 * exact


def test_cw_with_a_margin():
    images = boxed(10, torch.Generator().manual_seed(1))
    net, weight, bias, labels = two_classes(images)
    further = exact_within_the_box(weight, bias + torch.tensor([1.5, 0]), images, labels, "l2")
    attack = CarliniWagner(BOX["l2"], steps=150, searches=6, learning_rate=0.03, kappa=1.5)
    result = attack(Loop([net]), images, labels, [0])
    assert margin(net(result.images[0])[None], labels).min() >= 1.5 - 1e-4
    ratio = Threat("l2", 0.0).distance(result.images, images) / further
    assert (ratio > 0.9999).all() and (ratio < 1.03).all()


def test_lbfgs_takes_the_nearest_of_its_targets():
    images = boxed(20, torch.Generator().manual_seed(1))
    model, _, _, labels = affine(images)
    few, many = (
        found_at(LBFGS(BOX["l2"], 10, 8, targets), "l2", model, images, labels)
        for targets in (1, CLASSES)
    )
    assert (many <= few).all() and (few > 1.1 * many).float().mean() > 0.1


def test_lbfgs_minimises_as_scipy_does():
    # Nearly a sum of absolute values: convex, but far from quadratic.
    generator = torch.Generator().manual_seed(0)
    slopes = 6 * torch.randn(10, FEATURES, FEATURES, generator=generator).double()
    shifts = 30 * torch.rand(10, FEATURES, generator=generator).double()

    def objective(points: Tensor) -> tuple[Tensor, Tensor]:
        y = (slopes @ points.flatten(2)[..., None]).squeeze(-1) - shifts
        values = (1 + y.square()).sqrt()
        return values.sum(-1), ((y / values)[..., None, :] @ slopes).view_as(points)

    def alone(x: np.ndarray, row: int) -> tuple[np.ndarray, np.ndarray]:
        points = start.clone()
        points[0, row] = torch.from_numpy(x).view(1, 5, 5)
        values, gradients = objective(points)
        return values[0, row].numpy(), gradients[0, row].flatten().numpy()

    start = torch.full((1, 10, 1, 5, 5), 0.5, dtype=torch.float64)
    reached = objective(projected_lbfgs(objective, start, 60))[0][0]
    for row in range(10):
        best = minimize(
            alone,
            np.full(FEATURES, 0.5),
            args=(row,),
            jac=True,
            method="L-BFGS-B",
            bounds=[(0, 1)] * FEATURES,
            options={"ftol": 1e-15, "gtol": 1e-12},
        )
        assert 3 < ((best.x == 0) | (best.x == 1)).sum() < FEATURES
        assert float(reached[row]) == pytest.approx(best.fun, rel=1e-7)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("deepfool", {"candidates": 1}, "expected candidates to be a whole number of at least 2"),
        ("deepfool", {"overshoot": 0.0}, "expected overshoot to be a finite number above 0"),
        ("cw", {"kappa": -0.1}, "expected a finite kappa of at least 0, got -0.1"),
        ("cw", {"learning_rate": 0}, "expected learning_rate to be a finite number above 0"),
        ("lbfgs", {"searches": 0}, "expected searches to be a whole number of at least 1"),
        ("fab-t", {"targets": 0}, "expected targets to be a whole number of at least 1"),
    ],
)
def test_bad_options(name, options, message):
    with pytest.raises(AttackError, match=message):
        build(name, BOX["l2"], **options)
