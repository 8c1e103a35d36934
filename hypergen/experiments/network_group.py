"""Judges networks of one architecture together; one that fails costs the others nothing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import attacks
from hypergen.data import Dataset
from hypergen.errors import InputError, RunError
from hypergen.evaluation.evaluator import Evaluator, cost
from hypergen.evaluation.sanity_checks import CheckContext, check
from hypergen.measures import Measure
from hypergen.runtime.progress import Progress
from targets import Ensemble, Population, TargetError

FAILURES = InputError, RunError, attacks.AttackError, TargetError
"""What a measure may raise that it cannot be taken of a network with."""


@dataclass(frozen=True)
class NetworkGroup:
    """Judges networks of one architecture, which are known by their indices among all."""

    evaluator: Evaluator
    dataset: Dataset
    device: torch.device
    checks: bool
    measures: Sequence[Measure]
    progress: Progress

    def rows(
        self, modules: dict[int, nn.Module], failed: dict[int, str]
    ) -> dict[int, dict[str, Any]]:
        """A row a network; one that gives no numbers is noted in `failed` and left out.

        So is, of one that a measure fails on, the figure of that measure alone.
        """
        phases = self.progress.split(self._costs(len(modules)))
        rows = self._attacked(modules, failed, phases["attacks"])
        phases["measures"].start(len(modules) * len(self.measures))
        for measure in self.measures:
            sound = {index: modules[index] for index in rows}
            for index, figure in self._figures(measure, sound, failed).items():
                rows[index][measure.name] = figure
            phases["measures"].advance(len(modules))
        return rows

    def _costs(self, count: int) -> dict[str, float]:
        """About what each phase costs; a measure, of which nothing is known, as much as PGD."""
        images = min(self.evaluator.images, len(self.dataset.test))
        each = count * images * cost(self.evaluator.pgd)
        attacked = sum(self.evaluator.costs(self.dataset, count).values())
        return {"attacks": attacked, "measures": each * len(self.measures)}

    def _attacked(
        self, modules: dict[int, nn.Module], failed: dict[int, str], progress: Progress
    ) -> dict[int, dict[str, Any]]:
        if not modules:
            return {}
        try:
            judged = self._judge(list(modules.values()), progress)
            return dict(zip(modules, judged, strict=True))
        except attacks.AttackError as error:
            indices = list(modules)
            sick = {indices[position] for position in error.networks}
            if len(modules) == 1:
                sick = {*indices}
            failed |= dict.fromkeys(sick, str(error.args[0]))
        sound = {index: module for index, module in modules.items() if index not in sick}
        if sick:
            return self._attacked(sound, failed, progress)
        alone = [
            self._attacked({index: module}, failed, progress) for index, module in sound.items()
        ]
        return {index: row for own in alone for index, row in own.items()}

    def _judge(self, modules: list[nn.Module], progress: Progress) -> list[dict[str, Any]]:
        one = modules[0].to(self.device)
        if isinstance(one, Ensemble):  # which is a group by itself
            return self.evaluator.evaluate(one, self.dataset, progress)
        population = self._population(modules)
        rows = self.evaluator.evaluate(population, self.dataset, progress)
        if self.checks:
            some = self.dataset.test.first(self.evaluator.images)
            context = CheckContext(population, *some, self.evaluator.threat, self.evaluator.seed)
            for row, found in zip(rows, check(context), strict=True):
                row |= found
        return rows

    def _population(self, modules: Iterable[nn.Module]) -> Population:
        return Population.of(module.to(self.device) for module in modules)

    def _figures(
        self, measure: Measure, modules: dict[int, nn.Module], failed: dict[int, str]
    ) -> dict[int, float]:
        """What a measure says of each network; one that it fails on is noted in `failed`."""
        if not modules:
            return {}
        try:
            population = self._population(modules.values())
            figures = self.evaluator.figures(measure, population, self.dataset)
            return dict(zip(modules, figures, strict=True))
        except FAILURES as error:
            sick = dict.fromkeys(modules, str(error.args[0]))
        if len(modules) > 1:
            alone: dict[int, str] = {}
            for index, module in modules.items():
                self._figures(measure, {index: module}, alone)
            sick = alone or sick  # where none fails alone, all do together
        for index, reason in sick.items():
            failed[index] = f"{failed[index]}; {reason}" if index in failed else reason
        # Measured again together, for a figure may depend on the other networks.
        sound = {index: module for index, module in modules.items() if index not in sick}
        return self._figures(measure, sound, failed)
