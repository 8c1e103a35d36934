"""What fools one network, tried on all the others: the matrix of fooling rates.

Rows: the network that adversarial examples, or a universal perturbation, were made against;
columns: the network they are tried on (as in Moosavi-Dezfooli et al. 2017, table 2).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from tyro.conf import arg

from attacks import ATTACKS, UNIVERSAL, Attack, Threat, Universal, perturbed
from attacks.error import unknown
from attacks.foreign import PREFIX
from hypergen import data
from hypergen.data import Dataset
from hypergen.diversity import off_diagonal
from hypergen.errors import InputError
from hypergen.evaluate import (
    JudgeConfig,
    by_architecture,
    find,
    open_for,
    require_json,
    require_writable,
    short,
)
from hypergen.heatmap import heatmap
from hypergen.measure import BATCH_IMAGES, for_all, pieces
from hypergen.picture import require_picture, write_picture
from hypergen.tracking import Bar, write_text
from targets import Population, concurrently, jobs_at_once

Craft = Callable[[Tensor, Tensor, int], Tensor]
"""Images [B,C,H,W], labels [B] and a seed to points [P,B,C,H,W] made against P networks."""


@dataclass(frozen=True)
class TransferConfig(JudgeConfig):
    """What is made against each network, and how."""

    attack: Annotated[str, arg(aliases=["--suite"])] = "pgd"
    """any attack of evaluate; or one perturbation for all images of a network, fitted on as many
    training images: universal-deepfool, universal-gradient"""

    def __post_init__(self) -> None:
        super().__post_init__()
        of_pgd = "steps", "restarts", "step_size"
        given = [name for name in of_pgd if getattr(self, name) != getattr(JudgeConfig, name)]
        if given and self.attack != "pgd":
            option = given[0].replace("_", "-")
            raise InputError(f"--{option} is of pgd, which {self.attack} does without")

    def require_attack(self, threat: Threat) -> None:
        if self.attack not in (*UNIVERSAL, *ATTACKS) and not self.attack.startswith(PREFIX):
            raise unknown("attack", self.attack, (*UNIVERSAL, *ATTACKS))
        self.source(threat)

    def source(self, threat: Threat) -> Attack | Universal:
        """What makes the examples."""
        if self.attack in UNIVERSAL:
            return UNIVERSAL[self.attack](threat)
        return self.judge(threat).judging


class Mixed:
    """Networks of one or several architectures: populations that know their places."""

    def __init__(self, modules: Sequence[nn.Module], device: torch.device):
        self.count = len(modules)
        self._groups = [
            (torch.tensor(members), Population.of(modules[i] for i in members).to(device))
            for members in by_architecture(modules)
        ]

    def pieces(self, images: Tensor) -> list[tuple[Tensor, Population]]:
        """Places [p] and networks, so few at once that each may take images [N,C,H,W]."""
        return [
            (places[part], piece)
            for places, group in self._groups
            for part, piece in pieces(group, images)
        ]

    @torch.no_grad()
    def classes(self, points: Tensor) -> Tensor:
        """What every network says of points [S,B,C,H,W]: [P,S,B]."""
        said = torch.empty(self.count, *points.shape[:2], dtype=torch.long, device=points.device)
        flat = points.flatten(0, 1)
        for places, piece in self.pieces(flat):
            logits = piece(for_all(flat, piece))
            said[places] = logits.argmax(-1).unflatten(1, points.shape[:2])
        return said


def against(
    piece: Population, source: Attack | Universal, dataset: Dataset, count: int, seed: int
) -> Craft:
    """What `source` makes against networks; perturbations are fitted on `count` training images.

    An attack that judges stops as soon as it has crossed a network's own boundary, and so near it
    little carries over. Hence an attack's strong points (`Attack.perturb`) come first, and what it
    found in judging only where these break nothing.
    """
    if isinstance(source, Universal):
        images, labels = dataset.train.first(count)
        stack = for_all(images, piece)
        perturbation = source.fit(piece, stack, labels, [seed] * len(piece))
        return lambda images, labels, seed: perturbed(images[None], perturbation)

    def examples(images: Tensor, labels: Tensor, seed: int) -> Tensor:
        stack, seeds = for_all(images, piece), [seed] * len(piece)
        found = source(piece, stack, labels, seeds)
        if not source.perturbs:  # it only judges
            return found.images
        strong = source.perturb(piece, stack, labels, seeds)
        with torch.no_grad():
            failed = ~found.correct & (piece(strong).argmax(-1) == labels)
        return torch.where(failed[..., None, None, None], found.images, strong)

    return examples


def fooling_rates(
    networks: Mixed, source: Attack | Universal, dataset: Dataset, count: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Accuracy [P] and fooling rates [P,P], shares of the first `count` test images.

    Entry (i, j): what network j gets right when clean, and wrong when made to fool network i. The
    diagonal is what the attack takes from each network's own accuracy.
    """
    images, labels = dataset.test.first(count)
    parts = [slice(i, i + BATCH_IMAGES) for i in range(0, len(images), BATCH_IMAGES)]
    at_once = jobs_at_once(images.device)
    clean = concurrently(lambda part: networks.classes(images[None, part]), parts, at_once)
    right = torch.cat(list(clean), -1) == labels  # [P,1,N]

    groups = networks.pieces(images)
    crafts = list(
        concurrently(lambda p: against(p[1], source, dataset, count, seed), groups, at_once)
    )
    bar = Bar("transferring", networks.count * len(images))

    def fooled(job: tuple[Craft, slice]) -> Tensor:
        """[S,P], of the images of a part."""
        craft, part = job
        points = craft(images[part], labels[part], seed + part.start)
        bar.advance(points.shape[0] * points.shape[1])
        return (right[..., part] & (networks.classes(points) != labels[part])).sum(-1).T

    found = concurrently(fooled, [(craft, part) for craft in crafts for part in parts], at_once)
    rows = [places for places, _ in groups for _ in parts]
    matrix = torch.zeros(networks.count, networks.count, dtype=torch.double)
    for places, counts in zip(rows, found, strict=True):
        matrix[places] += counts.cpu()
    bar.close()
    return right[:, 0].double().mean(-1).cpu(), matrix / len(images)


def carried_over(matrix: Tensor) -> float:
    """How much of what attacks do to the network they were made against they do to others.

    From fooling rates [P,P], mean over pairs: 1 for equal networks, 0 where nothing carries over or
    nothing was done.
    """
    done = matrix.diagonal()[:, None]
    return float(off_diagonal(matrix / torch.where(done > 0, done, torch.inf)).mean())


def transfer_files(
    paths: Sequence[Path],
    options: TransferConfig,
    device: torch.device,
    data_dir: Path | None,
    json_file: Path | None,
    picture: Path | None,
) -> dict[str, Any]:
    """`hypergen transfer`: opens, attacks, prints the table, writes the JSON and the picture."""
    files = find(paths)
    if json_file is not None:
        require_json(json_file)
    if picture is not None:
        require_writable(picture, "--picture")
        require_picture(picture, "--picture")
    if len(files) < 2:
        raise InputError("transfer needs several networks, got one")
    networks, name, threat = open_for(files, options)
    source = options.source(threat)
    dataset = data.load(name, data_dir, device)
    mixed = Mixed([network.module for network in networks], device)
    accuracy, matrix = fooling_rates(mixed, source, dataset, options.images, options.seed)
    fitted = {"fitted": len(dataset.train.first(options.images)[1])}
    result = {
        "attack": {
            **source.describe(),
            "images": len(dataset.test.first(options.images)[1]),
            **(fitted if isinstance(source, Universal) else {}),
            "seed": options.seed,
        },
        "dataset": name,
        "networks": [
            {"file": str(network.file), "accuracy": share}
            for network, share in zip(networks, accuracy.tolist(), strict=True)
        ],
        "fooling": matrix.tolist(),
        "white_box": float(matrix.diagonal().mean()),
        "transfer": float(off_diagonal(matrix).mean()),
        "carried_over": carried_over(matrix),
    }
    print(text_table(result))
    if json_file is not None:
        write_text(json_file, json.dumps(result, indent=1) + "\n")
    if picture is not None:
        write_picture(picture, heatmap(matrix, caption(result)))
    return result


def text_table(result: dict[str, Any]) -> str:
    """A line a network: its accuracy, what fools it, and what its own examples do to others."""
    matrix = torch.tensor(result["fooling"])
    figures = torch.stack(
        [
            torch.tensor([row["accuracy"] for row in result["networks"]]),
            matrix.diagonal(),
            off_diagonal(matrix).mean(1),
            off_diagonal(matrix.T).mean(1),
        ],
        1,
    )
    names = [short(row["file"]) for row in result["networks"]] + ["mean"]
    heads = "accuracy", "by own", "to others", "by others"
    lines = [f"{'network':<40}" + "".join(f"{head:>12}" for head in heads)]
    for name, row in zip(names, [*figures.tolist(), figures.mean(0).tolist()], strict=True):
        lines.append(f"{name:<40}" + "".join(f"{100 * share:>12.2f}" for share in row))
    images = result["attack"]["images"]
    lines.append(f"% of the first {images} test images, right when clean and fooled by (or to)")
    lines.append(f"examples made against a network; {caption(result)}")
    return "\n".join(lines)


def caption(result: dict[str, Any]) -> str:
    """Data set, threat and attack in a line."""
    attack, threat = result["attack"], result["attack"]["threat"]
    return (
        f"{result['dataset']}, {threat['norm']}, epsilon {threat['epsilon']:.4g}, {attack['name']}"
    )
