"""Networks drawn from a trained generator."""

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from torch import Tensor

from hypergen import __version__, checkpoint, data
from hypergen.baseline import describe
from hypergen.checkpoint import CHECKPOINT
from hypergen.config import (
    CONFIG,
    TrainConfig,
    require_at_least,
    require_folder,
    require_seed,
    require_shares,
)
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluate import Judge, short, summarise, text_table
from hypergen.halving import best, rank
from hypergen.latent import draw_beta
from hypergen.lock import LOCK, locked
from hypergen.measure import (
    MEASURERS,
    accuracies,
    attacked_batch,
    named,
    pieces,
    recalibrated,
)
from hypergen.train import Networks
from hypergen.weights_file import save_network
from targets import Population

CALIBRATION_IMAGES = 1024
"""Training images that the batch-norm statistics of what is drawn are measured on."""
ESTIMATED_AT_ONCE = 64
"""Networks whose attacked images are in memory at once."""


@dataclass(frozen=True)
class SampleConfig:
    """Which networks are drawn, and how the best are verified."""

    count: int
    """networks drawn"""
    keep: int | None = None
    """how many of the best are written: found by successive halving on validation images, from
    cheap attacks on all to the standard ones on a few, and verified on test images; default: all,
    unattacked, in the value network's order"""
    beta: float | None = None
    """weight of robustness, for a run trained on a range; default: drawn from it"""
    seed: int = 1
    """of the latent samples"""
    images: int = 100
    """of validation to choose and of test to verify what --keep keeps, by PGD-50 and standard
    robust accuracy"""

    def __post_init__(self) -> None:
        require_at_least(self, ("count", "keep", "images"), 1)
        if self.keep is not None and self.keep > self.count:
            raise InputError(f"--keep must be at most --count ({self.count}), got {self.keep}")
        require_shares(self, ("beta",))
        require_seed(self.seed)


class Sampler:
    """The averaged generator of a run, ready to draw from.

    attack_steps: of the measurer that V was last fitted to; training may have raised them.
    """

    def __init__(
        self,
        config: TrainConfig,
        networks: Networks,
        attack_steps: int,
        dataset: Dataset | None = None,
    ):
        self.config = config
        self.networks = networks
        self.attack_steps = attack_steps
        self.dataset = dataset

    @torch.no_grad()
    def draw(
        self, count: int, beta: float | None = None, seed: int = 0
    ) -> tuple[Population, Tensor, Tensor]:
        """`count` networks, their z [count,Z] and preferences [count].

        beta in [0,1]: weight of robustness; by default what the run was trained at, drawn from its
        range. `InputError` for a preference outside that range, a count below 1, or a target with
        batch norm and no data set.
        """
        if count < 1:
            raise InputError(f"--count must be at least 1, got {count}")
        low, high = self.config.beta_range
        if beta is not None and not low <= beta <= high:
            raise InputError(
                f"this generator was trained for beta in [{low:g}, {high:g}], not {beta:g}"
            )
        rng = torch.Generator().manual_seed(seed)
        z = self.networks.generator.latent.draw(count, rng)
        betas = draw_beta(count, (low, high) if beta is None else (beta, beta), rng)
        device = next(self.networks.averaged.parameters()).device
        theta = self.networks.averaged(z.to(device), betas.to(device))
        population = Population(self.networks.module, theta)
        if self.dataset is not None:
            images = self.dataset.calibration_images(CALIBRATION_IMAGES)
            population = recalibrated(population, images)
        elif population.has_batch_norm:
            raise InputError(
                f"{self.config.target} has batch norm, whose statistics are measured on training "
                f'images: load_generator(run, hypergen.data.load("{self.config.dataset}"))'
            )
        return population, z, betas

    def sample(self, count: int, beta: float | None = None, seed: int = 0) -> Population:
        """`count` networks as a population; `.module_at(i)` is one in plain PyTorch."""
        return self.draw(count, beta, seed)[0]

    @torch.no_grad()
    def estimate(
        self, population: Population, dataset: Dataset, images: int = 256
    ) -> tuple[Tensor, Tensor]:
        """[P,2], accuracy and robustness as the value network estimates them; their uncertainty.

        On validation images, which the generator has never been trained on. A `set` looks at them
        attacked at the run's epsilon; the other kinds see weights alone and so stand for the radius
        trained against, where robustness is lower.
        """
        chosen, labels = dataset.val.first(images)
        config = self.config
        measurer = MEASURERS[config.measurer](config.threat, self.attack_steps)
        value = self.networks.value
        seen = []
        for _, some in population.pieces(ESTIMATED_AT_ONCE):
            batch = attacked_batch(some, chosen, labels, measurer, config.seed)
            seen += [
                value.evidence(piece, batch.for_networks(place))
                for place, piece in pieces(some, chosen)
            ]
        evidence = torch.cat(seen)
        return value(evidence), value.uncertainty(evidence)

    def save(
        self,
        folder: Path,
        population: Population,
        z: Tensor,
        betas: Tensor,
        figures: list[dict[str, Any]],
    ) -> list[Path]:
        """Writes every network as sample-0000.safetensors ... with its figures; the paths."""
        folder.mkdir(parents=True, exist_ok=True)
        config = self.config
        shared = describe(config.target, config.activation, config.dataset, population.layout)
        paths = []
        for index, row in enumerate(figures):
            paths.append(folder / f"sample-{index:04d}.safetensors")
            metadata = {
                **shared,
                "z": z[index].tolist(),
                "beta": float(betas[index]),
                "epsilon": config.threat.epsilon,
                "norm": config.norm,
                "version": __version__,
                **row,
            }
            save_network(paths[-1], population.module_at(index).state_dict(), metadata)
        return paths


def load_generator(run: Path, dataset: Dataset | None = None) -> Sampler:
    """The averaged generator at the last checkpoint of a run, on the data set's device.

    dataset: needed for targets with batch norm, whose statistics are measured on training images.
    `InputError`: not a run, or one without a checkpoint.
    """
    run = Path(run)
    config = TrainConfig.load(run / CONFIG)
    saved = run / CHECKPOINT
    if not saved.exists():
        raise InputError(f"{run} has no {CHECKPOINT} yet: let it train, or --resume it")
    networks = Networks.fresh(config)
    state = checkpoint.restore(saved, networks.load_state_dict)
    if dataset is not None:
        networks.to(dataset.train.images.device)
    return Sampler(config, networks, state["attack_steps"], dataset)


def draw_samples(
    run: Path, out: Path, device: torch.device, data_dir: Path | None, options: SampleConfig
) -> list[Path]:
    """`hypergen sample`: draws, ranks, verifies what is to be kept, writes it."""
    config = TrainConfig.load(run / CONFIG)
    require_folder(out)
    require_empty(out)
    dataset = data.load(config.dataset, data_dir, device)
    with locked(out):
        require_empty(out)
        sampler = load_generator(run, dataset)
        population, z, betas = sampler.draw(options.count, options.beta, options.seed)
        estimates, uncertainty = sampler.estimate(population, dataset)
        # Less its uncertainty, so that what V does not know is not preferred.
        order = rank(estimates - uncertainty, betas)
        if options.keep is not None:
            verifying = config.threat, options.keep, options.images, options.seed
            order = best(population, order, betas, dataset.val, *verifying)
        order = order.cpu()  # where z is
        population, z, betas = population.choose(order), z[order], betas[order]
        judge = Judge(
            config.threat, "standard", restarts=1, images=options.images, seed=options.seed
        )
        attack = judge.describe(dataset)
        if options.keep is None:
            shares = accuracies(population, *dataset.test.first(len(dataset.test))).tolist()
            rows = [{"accuracy": share} for share in shares]
        else:
            rows = [
                row | {"attack": attack} for row in judge.judge(population, dataset, "verifying")
            ]
        for index, row in zip(order, rows, strict=True):
            row["estimated"] = named(estimates[index].tolist())
            if config.value_members > 1:
                row["uncertainty"] = named(uncertainty[index].tolist())
            row["seed"] = options.seed
        paths = sampler.save(out, population, z, betas, rows)
    shown = [{**row, "file": str(path)} for row, path in zip(rows, paths, strict=True)]
    if options.keep is None:
        print(estimates_table(shown, dataset.name))
        print(f"best of the value network first; measured by hypergen evaluate {quote(str(out))}")
        return paths
    summary = summarise(shown)
    table = {"attack": attack, "dataset": dataset.name, "networks": shown, "summary": summary}
    print(text_table(table))
    print(f"best {len(paths)} of {options.count} by successive halving, best first")
    return paths


def require_empty(out: Path) -> None:
    """`InputError` for a folder that holds anything."""
    if out.exists() and any(path.name != LOCK for path in out.iterdir()):
        raise InputError(f"{out} is not empty; choose another --out or --seed")


def estimates_table(networks: list[dict[str, Any]], dataset: str) -> str:
    """Networks that no attack has met: a line each."""
    lines = [f"{'network':<40}{'accuracy':>12}{'robustness, estimated':>24}"]
    for row in networks:
        estimated = 100 * row["estimated"]["robustness"]
        lines.append(f"{short(row['file']):<40}{100 * row['accuracy']:>12.2f}{estimated:>24.2f}")
    lines.append(f"% of {dataset} test images; estimated by the value network on validation images")
    return "\n".join(lines)
