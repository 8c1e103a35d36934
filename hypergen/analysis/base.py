"""What an analysis is: one question about networks, answered by figures and one picture."""

import abc
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import attacks
from hypergen.data import Dataset
from hypergen.errors import InputError, is_out_of_memory
from hypergen.evaluation.sampler import Sampler
from hypergen.measures.attacked import attacked_images, broken_images
from hypergen.report.tables import threat_text
from hypergen.runtime.progress import Progress
from targets import Population, TargetError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
"""Figures of one network by their names: numbers, or lists of numbers that a picture shows."""


class NotApplicable(InputError):
    """An analysis that says nothing of such networks; the message says why."""


REFUSALS = InputError, TargetError, attacks.AttackError
"""What says, in a line, why there is no answer."""


@dataclass(frozen=True)
class Group:
    """Networks of one architecture that are looked at together, such as the samples of a run.

    Attributes:
        name: what tables and pictures call it, such as "sample", "fbf" or the path of a file.
        population: its networks, on the device of the data set.
        description: what they are, such as "small-lenet5 with relu".
        files: that they come from, in order; none if they were in memory.
        sampler: of the run that drew them, where it is known.
        preferences: of each, the beta, radius or weights of measures it was drawn at; if known.
    """

    name: str
    population: Population
    description: str = ""
    files: tuple[str, ...] = ()
    sampler: Sampler | None = None
    preferences: tuple[Row, ...] = ()


@dataclass(frozen=True)
class Context:
    """On which images networks are looked at, and by which attack.

    dataset: with its test images, of which the first `count` are looked at; threat and attack: what
    attacked images are made by; seed: of all that is drawn; fitted: to populations, the universal
    perturbations that an analysis has made, for the others.
    """

    dataset: Dataset
    threat: attacks.Threat
    attack: attacks.Attack
    count: int
    seed: int = 0
    fitted: dict[Population, Tensor] = field(default_factory=dict, init=False, repr=False)

    def images(self, count: int | None = None) -> tuple[Tensor, Tensor]:
        """The first `count` test images [N,C,H,W] and their labels [N]; by default all."""
        return self.dataset.test.first(self.count if count is None else min(count, self.count))

    def attacked(self, population: Population, images: Tensor, labels: Tensor) -> Tensor:
        """[P,N,C,H,W], images [N,C,H,W] of labels [N] attacked against each network.

        By an attack that only evaluates, an image that it does not break stays as it is.
        """
        attack = attacked_images if self.attack.perturbs else broken_images
        return attack(population, images, labels, self.attack, self.seed)

    def rng(self) -> torch.Generator:
        """A source of random numbers on the CPU that always begins alike."""
        return torch.Generator().manual_seed(self.seed)

    def caption(self, groups: Iterable[Group]) -> str:
        """Data set, targets, threat, attack and images, as the title of a picture ends."""
        targets = dict.fromkeys(group.description for group in groups if group.description)
        threat = threat_text({"norm": self.threat.norm, "epsilon": self.threat.epsilon})
        images = f"{self.attack.name} on up to {self.count} test images"
        return ", ".join([self.dataset.title, *targets, threat, images])


@dataclass(frozen=True)
class Finding:
    """What an analysis found.

    Attributes:
        rows: of all networks, each with the name of its `group` and its number there as `network`;
            numbers that are not finite are None.
        skipped: the names of groups that it says nothing of, and why.
        failed: the names of groups, or "the picture", that it broke on, and how.
        figure: the picture; None where there is no row.
    """

    rows: list[Row]
    skipped: dict[str, str]
    failed: dict[str, str]
    figure: "Figure | None"


class Analysis(abc.ABC):
    """One question about networks. A subclass says what it measures, and draws it.

    Attributes:
        title: what is looked at, as headings have it.
        figures: what stands in the table: name of a figure in the rows -> what it is, with unit.
        by_default: whether it is run where no analysis is named.
        cost: how long it takes beside others, about seconds for ten small networks.
    """

    title: str
    figures: Mapping[str, str]
    by_default = True
    cost = 10.0

    @abc.abstractmethod
    def rows(self, group: Group, context: Context, progress: Progress) -> list[Row]:
        """A row for each network, in order.

        progress: to `start` with a number of units and `advance`.

        Raises:
            NotApplicable: it says nothing of such networks.
        """

    @abc.abstractmethod
    def draw(self, groups: Sequence[Group], rows: Sequence[Row], context: Context) -> "Figure":
        """A picture of the rows of these groups that can be understood without any text beside."""

    def run(self, groups: Sequence[Group], context: Context, progress: Progress) -> Finding:
        """Looks at all groups; one that it does not apply to costs the others nothing."""
        found: list[Row] = []
        skipped: dict[str, str] = {}
        failed: dict[str, str] = {}
        phases = progress.split({group.name: float(len(group.population)) for group in groups})
        for group in groups:
            try:
                found += rows_of(group, self.rows(group, context, phases[group.name]))
            except REFUSALS as error:
                skipped[group.name] = str(error.args[0])
            except Exception as error:  # whatever a stranger's analysis or network raises
                failed[group.name] = failure(error)
            finally:
                phases[group.name].finish()
        return self.pictured(groups, found, skipped, failed, context)

    def pictured(
        self,
        groups: Sequence[Group],
        rows: list[Row],
        skipped: dict[str, str],
        failed: dict[str, str],
        context: Context,
    ) -> Finding:
        """The rows of the groups with their picture, if it can be drawn."""
        from matplotlib.figure import Figure  # here, for it is slow to load

        shown = [group for group in groups if group.name not in skipped | failed]
        figure = None
        try:
            figure = self.draw(shown, rows, context) if shown else None
            if not isinstance(figure, Figure | None):
                raise TypeError(f"draw gave {type(figure).__name__}, no matplotlib Figure")
        except Exception as error:  # as above
            figure, failed["the picture"] = None, failure(error)
        return Finding(rows, skipped, failed, figure)


def rows_of(group: Group, rows: Any) -> list[Row]:
    """What an analysis says of a group as JSON can hold it, with the group's name and numbers.

    `TypeError`: something else than dictionaries of numbers, texts and lists of these.
    """
    return [
        {**_plain(dict(row)), "group": group.name, "network": number}
        for number, row in enumerate(rows)
    ]


def failure(error: Exception) -> str:
    """What went wrong, in words; raised again where memory ran out."""
    if is_out_of_memory(error):
        raise error
    return f"{type(error).__name__}: {error}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int | str):
        return value
    raise TypeError(f"a row holds {type(value).__name__}, which is no number")
