"""How far images move without changing class."""

import pytest
import torch
from torch import Tensor, nn

from hypergen.analysis.jacobian import in_double
from hypergen.analysis.sensitivity import CONSTRUCTIONS, Sensitivity, linear_pieces, moved
from hypergen.runtime.progress import SILENT
from tests.hypergen.analysis.scene import context, networks, relu_net
from tests.targets.modules import Calls


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(16, 3),
    )


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))


def smooth() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Tanh(), nn.Linear(8, 3))


def require_same_class(module: nn.Module, images: Tensor, seed: int) -> int:
    """Tries every point that is returned on the module itself; returns how many there are."""
    group = networks(lambda: module, 1)
    network, rng = in_double(group.population), torch.Generator().manual_seed(seed)
    found = moved(network, images, linear_pieces(network, images), rng)
    assert found.keys() == CONSTRUCTIONS.keys()
    exact = module.double()
    count = 0
    for moves in found.values():
        points = images[:, None] + moves.reached
        assert (points >= -1e-12).all() and (points <= 1 + 1e-12).all()
        points = points.clamp(0, 1)
        classes = exact(points.flatten(0, 1)).argmax(-1).view(points.shape[:2])
        assert (classes == exact(images).argmax(-1)[:, None]).all()
        full = exact((images[:, None] + moves.moves).flatten(0, 1)).argmax(-1)
        kept = full.view(points.shape[:2]) == exact(images).argmax(-1)[:, None]
        assert (kept == moves.kept).all() and moves.kept[moves.reach == 1].all()
        count += points.shape[:2].numel()
    return count


@pytest.mark.parametrize("make", [relu_net, convolutions, smooth])
def test_every_point_keeps_its_class(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert require_same_class(make().eval(), torch.rand(5, 1, 6, 6).double(), 0) == 50


@pytest.mark.slow
def test_ten_thousand_points_keep_their_class():
    count = 0
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for seed in range(20):
            make = (relu_net, convolutions)[seed % 2]
            images = torch.rand(50, 1, 6, 6).double().clamp(0.2, 0.8).sub(0.2).div(0.6)
            count += require_same_class(make().eval(), images, seed)
    assert count == 10_000


def test_in_a_linear_network_every_construction_keeps_the_class():
    rows = Sensitivity().rows(networks(linear), context(), SILENT)
    for row in rows:
        assert [row[f"{name} kept"] for name in CONSTRUCTIONS] == [1.0] * len(CONSTRUCTIONS)
        assert row["null dimension"] == 33
        assert row["radius"] <= row["largest radius"]
        for name in CONSTRUCTIONS:
            assert row[f"{name} rms"] == pytest.approx(row[f"{name} distance"] / 6)


def test_packed_as_alone():
    group, scene = networks(convolutions, 3), context(count=3)
    rows = Sensitivity().rows(group, scene, SILENT)
    for number, row in enumerate(rows):
        alone = type(group)("one", group.population[number : number + 1])
        (other,) = Sensitivity().rows(alone, scene, SILENT)
        assert other == row


def test_an_image_moves_alone_as_it_does_among_others():
    """So the picture, which draws a few of them, shows what the figures are of."""
    network, images = in_double(networks(relu_net, 1).population), context().images(3)[0].double()
    found = [
        moved(network, some, linear_pieces(network, some), context().rng())
        for some in (images, images[:1])
    ]
    for name in CONSTRUCTIONS:
        torch.testing.assert_close(found[0][name].reached[:1], found[1][name].reached)


def test_a_randomised_network_is_left_out_and_the_picture_shows_the_rest():
    def drops() -> nn.Module:
        forward = lambda self, x: self.net(nn.functional.dropout(x, 0.5, training=True))  # noqa: E731
        return Calls(forward, net=linear())

    groups = [networks(drops, name="noisy"), networks(smooth, name="sample")]
    before = torch.get_rng_state()
    found = Sensitivity().run(groups, context(count=2), SILENT)
    assert torch.equal(torch.get_rng_state(), before)
    assert "randomised" in found.skipped["noisy"]
    assert {row["group"] for row in found.rows} == {"sample"}
    words = "".join(text.get_text() for text in found.figure.findobj() if hasattr(text, "get_text"))
    assert "sample" in words and "noisy" not in words
    figures = Sensitivity.figures
    assert all(isinstance(row[name], float) for row in found.rows for name in figures)
