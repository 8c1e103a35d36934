"""The command line: parsing, and errors said in one line."""

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import torch
import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional

from attacks import AttackError
from hypergen import __version__
from hypergen.baseline import BaselineConfig, make_baseline
from hypergen.config import (
    CONFIG,
    SweepConfig,
    TrainConfig,
    preset,
    require_folder,
    require_known,
)
from hypergen.errors import InputError, RunError, nearest
from hypergen.evaluate import EvaluateConfig, evaluate_files
from hypergen.find_lr import find_lr
from hypergen.report import ReportConfig
from hypergen.run import report_settings, run
from hypergen.sample import SampleConfig, draw_samples
from hypergen.transfer import TransferConfig, transfer_files
from targets import TargetError

Args = TypeVar("Args")


@dataclass(frozen=True)
class Machine:
    """Where the data are and what computes."""

    data_dir: Path | None = None
    """folder of the data sets; default: HYPERGEN_DATA, else ~/.cache/hypergen"""
    device: str = "auto"
    """auto, cpu or cuda"""


@dataclass(frozen=True)
class TrainArgs:
    """Train a generator of network weights, then measure its samples beside direct training."""

    training: OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)
    report: OmitArgPrefixes[ReportConfig] = field(default_factory=ReportConfig)
    preset: str | None = None
    """start from the settings of a published protocol: thesis"""
    out: Path | None = None
    """the run's folder; default: a dated one under runs/"""
    resume: bool = False
    """continue the run in --out from its last checkpoint"""
    no_baseline: bool = False
    """do not train networks directly for comparison"""


@dataclass(frozen=True)
class SampleArgs:
    """Draw networks from a trained generator; rank them, verify the best, write them."""

    run: Positional[Path]
    """folder of a run"""
    sampling: OmitArgPrefixes[SampleConfig]
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)
    out: Path | None = None
    """folder for the networks; default: RUN/samples-seedS"""


@dataclass(frozen=True)
class EvaluateArgs:
    """Measure accuracy and robustness of networks on test images."""

    paths: Positional[tuple[Path, ...]]
    """runs, folders of samples, weight files, or foreign state dicts"""
    judging: OmitArgPrefixes[EvaluateConfig] = field(default_factory=EvaluateConfig)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)
    json: Path | None = None
    """write the figures of every network here; what is found meanwhile stands beside it, in
    NAME.survivors.jsonl, and the same call goes on from there"""


@dataclass(frozen=True)
class TransferArgs:
    """Try on every network what was made to fool each other one."""

    paths: Positional[tuple[Path, ...]]
    """runs, folders of samples, weight files, or foreign state dicts"""
    judging: OmitArgPrefixes[TransferConfig] = field(default_factory=TransferConfig)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)
    json: Path | None = None
    """write the matrix here"""
    picture: Path | None = None
    """draw the matrix here, in the format that the name ends in (.png, .pdf, .svg, ...)"""


@dataclass(frozen=True)
class BaselineArgs:
    """Train one network directly: ordinarily, by FBF or by PGD."""

    training: OmitArgPrefixes[BaselineConfig] = field(default_factory=BaselineConfig)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)
    out: Path | None = None
    """folder for network.safetensors; default: a dated one under runs/"""
    resume: bool = False
    """continue the training in --out, given the same options, after its last whole epoch"""
    find_lr: bool = False
    """train no network: try out learning rates, suggest bounds and draw the curve"""


@dataclass(frozen=True)
class SweepArgs:
    """Many runs of `train`, their settings chosen by Optuna for accuracy and robustness."""

    search: OmitArgPrefixes[SweepConfig] = field(default_factory=SweepConfig)
    training: OmitArgPrefixes[TrainConfig] = field(default_factory=TrainConfig)
    machine: OmitArgPrefixes[Machine] = field(default_factory=Machine)
    report: OmitArgPrefixes[ReportConfig] = field(
        default_factory=lambda: ReportConfig(samples=8, sra_samples=2, sra_images=50)
    )
    preset: str | None = None
    """start from the settings of a published protocol: thesis"""
    out: Path | None = None
    """the sweep's folder; default: a dated one under runs/"""


@dataclass(frozen=True)
class Start:
    """The options that decide what is the default of the others, which are looked at after them."""

    preset: str | None = None
    out: Path | None = None
    resume: bool = False

    @classmethod
    def of(cls, rest: list[str]) -> "Start":
        """Those among a command's arguments; the defaults where these are wrong or ask for help."""
        if {"-h", "--help"} & set(rest):
            return cls()
        try:
            with contextlib.redirect_stderr(io.StringIO()):
                return tyro.cli(
                    cls, args=rest, return_unknown_args=True, config=(FlagCreatePairsOff,)
                )[0]
        except SystemExit:
            return cls()


def main(arguments: list[str] | None = None) -> int:
    """Entry point: 0 done, 1 a failed run, 2 bad input, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    return exit_status(lambda: run_command(arguments))


def exit_status(action: Callable[[], None]) -> int:
    """Of a command: what went wrong, and warnings, are said in one line. As `main` returns it."""
    warnings.formatwarning = lambda message, *_: f"hypergen: {message}\n"
    try:
        action()
        return 0
    except (InputError, AttackError, TargetError) as error:
        print(f"hypergen: {error}", file=sys.stderr)
        return 2
    except RunError as error:
        print(f"hypergen: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as interrupt:
        print(f"hypergen: interrupted{interrupt}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # no space, no permission
        print(f"hypergen: {error}", file=sys.stderr)
        return 1


def run_command(arguments: list[str]) -> None:
    """Finds the subcommand, parses its arguments and runs it."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    if arguments[0] == "--version":
        print(f"hypergen {__version__}")
        return
    name, rest = arguments[0], arguments[1:]
    if name not in COMMANDS:
        raise InputError(
            f'unknown command "{name}"{nearest(name, COMMANDS)}; known: {", ".join(COMMANDS)}'
        )
    kind, command = COMMANDS[name]
    command(parse(kind, name, rest))


def usage() -> str:
    """What `hypergen --help` prints."""
    lines = ["usage: hypergen COMMAND [options]   (hypergen COMMAND --help lists them)", ""]
    return "\n".join(
        lines + [f"  {name:<10}{kind.__doc__}" for name, (kind, _) in COMMANDS.items()]
    )


def parse(kind: type[Args], name: str, rest: list[str]) -> Args:
    """The arguments of one subcommand; `InputError` in one line.

    A preset, or the configuration of the run to resume, replaces the defaults first.
    """
    start = Start.of(rest) if name in ("train", "sweep") else Start()
    defaults: dict[str, Any] = {}
    if start.preset is not None:
        defaults["training"] = preset(start.preset)
    if name == "train" and start.resume:
        if start.out is None:
            raise InputError("--resume needs --out, the folder of the run to continue")
        if start.preset is not None:
            raise InputError("--preset with --resume: a run is continued with its own settings")
        defaults["training"] = TrainConfig.load(start.out / CONFIG)
        defaults["report"], _ = report_settings(start.out)
    return parse_with(kind, name, rest, kind(**defaults) if defaults else None)


def parse_with(kind: type[Args], name: str, rest: list[str], default: Args | None) -> Args:
    """Arguments on top of `default`."""
    complaint = io.StringIO()
    options: dict[str, Any] = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                kind, args=rest, prog=f"hypergen {name}", config=(FlagCreatePairsOff,), **options
            )
    except SystemExit as stop:
        if stop.code in (0, None):  # --help
            raise
        raise InputError(one_line(complaint.getvalue())) from None


def one_line(box: str) -> str:
    """What tyro draws as a box: the complaint itself, and the option it suggests."""
    # Without UTF-8 the box is drawn with dashes.
    lines = [re.sub(r"[│╭╮╰╯]|[─-]{4,}", " ", line).strip() for line in box.splitlines()[1:]]
    sections = " ".join(line or "\n" for line in lines).split("\n")
    said = next((section.strip() for section in sections if section.strip()), "bad arguments")
    hint = re.search(r"Perhaps you meant:\s+(--[\w-]+)", box.replace("│", ""))
    said = re.sub(r"^Error parsing (training|sampling|judging|search|machine|report): ", "", said)
    return f"{said} (did you mean {hint[1]}?)" if hint else said


def dated(kind: str) -> Path:
    """A folder under runs/ named by the time, so exactly that no two commands share one."""
    return Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{kind}"


def choose_device(name: str) -> torch.device:
    """The torch device for auto, cpu or cuda."""
    require_known("device", name, ("auto", "cpu", "cuda"))
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no CUDA device here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def train(args: TrainArgs) -> None:
    """`hypergen train`."""
    folder = args.out or dated("train")
    baselines = not args.no_baseline
    if args.resume:
        baselines = baselines and report_settings(folder)[1]
    run(
        args.training,
        folder,
        choose_device(args.machine.device),
        args.machine.data_dir,
        args.report,
        baselines=baselines,
        resume=args.resume,
    )


def sample(args: SampleArgs) -> None:
    """`hypergen sample`."""
    device = choose_device(args.machine.device)
    out = args.out or args.run / f"samples-seed{args.sampling.seed}"
    draw_samples(args.run, out, device, args.machine.data_dir, args.sampling)


def evaluate(args: EvaluateArgs) -> None:
    """`hypergen evaluate`."""
    evaluate_files(
        args.paths,
        args.judging,
        choose_device(args.machine.device),
        args.machine.data_dir,
        args.json,
    )


def transfer(args: TransferArgs) -> None:
    """`hypergen transfer`."""
    transfer_files(
        args.paths,
        args.judging,
        choose_device(args.machine.device),
        args.machine.data_dir,
        args.json,
        args.picture,
    )


def baseline(args: BaselineArgs) -> None:
    """`hypergen baseline`."""
    if args.resume and args.out is None:
        raise InputError("--resume needs --out, the folder of the training to continue")
    if args.find_lr:
        require_range_test(args)
    out = args.out or dated(args.training.method)
    require_folder(out)
    where = choose_device(args.machine.device), args.machine.data_dir
    if args.find_lr:
        find_lr(args.training, out, *where)
    else:
        make_baseline(args.training, out, *where, resume=args.resume)


def require_range_test(args: BaselineArgs) -> None:
    """`InputError` for options of a training that the range test does not have."""
    usual = BaselineConfig()
    given = [
        f"--{name.replace('_', '-')}"
        for name in ("epochs", "learning_rate", "share_start", "ema_decay")
        if getattr(args.training, name) != getattr(usual, name)
    ]
    if args.resume:
        given.append("--resume")
    if given:
        raise InputError(f"--find-lr trains no network: leave out {', '.join(given)}")


def sweep(args: SweepArgs) -> None:
    """`hypergen sweep`."""
    from hypergen.sweep import run_sweep  # here, for Optuna takes a second to import

    choose_device(args.machine.device)  # a wrong one is said once, not by every trial
    run_sweep(
        args.training,
        args.out or dated("sweep"),
        args.search,
        args.machine.device,
        args.machine.data_dir,
        args.report,
    )


COMMANDS: dict[str, tuple[type, Callable[[Any], None]]] = {
    "train": (TrainArgs, train),
    "sample": (SampleArgs, sample),
    "evaluate": (EvaluateArgs, evaluate),
    "transfer": (TransferArgs, transfer),
    "baseline": (BaselineArgs, baseline),
    "sweep": (SweepArgs, sweep),
}
