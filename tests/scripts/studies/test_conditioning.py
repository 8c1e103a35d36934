"""The study of how preferences move generated weights."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.models.generator import KNOTS, ResidualGenerator, build_generator
from hypergen.models.latent import encode_beta
from scripts.studies import conditioning
from targets import WeightLayout

LAYOUT = WeightLayout.of(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(7, 4)))
KINDS = "film", "rank-1", "lora", "nine-knots", "spread"
QUANTILES = torch.sin(torch.pi / 2 * torch.arange(KNOTS) / (KNOTS - 1)).square()


def built(kind: str) -> ResidualGenerator:
    torch.manual_seed(0)
    config = TrainConfig.of(generator=kind, beta="0:1")
    generator = build_generator(config, LAYOUT, torch.randn(LAYOUT.size))
    assert isinstance(generator, ResidualGenerator)
    return generator


def moved(kind: str):
    """One whose parameters are all drawn anew."""
    generator = built(kind)
    with torch.no_grad():
        for weights in generator.parameters():
            weights.normal_()
    return generator


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_starts_at_the_base_weights_and_is_taught_by_each_preference(kind):
    generator, today = built(kind), built("dense")
    shapes = {name: tensor.shape for name, tensor in today.state_dict().items()}
    state = generator.state_dict().items()
    today.load_state_dict({n: t for n, t in state if shapes.get(n) == t.shape}, strict=False)
    z, beta = torch.randn(KNOTS, 16), QUANTILES
    assert generator(z, beta).equal(today(z, beta))
    if kind == "lora":  # where one factor is 0, the other has no gradient
        nn.init.normal_(dict(generator.named_parameters())["left"])
    own = [weights for name, weights in generator.named_parameters() if weights.numel()]
    for gradient in torch.autograd.grad(generator(z, beta).square().sum(), own):
        assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("kind", KINDS)
def test_packed_is_alone_and_between_two_knots_no_other_counts(kind):
    generator = moved(kind)
    z, beta = torch.randn(3, 16), torch.tensor([0.0, 0.3, 1.0])
    alone = torch.cat([generator(z[i : i + 1], beta[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(generator(z, beta), alone)
    ranged = {n: w for n, w in generator.named_parameters() if w.shape[0] in (KNOTS, 9)}
    before = generator(z, beta).detach()
    with torch.no_grad():
        for weights in ranged.values():
            weights[2] += 1  # of five: the middle; of nine: a quarter
    after = generator(z, beta).detach()
    assert after[[0, 2]].equal(before[[0, 2]]) and not after[1].equal(before[1])


@pytest.mark.parametrize("kind", ["film", "rank-1", "lora", "spread"])
def test_weights_at_a_knot_are_those_of_the_definition(kind):
    """Layer by layer, by outer products and matrix products of NumPy."""
    generator, at = moved(kind), 3
    z = torch.randn(1, 16)
    asked = QUANTILES[at : at + 1]
    got = LAYOUT.unflatten(generator(z, asked)[0].detach())
    scale, base = LAYOUT.unflatten(generator.scale), LAYOUT.unflatten(generator.base_weights)
    hidden = generator.trunk(torch.cat([z, encode_beta(asked)], dim=1))[0]
    head = LAYOUT.unflatten(generator.head(hidden).detach())
    prior = LAYOUT.unflatten(generator.prior_scale * generator.random_prior @ z[0])
    own = {n: w[at].detach().numpy() for n, w in generator.named_parameters() if len(w) == KNOTS}
    first, second = 0, 1
    for name, tensor in base.items():
        rows, size = tensor.shape[0], tensor.numel()
        wide = tensor.ndim > 1
        columns = size // rows if wide else 0
        r, c = slice(first, first + rows), slice(second, second + columns)
        first, second = first + rows, second + columns
        matrix = tensor.detach().numpy().reshape(rows, -1)
        start = prior[name].numpy().reshape(rows, -1)
        if kind == "film":
            matrix = (1 + own["gains"][r, None]) * matrix + own["shifts"][r, None]
        elif kind == "lora":
            size = 1 / np.sqrt(columns) if wide else 0
            low_rank = size * own["left"][r] @ own["right"][c].T if wide else 0
            matrix = matrix + (low_rank if wide else own["shifts"][r, None])
        else:
            name_of = {"rank-1": "gains", "spread": "filters"}[kind]
            inputs = own["inputs"][c] if wide else own["inputs"][:1]
            factor = np.outer(1 + own[name_of][r], 1 + inputs)
            if kind == "rank-1":
                matrix = matrix * factor + (0 if wide else own["shifts"][r, None])
            else:
                start = start * factor
                matrix = matrix + own["offsets"][LAYOUT_START[name]].reshape(rows, -1)
        residual = start + 0.5 * head[name].numpy().reshape(rows, -1)
        expected = matrix + scale[name].numpy().reshape(rows, -1) * residual
        np.testing.assert_allclose(got[name].numpy().reshape(rows, -1), expected, 1e-4, 1e-4)


LAYOUT_START = {slot.name: slice(slot.start, slot.stop) for slot in LAYOUT.slots}


def test_ways_beside_single_preferences_and_direct_training(brief, tmp_path, written):
    train = conditioning.QUICK.train.replace(steps=2, population=2, batch_size=8)
    config = replace(
        conditioning.QUICK,
        train=train,
        only=("offsets", "FiLM", "alone"),
        seeds=(0,),
        betas=(0.0, 1.0),
        samples=2,
        images=4,
        sra_of=("FiLM",),
        sra_images=2,
        work=tmp_path / "work",
        out=tmp_path / "conditioning.json",
    )
    conditioning.main(config)
    figures = written(config.out)
    assert list(figures["rows"]) == list(figures["summary"]) == ["offsets", "FiLM", "alone"]
    for name, seeds in figures["rows"].items():
        assert list(seeds) == ["0"] and list(seeds["0"]) == ["0", "1"]
        test = seeds["0"]["1"]["test"]
        assert ("sra" in test) == (name == "FiLM") and test["pgd"] <= test["accuracy"] + 1
        assert ("test sra" in figures["summary"][name]["hypervolume"]) == (name == "FiLM")
    before = (config.work / "alone-0" / "0" / "checkpoint.safetensors").stat().st_mtime_ns
    conditioning.main(config)
    assert written(config.out) == figures
    assert (config.work / "alone-0" / "0" / "checkpoint.safetensors").stat().st_mtime_ns == before


def row(low: tuple[float, float], high: tuple[float, float], disagreement: float = 0.1):
    return {
        beta: {
            split: dict(zip(("accuracy", "pgd"), figures, strict=True)) for split in ("val", "test")
        }
        | {"disagreement": disagreement}
        for beta, figures in (("0", low), ("1", high))
    }


@pytest.mark.parametrize(
    ("first", "second", "better"),
    [
        (row((0.95, 0.2), (0.8, 0.6)), row((0.95, 0.2), (0.85, 0.6)), True),
        (row((0.95, 0.2), (0.8, 0.6)), row((0.94, 0.1), (0.8, 0.55)), False),  # for one seed less
        (row((0.9, 0.3), (0.8, 0.7)), row((0.9, 0.3), (0.8, 0.7)), False),  # less accurate at 0
        (row((0.95, 0.4), (0.9, 0.5)), row((0.95, 0.4), (0.9, 0.5)), False),  # less robust at 1
        (row((0.95, 0.3), (0.8, 0.7), 0.04), row((0.95, 0.3), (0.8, 0.7), 0.05), False),
    ],
)
def test_the_rule_by_known_figures(first, second, better):
    today = row((0.95, 0.1), (0.8, 0.55))
    reached = conditioning.summary(
        {conditioning.BEFORE: {"0": today, "1": today}, "FiLM": {"0": first, "1": second}}, 10
    )
    assert reached["offsets"]["by seed"] == pytest.approx([(0.85 * 0.1 + 0.7 * 0.45) / 0.9] * 2)
    assert conditioning.is_better(reached, "FiLM") == better


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train": conditioning.QUICK.train.replace(beta="0.5")}, "must be a range"),
        ({"train": conditioning.QUICK.train.replace(base="fbf")}, "starts from scratch"),
        ({"betas": (0.0, 2.0)}, r"must lie in \[0, 1\]"),
        ({"betas": (1.0, 0.0)}, "the lowest first"),
        ({"samples": 1}, "at least 2"),
        ({"only": ("filn",)}, 'unknown "filn"'),
    ],
)
def test_what_cannot_be_compared_is_told_before_long_work(wrong, message, tmp_path):
    config = replace(conditioning.QUICK, **wrong, work=tmp_path / "work")
    with pytest.raises(InputError, match=message):
        conditioning.main(config)
    assert not config.work.exists()
