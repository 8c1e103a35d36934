"""Accuracy and robustness of networks, whether generated, trained here or brought along."""

import json
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy
import torch
from torch import Tensor, nn
from tyro.conf import arg

import attacks
import targets
from attacks.threat import NORMS
from hypergen import data
from hypergen.baseline import fresh_target
from hypergen.checks import Case, check
from hypergen.config import (
    CONFIG,
    require_at_least,
    require_known,
    require_norm,
    require_seed,
    threat_on,
)
from hypergen.data import Dataset
from hypergen.diversity import differences
from hypergen.errors import InputError
from hypergen.measure import survivors
from hypergen.moving_target import moving_target
from hypergen.record import Bits
from hypergen.tracking import Bar, write_text
from hypergen.weights_file import fill, load_network, metadata_if_ours, read_foreign
from targets import Ensemble, Population, WeightLayout, outside_dictionary

MEASURED = (
    "accuracy",
    "robustness",
    "interval",
    "pgd",
    "sra",
    "after",
    "norms",
    "union",
    "outside_dictionary",
    "attack",
    "epsilon",
    "norm",
)
"""What a file says of an earlier judgement, perhaps by another attack: never passed on as ours."""
Table = dict[str, Tensor]
"""Which images are left after each attack, by its name: bool [P,N]."""
OWN = {"attack", "dataset", "networks"}
"""What every JSON of a judgement has."""
QUANTILES = 0.05, 0.25, 0.5, 0.75, 0.95
OUTSIDE = "outside: inputs beyond the dictionary of their KAF, in the layer that has most"


@dataclass(frozen=True)
class JudgeConfig:
    """Which networks and images an attack is tried on, and how."""

    attack: str = "pgd"
    """any attack by its name, or torchattacks:NAME"""
    steps: int = 50
    """of PGD"""
    restarts: int = 10
    """of PGD"""
    step_size: float | None = None
    """length of a step of PGD, pixels in [0,1]; default: 2.5 * epsilon / steps"""
    epsilon: float | None = None
    """radius of the threat; default: what the networks were made for"""
    norm: str | None = None
    """of the threat: linf, l2 or l1; default: what the networks were made for"""
    images: int = 1000
    """test images attacked"""
    seed: int = 0
    """of the attacks' random starts"""
    dataset: str | None = None
    """default: what the networks were made for"""
    target: str | None = None
    """of a foreign state_dict"""
    activation: str = "relu"
    """of a foreign state_dict"""

    def __post_init__(self) -> None:
        if self.norm is not None:
            require_norm(self.norm)
        if self.dataset is not None:
            require_known("data set", self.dataset, data.names())
        targets.activation_factory(self.activation)  # raises TargetError
        if self.target is not None:
            require_known("target", self.target, targets.TARGETS)
        elif self.activation != JudgeConfig.activation:
            raise InputError("--activation is of a foreign state_dict: say its --target too")
        require_at_least(self, ("steps", "restarts", "images"), 1)
        if self.step_size is not None and not self.step_size > 0:
            raise InputError(f"--step-size must be above 0, got {self.step_size}")
        require_seed(self.seed)
        refused = []
        for norm in NORMS if self.norm is None else (self.norm,):  # which one, the networks say
            try:
                return self.require_attack(attacks.Threat(norm, 0.1))
            except attacks.AttackError as error:
                refused.append(error)
        raise refused[0]

    def require_attack(self, threat: attacks.Threat) -> None:
        """AttackError unless there is such an attack."""
        attacks.build(self.attack, threat)

    def judge(self, threat: attacks.Threat, bits: Bits | None = None) -> "Judge":
        """What these options make of a threat."""
        return Judge(
            threat,
            self.attack,
            self.steps,
            self.restarts,
            self.images,
            self.seed,
            self.step_size,
            bits,
        )


@dataclass(frozen=True)
class EvaluateConfig(JudgeConfig):
    """How networks are judged."""

    attack: Annotated[str, arg(aliases=["--suite"])] = "pgd"
    """pgd; standard: worst case of APGD-CE, APGD-T, FAB-T and Square; quick: the same, briefly;
    adaptive: and stronger ones where a network needs them (k-WTA: seconds an image);
    any other attack; torchattacks:NAME"""
    images: int = 1000
    """test images attacked; accuracy is over all"""
    together: bool = False
    """judge the networks also as one: voting, and drawing another network for every query"""
    checks: bool = False
    """look for signs that the figure is not real: masked gradients, saturation, randomness, ..."""
    norms: str | None = None
    """judge in several norms and in all at once (union), instead of --norm and --epsilon: norms
    with their radii, such as linf=0.3,l2=1.5,l1=10; --checks and --together's drawing look at the
    first"""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.norms is not None:
            if self.norm is not None or self.epsilon is not None:
                raise InputError("--norms says norms and radii: leave out --norm and --epsilon")
            if self.step_size is not None:
                raise InputError("--step-size is of one norm: leave it out with --norms")
            for threat in threats_from(self.norms):
                self.require_attack(threat)


def threats_from(text: str) -> list[attacks.Threat]:
    """The threats that --norms names, as in "linf=0.3,l2=1.5"; `InputError` for anything else."""
    threats: dict[str, attacks.Threat] = {}
    for part in text.split(","):
        norm, _, radius = part.strip().partition("=")
        require_known("norm", norm, NORMS)
        if norm in threats:
            raise InputError(f"--norms names {norm} twice")
        try:
            epsilon = float(radius)
        except ValueError:
            raise InputError(f"--norms: {norm} needs a radius, as in {norm}=0.3") from None
        threats[norm] = attacks.Threat(norm, epsilon)
    return list(threats.values())


@dataclass(frozen=True)
class Network:
    """A network to be judged, and what its file says of it."""

    file: Path
    module: nn.Module
    metadata: dict[str, Any]


def find(paths: Iterable[Path]) -> list[Path]:
    """The weight files that runs, folders and files stand for, in order; `InputError` if none."""
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            folder = path / "samples" if (path / CONFIG).exists() else path
            inside = sorted(folder.glob("*.safetensors"))
            if not inside:
                raise InputError(f"{folder} holds no .safetensors files")
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"no such file or folder: {path}")
    if not files:
        raise InputError("nothing to evaluate: give a run, a folder of samples or a weight file")
    return files


def open_networks(
    files: Iterable[Path], target: str | None, activation: str, dataset: str | None
) -> list[Network]:
    """Opens weight files; foreign state dicts need the target that they are weights of."""
    networks, foreign = [], False
    for file in files:
        metadata = metadata_if_ours(file)
        if metadata is not None:
            networks.append(Network(file, load_network(file), metadata))
            continue
        if target is None:
            raise InputError(
                f"{file} does not say what it holds; name its --target and --activation"
            )
        if dataset is None:
            raise InputError("a foreign state_dict needs --dataset")
        foreign = True
        module = fresh_target(target, activation, dataset)
        networks.append(Network(file, fill(module, read_foreign(file), file), {"target": target}))
    if target is not None and not foreign:
        raise InputError("--target is of a foreign state_dict; these files say what they hold")
    return networks


@dataclass(frozen=True)
class Judge:
    """The attacks and images that networks are judged by.

    Args:
        threat: what the attacker may do.
        attack: as `attacks.build` knows it; "standard" for standard robust accuracy.
        steps, restarts, step_size: of PGD.
        images: how many of the first test images are attacked; accuracy is over all of them.
        seed: of the attacks' random starts.
        bits: where what was found is kept, and read when it is there already.
        others: threats of other norms, judged by the same attack beside `threat`.
    """

    threat: attacks.Threat
    attack: str = "pgd"
    steps: int = 50
    restarts: int = 10
    images: int = 1000
    seed: int = 0
    step_size: float | None = None
    bits: Bits | None = None
    others: tuple[attacks.Threat, ...] = ()

    @property
    def pgd(self) -> attacks.PGD:
        """The PGD that is always shown."""
        return attacks.PGD(self.threat, self.steps, self.step_size, self.restarts)

    @property
    def judging(self) -> attacks.Attack:
        """The attack whose figure is called robustness."""
        return self.pgd if self.attack == "pgd" else attacks.build(self.attack, self.threat)

    def judge(
        self, population: Population | Ensemble, dataset: Dataset, label: str
    ) -> list[dict[str, Any]]:
        """A row a network: accuracy, robustness, pgd (all in [0,1]), and what each attack left.

        Beside robustness stands the interval that so few images leave open (see `interval`). With
        other threats also robustness in each norm, and "union": the share that survives them all.
        Of networks with KAFs outside_dictionary: the share of inputs beyond the dictionary of a
        KAF, where its gradient vanishes, in the layer that has most; clean images.
        """
        test, some = dataset.test.first(len(dataset.test)), dataset.test.first(self.images)

        def left(name: str, attack: attacks.Attack | None, part: tuple[Tensor, Tensor]) -> Table:
            """Which images are left after each attack, bool [P,N]."""
            # A bar each, for an image costs a thousand times more here than there.
            bar = Bar(f"{label}, {name}", len(population) * len(part[1]))
            record = None
            if self.bits is not None:
                what = attack and attack.describe()
                record = self.bits.about(dataset=dataset.name, attack=what, seed=self.seed)
            table = survivors(
                population, *part, attack, self.seed, progress=bar.advance, record=record
            )
            bar.close()
            return table

        def last(table: Table) -> Tensor:
            return list(table.values())[-1]

        columns = {"accuracy": last(left("accuracy", None, test))}
        columns["robustness"] = columns["pgd"] = last(left("pgd", self.pgd, some))
        after: Table = {}
        if self.attack != "pgd":
            after = left("robustness", self.judging, some)
            after.pop("clean")
            columns["robustness"] = last(after)
        if self.attack == "standard":
            columns["sra"] = columns["robustness"]
        norms: Table = {}
        if self.others:
            norms = {self.threat.norm: columns["robustness"]} | {
                other.norm: last(left(other.norm, replace(self, threat=other).judging, some))
                for other in self.others
            }
            columns["union"] = torch.stack(list(norms.values())).all(0)

        def shares(table: Table) -> list[dict[str, float]]:
            means = {name: bits.float().mean(1).tolist() for name, bits in table.items()}
            return [{name: means[name][i] for name in means} for i in range(len(population))]

        rows: list[dict[str, Any]] = [*shares(columns)]
        for row, parts, by_norm in zip(rows, shares(after), shares(norms), strict=True):
            row["interval"] = interval(row["robustness"], len(some[1]))
            row |= ({"after": parts} if parts else {}) | ({"norms": by_norm} if by_norm else {})
        if isinstance(population, Population):  # of those that vote it stands with the members
            for index, row in enumerate(rows):
                by_layer = outside_dictionary(population.module_at(index), some[0])
                row |= {"outside_dictionary": max(by_layer.values())} if by_layer else {}
        return rows

    def describe(self, dataset: Dataset) -> dict[str, Any]:
        """The attack, its every setting and how many images there really were, for the JSON."""
        images = min(self.images, len(dataset.test))
        beside: dict[str, Any] = {"pgd": self.pgd.describe()} if self.attack != "pgd" else {}
        if self.others:
            beside["others"] = [replace(self, threat=t).judging.describe() for t in self.others]
        return {**self.judging.describe(), **beside, "images": images, "seed": self.seed}


def by_architecture(modules: Sequence[nn.Module]) -> list[list[int]]:
    """The places of the modules that can form one population, group by group."""
    groups: dict[str, list[int]] = {}
    for index, module in enumerate(modules):
        key = WeightLayout.of(module).fingerprint + repr(module)
        groups.setdefault(key, []).append(index)
    return list(groups.values())


def evaluate(
    networks: Sequence[Network],
    dataset: Dataset,
    judge: Judge,
    device: torch.device,
    together: bool = False,
    checks: bool = False,
) -> dict[str, Any]:
    """What `hypergen evaluate --json` writes: attack, dataset, networks and summary.

    With `together` also how they do as one, by voting and drawn anew for every query; with `checks`
    every network's row has besides what `checks.check` reports.
    """
    groups = by_architecture([network.module for network in networks])
    rows: list[dict[str, Any]] = [{} for _ in networks]
    if together and len(groups) > 1:
        raise InputError("--together needs networks of one architecture")
    for members in groups:
        population = Population.of(networks[i].module.to(device) for i in members)
        for i, row in zip(members, judge.judge(population, dataset, "evaluating"), strict=True):
            said = {k: v for k, v in networks[i].metadata.items() if k not in MEASURED}
            rows[i] = {**said, "file": str(networks[i].file), **row}
        if checks:
            case = Case(population, *dataset.test.first(judge.images), judge.threat, judge.seed)
            for i, report in zip(members, check(case), strict=True):
                rows[i] |= report
    summary = summarise(rows)
    if len(groups) == 1 and len(networks) > 1:
        population = Population.of(network.module for network in networks)
        summary |= differences(population, *dataset.test.first(10_000))
    result = {
        "attack": judge.describe(dataset),
        "dataset": dataset.name,
        "networks": rows,
        "summary": summary,
    }
    if together:
        result["together"] = as_one(
            [network.module for network in networks], dataset, judge, summary["accuracy"]["mean"]
        )
    return result


def as_one(
    modules: Sequence[nn.Module], dataset: Dataset, judge: Judge, accuracy: float
) -> dict[str, Any]:
    """Figures of several networks that answer as one: "voting", and "redrawn" for every query.

    accuracy: their mean, which is what to expect of drawing one.
    """
    population, some = Population.of(modules), dataset.test.first(judge.images)
    redrawn = moving_target(population, *some, judge.threat, judge.steps, judge.seed)
    return {
        "voting": judge.judge(Ensemble(population), dataset, "voting")[0],
        "redrawn": {"accuracy": accuracy, "robustness": redrawn},
    }


def interval(share: float, images: int) -> list[float]:
    """Wilson's 95 % confidence interval of a share in [0,1] found on so many images."""
    from scipy.stats import binomtest  # here, for it is slow to load

    found = binomtest(round(share * images), images).proportion_ci(method="wilson")
    return [float(found.low), float(found.high)]


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Count, and mean, standard deviation, least, greatest and `QUANTILES` of each figure."""
    summary: dict[str, Any] = {"count": len(rows)}
    for name in ("accuracy", "robustness", "pgd", "sra", "union", "outside_dictionary"):
        values = [row[name] for row in rows if name in row]
        if values:
            summary[name] = {
                "count": len(values),
                "mean": statistics.fmean(values),
                "std": statistics.pstdev(values),
                "min": min(values),
                "max": max(values),
                "quantiles": numpy.quantile(values, QUANTILES).tolist(),
            }
    return summary


def agreed(networks: Sequence[Network], field: str, option: str) -> Any:
    """The value of `field` that all files share, None if none has it.

    `InputError`, naming the `option` that decides, if they differ.
    """
    values = {network.metadata[field] for network in networks if field in network.metadata}
    if len(values) > 1:
        differing = ", ".join(sorted(map(str, values)))
        raise InputError(f"the networks differ in {field} ({differing}); choose one by {option}")
    return values.pop() if values else None


def text_table(result: dict[str, Any]) -> str:
    """The result as a table: a line a network, then the mean."""
    attack = result["attack"]
    # PGD that is judged by stands alone: beside another attack there is its description.
    figure = {"standard": "sra"}.get(attack["name"], "robustness" if "pgd" in attack else None)
    norm = f" {attack['threat']['norm']}" if "others" in attack else ""
    heads = {"accuracy": "accuracy"} | {name: name + norm for name in ("pgd", figure) if name}
    heads |= {"union": "union"} if norm else {}
    has_kafs = "outside_dictionary" in result["summary"]
    heads |= {"outside_dictionary": "outside"} if has_kafs else {}
    width = max(12, *(2 + len(head) for head in heads.values()))
    lines = [f"{'network':<40}" + "".join(f"{head:>{width}}" for head in heads.values())]

    def line(label: str, figures: Mapping[str, float]) -> None:
        cells = (f"{100 * figures[name]:.2f}" if name in figures else "-" for name in heads)
        lines.append(f"{label:<40}" + "".join(f"{cell:>{width}}" for cell in cells))

    for row in result["networks"]:
        line(short(row["file"]), row)
    if len(result["networks"]) > 1:
        line("mean", {name: result["summary"][name]["mean"] for name in heads})
    for way, row in result.get("together", {}).items():
        # The drawing is attacked by a PGD of its own, and by nothing else.
        pgd_only = {"accuracy": row["accuracy"], "pgd": row["robustness"]}
        line(way, row if "pgd" in row else pgd_only)
    for row in result["networks"]:
        if "verdict" in row:
            reasons = "; ".join(row["reasons"]) or f"all {len(row['checks'])} checks"
            lines.append(f"{short(row['file'])}: {row['verdict']} ({reasons})")
    others = [other["threat"] for other in attack.get("others", [])]
    threats = [f"{t['norm']}, epsilon {t['epsilon']:.4g}" for t in (attack["threat"], *others)]
    lines.append(
        f"% of images; {result['dataset']} test, accuracy on all, attacks on the first "
        f"{attack['images']}; {threats[0]}, {attack['name']}"
        + (f", beside {attack['pgd']['name']}" if "pgd" in attack else "")
    )
    open_by = max(
        abs(end - row["robustness"]) for row in result["networks"] for end in row["interval"]
    )
    lines.append(
        f"{attack['images']} images leave each network's {heads[figure or 'pgd']} open by up to "
        f"{100 * open_by:.1f} points (95 %)"
    )
    if has_kafs:
        lines.append(OUTSIDE)
    if others:
        means = [
            f"{norm} {100 * statistics.fmean(row['norms'][norm] for row in result['networks']):.2f}"
            for norm in result["networks"][0]["norms"]
        ]
        lines.append(f"in each norm: {', '.join(means)}; union: {' and '.join(threats)}")
    if figure is None:
        lines.append("PGD alone flatters: --attack standard gives standard robust accuracy")
    elif result["summary"][figure]["mean"] > result["summary"]["pgd"]["mean"]:
        lines.append(f"{attack['name']} is weaker here than PGD, which itself flatters")
    return "\n".join(lines)


def short(file: str) -> str:
    """The end of a path, 40 characters at most."""
    return file if len(file) <= 40 else "..." + file[-37:]


def require_writable(file: Path, option: str) -> None:
    """`InputError` unless the file can be written, said before the long work."""
    if not file.parent.is_dir():
        raise InputError(f"{option}: there is no folder {file.parent}")
    special = file.exists() and not file.is_file()  # a folder, a pipe, ...
    if special or not os.access(file.parent, os.W_OK | os.X_OK):
        raise InputError(f"{option}: {file} cannot be written")


def require_json(file: Path) -> None:
    """`InputError` unless --json may write the file: a new one, or over what it wrote before."""
    require_writable(file, "--json")
    if not file.exists():
        return
    try:
        found = json.loads(file.read_text())
    except ValueError:
        found = None
    if not isinstance(found, dict) or not found.keys() >= OWN or "value_network" in found:
        raise InputError(f"--json: {file} exists and is no earlier result; choose another name")


def open_for(
    files: Sequence[Path], options: JudgeConfig
) -> tuple[list[Network], str, attacks.Threat]:
    """The networks, the data set and the threat that the files and the options agree on."""
    networks = open_networks(files, options.target, options.activation, options.dataset)
    name = options.dataset or agreed(networks, "dataset", "--dataset")
    if name is None:
        raise InputError("the files do not name a data set; choose one by --dataset")
    require_known("data set", name, data.names())
    shape = list(data.image_shape(name))
    for network in networks:
        taken = network.metadata.get("input_shape", shape)
        if taken != shape:
            raise InputError(f"{network.file} takes images {taken}; those of {name} are {shape}")
    norm = options.norm or agreed(networks, "norm", "--norm") or "linf"
    epsilon = options.epsilon
    if epsilon is None:
        # A radius means nothing in another norm.
        alike = [network for network in networks if network.metadata.get("norm", "linf") == norm]
        epsilon = agreed(alike, "epsilon", "--epsilon")
    return networks, name, threat_on(name, norm, epsilon)


def evaluate_files(
    paths: Sequence[Path],
    options: EvaluateConfig,
    device: torch.device,
    data_dir: Path | None,
    json_file: Path | None,
) -> dict[str, Any]:
    """`hypergen evaluate`: opens, judges, prints the table, writes the JSON."""
    files = find(paths)
    if json_file is not None:
        require_json(json_file)
    if options.together and len(files) < 2:
        raise InputError("--together needs several networks, got one")
    others: list[attacks.Threat] = []
    if options.norms is not None:
        first, *others = threats_from(options.norms)
        options = replace(options, norm=first.norm, epsilon=first.epsilon, norms=None)
    networks, name, threat = open_for(files, options)
    if options.checks and threat.epsilon == 0:
        raise InputError("--checks needs an --epsilon above 0: without one there is no figure")
    bits = None if json_file is None else Bits(json_file.with_suffix(".survivors.jsonl"))
    judge = replace(options.judge(threat, bits), others=tuple(others))
    judge.judging  # noqa: B018  (refuses a norm that the attack does not know)
    dataset = data.load(name, data_dir, device)
    try:
        result = evaluate(networks, dataset, judge, device, options.together, options.checks)
    except KeyboardInterrupt:
        again = "" if json_file is None else "; repeat the command to continue"
        raise KeyboardInterrupt(again) from None
    print(text_table(result))
    if json_file is not None:
        write_text(json_file, json.dumps(result, indent=1) + "\n")
    return result
