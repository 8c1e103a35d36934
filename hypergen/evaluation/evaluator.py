"""Accuracy and robustness of networks, on images that they are judged by."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

import attacks
from hypergen import __version__
from hypergen.catalog import ATTACKS, measure_parts
from hypergen.data import Dataset, Split
from hypergen.evaluation.cached_measure import CachedMeasure, is_share
from hypergen.evaluation.random_ensemble import random_ensemble
from hypergen.measure_spec import MeasureSpec
from hypergen.measures import Measure, Stage, judged, strict
from hypergen.measures.attacked import RobustMasks, attack_population
from hypergen.registry import plugin_record
from hypergen.report.intervals import interval
from hypergen.runtime.progress import SILENT, Progress
from hypergen.storage.results_cache import ResultsCache
from targets import Ensemble, Population, architecture, outside_dictionary


@dataclass(frozen=True)
class Judgement:
    """Which images P networks are right about, by name; bool [P,N] each.

    figures: of accuracy, robustness, pgd and the like, each on its own images; after: after each
    attack of several; norms: in each norm of several.
    """

    figures: Mapping[str, Tensor]
    after: Mapping[str, Tensor]
    norms: Mapping[str, Tensor]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A row a network: the shares, and the interval that so few images leave of robustness."""
        images = self.figures["robustness"].shape[1]
        rows: list[dict[str, Any]] = [*_shares(self.figures)]
        parts = _shares(self.after, rows), _shares(self.norms, rows)
        for row, left, by_norm in zip(rows, *parts, strict=True):
            row["interval"] = interval(row["robustness"], images)
            row |= ({"after": left} if left else {}) | ({"norms": by_norm} if by_norm else {})
        return rows


@dataclass(frozen=True)
class Evaluator:
    """The attacks and images that networks are judged by.

    Args:
        threat: what the attacker may do.
        attack_name: as the registry of attacks knows it; "standard" for standard robust accuracy.
        steps, restarts, step_size: of PGD.
        images: how many of the first images are attacked; accuracy is over all of them.
        seed: of the attacks' random starts.
        cache: where masks are kept, and read when they are there already.
        others: threats of other norms, judged by the same attack beside `threat`.
        split: which images: "test", or "val" for what is still to be chosen.
    """

    threat: attacks.Threat
    attack_name: str = "pgd"
    steps: int = 50
    restarts: int = 10
    images: int = 1000
    seed: int = 0
    step_size: float | None = None
    cache: ResultsCache | None = None
    others: tuple[attacks.Threat, ...] = ()
    split: Literal["test", "val"] = "test"

    @property
    def pgd(self) -> attacks.PGD:
        """The PGD that is always shown."""
        return attacks.PGD(self.threat, self.steps, self.step_size, self.restarts)

    @property
    def attack(self) -> attacks.Attack:
        """The attack whose figure is called robustness."""
        if self.attack_name == "pgd":
            return self.pgd
        return ATTACKS.get(self.attack_name)(self.threat)

    def images_of(self, dataset: Dataset) -> Split:
        """The images that judge."""
        return {"test": dataset.test, "val": dataset.val}[self.split]

    def evaluate(
        self,
        population: Population | Ensemble,
        dataset: Dataset,
        progress: Progress = SILENT,
    ) -> list[dict[str, Any]]:
        """A row a network: accuracy, robustness, pgd (all in [0,1]), and what each attack left.

        Beside robustness stands the interval that so few images leave open (see `interval`). With
        other threats also robustness in each norm, and "union": the share that survives them all.
        Of networks with KAFs outside_dictionary: the share of inputs beyond the dictionary of a
        KAF, where its gradient vanishes, in the layer that has most; clean images.
        """
        return self.rows(self.judge(population, dataset, progress), population, dataset)

    def rows(
        self, judgement: Judgement, population: Population | Ensemble, dataset: Dataset
    ) -> list[dict[str, Any]]:
        """A row a network, see `evaluate`, of what was found by `judge`."""
        rows = judgement.rows
        if isinstance(population, Population):  # of those that vote it stands with the members
            images, _ = self.images_of(dataset).first(self.images)
            for row, network in zip(rows, population, strict=True):
                row |= beyond_dictionary(network, images)
        return rows

    def judge(
        self,
        population: Population | Ensemble,
        dataset: Dataset,
        progress: Progress = SILENT,
    ) -> Judgement:
        """Which images each network is right about, clean and under the attacks."""
        split = self.images_of(dataset)
        some = split.first(self.images)
        phases = progress.split(self.costs(dataset, len(population)))
        whole = split.first(len(split))
        masks = {"accuracy": self._run(population, whole, None, phases["accuracy"])}
        masks["pgd"] = self._run(population, some, self.pgd, phases["pgd"])
        masks["robustness"] = masks["pgd"]
        if self.attack_name != "pgd":
            masks["robustness"] = self._run(population, some, self.attack, phases[self.threat.norm])
        if self.attack_name == "standard":
            masks["sra"] = masks["robustness"]
        columns = {name: own.robust for name, own in masks.items()}
        norms = {self.threat.norm: columns["robustness"]} if self.others else {}
        for other in self.others:
            attack = replace(self, threat=other).attack
            norms[other.norm] = self._run(population, some, attack, phases[other.norm]).robust
        if norms:
            columns["union"] = _all(norms.values())
        after = masks["robustness"].after if self.attack_name != "pgd" else {}
        return Judgement(columns, after, norms)

    def figures(self, measure: Measure, population: Population, dataset: Dataset) -> list[float]:
        """What a measure says of each network on the images attacked, with its full budget.

        Errors as from `measures.judged`.
        """
        images, labels = self.images_of(dataset).first(self.images)
        whole = strict(measure)
        if self.cache is not None and is_share(whole):
            origin = plugin_record(measure_parts(MeasureSpec.parse(f"{measure.name}=1")))
            settings = {"pgd": self.pgd.describe(), "seed": self.seed}
            view = self.cache.view(
                images, labels, measure=measure.name, code=[__version__, origin], **settings
            )
            measure = CachedMeasure(whole, view)
        stage = Stage(self._pgd_on, self.seed)
        return judged([measure], population, images, labels, stage)[:, 0].tolist()

    def _pgd_on(self, threat: attacks.Threat) -> attacks.PGD:
        """The same PGD on another threat; a step that was chosen is one of its own norm."""
        step_size = self.step_size if threat.norm == self.threat.norm else None
        return replace(self, threat=threat, step_size=step_size).pgd

    def _run(
        self,
        networks: Population | Ensemble,
        images: tuple[Tensor, Tensor],
        attack: attacks.Attack | None,
        progress: Progress,
    ) -> RobustMasks:
        view = None
        if self.cache is not None:
            settings = None if attack is None else attack.describe()
            view = self.cache.view(*images, attack=settings, seed=self.seed)
        progress.start(len(networks) * len(images[1]))
        masks = attack_population(
            networks, *images, attack, self.seed, advance=progress.advance, cache=view
        )
        progress.finish()
        return masks

    def costs(self, dataset: Dataset, count: int) -> dict[str, float]:
        """About what `evaluate` costs for `count` networks, in forward passes, phase by phase."""
        split = self.images_of(dataset)
        some = count * min(self.images, len(split))
        costs = {"accuracy": float(count * len(split)), "pgd": some * cost(self.pgd)}
        if self.attack_name != "pgd":
            costs[self.threat.norm] = some * cost(self.attack)
        for other in self.others:
            costs[other.norm] = some * cost(replace(self, threat=other).attack)
        return costs

    def describe(self, dataset: Dataset) -> dict[str, Any]:
        """The attack, its every setting and how many images there really were, for the JSON."""
        images = min(self.images, len(self.images_of(dataset)))
        beside: dict[str, Any] = {"pgd": self.pgd.describe()} if self.attack_name != "pgd" else {}
        if self.others:
            beside["others"] = [replace(self, threat=t).attack.describe() for t in self.others]
        own = {"images": images, "split": self.split, "seed": self.seed}
        return {**self.attack.describe(), **beside, **own}

    def as_one(
        self,
        population: Population,
        dataset: Dataset,
        accuracy: float,
        progress: Progress = SILENT,
    ) -> dict[str, Any]:
        """Several networks that answer as one: "voting", or a "random_member" each query.

        accuracy: their mean, which is what to expect of drawing one.
        """
        some = self.images_of(dataset).first(self.images)
        drawn = random_ensemble(population, *some, self.threat, self.steps, self.seed)
        return {
            "voting": self.evaluate(Ensemble(population), dataset, progress)[0],
            "random_member": {"accuracy": accuracy, "robustness": drawn},
        }


def cost(attack: attacks.Attack) -> float:
    """About how many forward passes an attack takes for an image that survives it."""
    if isinstance(attack, attacks.Suite):
        return sum(map(cost, attack.attacks))
    numbers = [getattr(attack, name, 1) for name in ("steps", "restarts", "targets")]
    gradients = numbers[0] * numbers[1] * numbers[2]
    return float(3 * gradients + getattr(attack, "queries", 0))


def by_architecture(modules: Sequence[nn.Module]) -> list[list[int]]:
    """The indices of the modules that can form one population, or of an ensemble, by groups."""
    groups: dict[str, list[int]] = {}
    for index, module in enumerate(modules):
        alone = isinstance(module, Ensemble)
        groups.setdefault(str(index) if alone else architecture(module), []).append(index)
    return list(groups.values())


def beyond_dictionary(network: nn.Module, images: Tensor) -> dict[str, float]:
    """The share of inputs beyond the dictionary of a KAF, in the layer that has most; {} without.

    images: [N,C,H,W].
    """
    by_layer = outside_dictionary(network, images)
    return {"outside_dictionary": max(by_layer.values())} if by_layer else {}


def _all(masks: Any) -> Tensor:
    """Where all of several masks [P,N] are set."""
    first, *others = masks
    for mask in others:
        first = first & mask
    return first


def _shares(
    masks: Mapping[str, Tensor], like: Sequence[Any] | None = None
) -> list[dict[str, float]]:
    """Name -> share of images, a row a network; as many empty rows as `like` has without masks."""
    if not masks:
        return [{} for _ in like or ()]
    means = {name: mask.double().mean(1).tolist() for name, mask in masks.items()}
    count = len(next(iter(means.values())))
    return [{name: means[name][index] for name in means} for index in range(count)]
