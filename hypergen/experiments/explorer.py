"""A trained generator opened to be looked at: networks, V's estimates, predictions and attacks.

Nothing here knows of a page. All of it may be called from several threads, and nothing in the run's
folder is changed but by `keep`, so the run may be training meanwhile.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import attacks
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.cached_measure import is_share
from hypergen.evaluation.sampler import Sampler
from hypergen.experiments.latent_slice import LatentSlice
from hypergen.experiments.run import load_generator
from hypergen.experiments.sample import (
    further_figures,
    further_measures,
    save_sample,
    verifier,
)
from hypergen.experiments.typical_errors import typical_errors
from hypergen.measures.attacked import (
    attack_population,
    attacked_images,
    broken_images,
    predictions,
)
from hypergen.report.intervals import interval
from hypergen.runtime.batching import for_all
from hypergen.runtime.precision import full_precision
from hypergen.runtime.torch_state import usual_state
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.storage.folders import require_folder
from hypergen.storage.lock import locked
from targets import Ensemble, Population, WeightLayout

KEPT = "explored"
"""The folder in that of the run that kept networks go to."""
VOTERS, VOTERS_SEED = 10, 1
"""Networks that vote, and the seed of their latent samples: that of `hypergen sample`."""
QUICK_STEPS = 10
"""Of the PGD that shows what an attack does; what is measured is measured by the standard one."""
MAP_IMAGES = 64
"""Validation images that V looks at for a point of the map; for the chosen network 256."""
BATCH = 10
"""Images that a core attacks at once when a network is measured: few, for there is progress to tell
and whoever waits may want to stop."""
PATIENCE = 10.0
"""Seconds to wait for another process that is keeping a network."""
Networks = Population | Ensemble


@dataclass(frozen=True)
class Slider:
    """A part of the preference that can be moved: "beta", "radius", or a measure by its name.

    low, high: what the run was trained for; start: where it stands first.
    """

    name: str
    low: float
    high: float
    start: float


@dataclass(frozen=True)
class Chosen:
    """One network: z [Z], its preference, and what V estimates of it.

    estimates, spread: [M], by the run's measures; spread is the standard deviation over V's members
    and 0 where there is one.
    """

    z: Tensor
    preference: Tensor
    population: Population
    estimates: Tensor
    spread: Tensor


@dataclass(frozen=True)
class Attacked:
    """An attacked image [C,H,W], and the probabilities [K] that networks give it."""

    image: Tensor
    probabilities: Tensor


class Explorer:
    """The averaged generator of a run and its value network, at the last checkpoint.

    Args:
        folder: of the run.
        dataset: its images, on the device that computes.

    Raises:
        InputError: no run, or none with a checkpoint.
    """

    def __init__(self, folder: Path, dataset: Dataset):
        self.folder, self.dataset = folder, dataset
        self._stamp = _stamp(folder)  # before it is read: one that comes meanwhile is a newer one
        self.sampler: Sampler = load_generator(folder, dataset)
        self.weights = WeightLayout.of(self.sampler.models.target).size
        self.checked, self.errors = typical_errors(folder, self.measures)

    @property
    def is_outdated(self) -> bool:
        """Whether the run has a newer checkpoint by now."""
        return _stamp(self.folder) not in (None, self._stamp)

    @property
    def measures(self) -> list[str]:
        """The names of the run's measures, M."""
        return [measure.name for measure in self.sampler.measures]

    @property
    def threat(self) -> attacks.Threat:
        """What the run's attacker may do."""
        return self.sampler.config.threat

    def sliders(self) -> list[Slider]:
        """What of the preference can be moved; none where the run was trained at a single one."""
        config = self.sampler.config
        if config.objective.has_many_preferences:
            return [
                Slider(spec.name, spec.low, spec.high, (spec.low + spec.high) / 2)
                for spec in config.objective.specs
                if spec.is_ranged
            ]
        if not config.has_front:
            return []
        name, low, high = config.knob.name, config.knob.low, config.knob.high
        return [Slider(name, low, high, (low + high) / 2)]

    def preference(self, values: Mapping[str, float]) -> Tensor:
        """The preference, a number [] or weights [M] of sum 1, for values of the `sliders`.

        `InputError`: weights that are all 0.
        """
        objective, knob = self.sampler.config.objective, self.sampler.config.knob
        if not objective.has_many_preferences:
            return torch.tensor(knob.given(values.get(knob.name, knob.low)))
        weights = torch.tensor([values.get(spec.name, spec.low) for spec in objective.specs])
        if weights.sum() == 0:
            raise InputError("at least one weight must be above 0")
        return weights / weights.sum()

    def slice(self, number: int) -> LatentSlice:
        """The slice of the latent space of that number, from 0."""
        return LatentSlice.drawn(self.sampler.models.latent, number)

    def choose(self, z: Tensor, preference: Tensor) -> Chosen:
        """The network of z [Z] at a preference, with V's estimates."""
        population = self.sampler.generate(z[None], preference[None])
        estimates, spread = self.sampler.estimate(population, self.dataset)
        return Chosen(z, preference, population, estimates[0].cpu(), spread[0].cpu())

    def estimates(self, z: Tensor, preference: Tensor) -> Tensor:
        """[P,M], what V estimates of z [P,Z] at one preference, on few images."""
        shared = preference.expand(len(z), *preference.shape)
        population = self.sampler.generate(z, shared)
        return self.sampler.estimate(population, self.dataset, MAP_IMAGES)[0].cpu()

    def voters(self, preference: Tensor) -> Ensemble:
        """Ten samples of a preference that vote as one."""
        z = self.sampler.models.latent.draw(VOTERS, torch.Generator().manual_seed(VOTERS_SEED))
        return Ensemble(self.sampler.generate(z, preference.expand(VOTERS, *preference.shape)))

    def image(self, number: int) -> tuple[Tensor, int]:
        """A test image [C,H,W] by its number, from 0, and its class."""
        images, labels = self.dataset.test.batch(slice(number, number + 1))
        return images[0].cpu(), int(labels)

    @usual_state()
    @full_precision()
    @torch.no_grad()
    def probabilities(self, networks: Networks, image: Tensor) -> Tensor:
        """[K], how likely each class of an image [C,H,W] is, to one network or to all that vote."""
        stack = for_all(image[None].to(self.dataset.device), networks)
        return networks(stack)[0, 0].softmax(-1).cpu()

    @usual_state()
    def votes(self, ensemble: Ensemble, image: Tensor) -> list[int]:
        """The class that each member puts an image [C,H,W] into."""
        return predictions(ensemble.members, image[None].to(self.dataset.device))[:, 0].tolist()

    @usual_state()
    def attack(self, networks: Networks, image: Tensor, label: int, epsilon: float) -> Attacked:
        """An image [C,H,W] attacked by a short PGD, in the norm of the run, away from a class.

        Where the attack does not succeed, or need not, it is the point that it ended at.
        """
        clean = image[None].to(self.dataset.device)
        labels = torch.tensor([label], device=clean.device)
        attack = attacks.PGD(attacks.Threat(self.threat.norm, epsilon), QUICK_STEPS)
        found = broken_images(networks, clean, labels, attack, seed=0)
        if torch.equal(found[0], clean):
            found = attacked_images(networks, clean, labels, attack, seed=0)
        return Attacked(found[0, 0].cpu(), self.probabilities(networks, found[0, 0]))

    @usual_state()
    def measure(
        self, chosen: Chosen, images: int, advance: Callable[[int], None] = lambda done: None
    ) -> dict[str, Any]:
        """What is measured of a network on the first `images` validation images.

        accuracy is on all of them, sra by the standard attack, other measures of the run by their
        names. `intervals`: of those that are shares of images. Test images are left alone, since
        whoever looks at many networks chooses by what is shown.

        advance: called with the number of images attacked so far; what it raises ends it.
        """
        population, val = chosen.population, self.dataset.val
        evaluator, robust = verifier(self.sampler, images, 0, "val"), 0
        attack, (some, labels) = evaluator.attack, val.first(images)
        accuracy = float(attack_population(population, *val.first(len(val)), None, 0).accuracy)
        at_once = BATCH * (1 if some.is_cuda else torch.get_num_threads())
        for start in range(0, len(labels), at_once):
            part = some[start : start + at_once], labels[start : start + at_once]
            masks = attack_population(population, *part, attack, start, BATCH)
            robust += int(masks.robust.sum())
            advance(start + len(part[1]))
        sra = robust / len(labels)
        figures = {"accuracy": accuracy, "sra": sra}
        intervals = {"accuracy": interval(accuracy, len(val)), "sra": interval(sra, len(labels))}
        (others,) = further_figures(self.sampler, evaluator, population, self.dataset)
        for measure in further_measures(self.sampler):
            if is_share(measure):
                intervals[measure.name] = interval(others[measure.name], len(labels))
        described = evaluator.describe(self.dataset)
        del described["pgd"]  # which is not tried here
        return {**figures, **others, "intervals": intervals, "attack": described}

    def keep(self, chosen: Chosen, measured: Mapping[str, Any] | None = None) -> Path:
        """Writes a network to a new file in the folder `KEPT` of the run; its path.

        The file says what `hypergen sample` writes of a network; under "val" what was `measured`.
        `InputError`: a folder that cannot be written to.
        """
        row: dict[str, Any] = {"z": chosen.z.tolist()}
        row |= self.sampler.preference_row(chosen.preference)
        row["estimated"] = self.sampler.named(chosen.estimates)
        if self.sampler.config.value_network.members > 1:
            row["uncertainty"] = self.sampler.named(chosen.spread)
        if measured is not None:
            row["val"] = dict(measured)
        folder = self.folder / KEPT
        require_folder(folder)
        with locked(folder, PATIENCE):
            path = next(path for path in _names(folder) if not path.exists())
            save_sample(path, self.sampler, chosen.population, 0, row)
        return path


def _stamp(folder: Path) -> tuple[int, int, int] | None:
    """What tells one checkpoint from the next, which takes its place at once; None without one."""
    try:
        found = (folder / CHECKPOINT).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _names(folder: Path) -> Iterator[Path]:
    """network-0000.safetensors and so on, without end."""
    number = 0
    while True:
        yield folder / f"network-{number:04d}.safetensors"
        number += 1
