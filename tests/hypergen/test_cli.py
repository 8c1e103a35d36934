import os
import pickle
import re
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hypergen
from hypergen.cli import COMMANDS, dated, main
from hypergen.config import PRESETS, TrainConfig, preset
from hypergen.lock import locked
from hypergen.run import report_settings, run
from hypergen.weights_file import load_network, read_metadata, save_network


class Malice:
    def __reduce__(self):
        return os.system, ("touch malice",)


@pytest.fixture
def here(tmp_path, monkeypatch, base) -> Path:
    """A folder to work in, with everything that can be wrong."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYPERGEN_DATA", raising=False)
    (tmp_path / "base.safetensors").write_bytes(base.read_bytes())
    Path("foreign.safetensors").write_bytes(b"plain text, and not a short one")
    Path("truncated.safetensors").write_bytes(base.read_bytes()[:-9])
    state, metadata = load_network(base).state_dict(), read_metadata(base)
    torch.save(state, "plain.pt")
    torch.save({"state_dict": Malice()}, "malice.pt")
    Path("malice.safetensors").write_bytes(pickle.dumps(Malice()))
    save_network(Path("shape.safetensors"), {k: v[:3] for k, v in state.items()}, metadata)
    Path("file").write_text("not a folder")
    Path("empty").mkdir()
    Path("full").mkdir()
    Path("full", "something").touch()
    Path("run").mkdir()
    TrainConfig(target="mlp", steps=3).save(Path("run", "config.json"))
    Path("broken").mkdir()
    Path("broken", "config.json").write_text("{")
    Path("other").mkdir()
    Path("other", "config.json").write_text('{"stepps": 3}')
    raw = Path("damaged", "MNIST", "raw")
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            Path(raw, f"{part}-{kind}-ubyte").write_bytes(b"damaged")
    return tmp_path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


TRAIN = "train --target mlp"
BAD = [
    # commands and options
    ("trian", 'unknown command "trian" (did you mean "train"?)'),
    ("train --bta 0.5", "Unrecognized options: --bta, 0.5 (did you mean --beta?)"),
    ("train stray", "stray"),
    ("evaluate", "nothing to evaluate"),
    ("sample", "--count"),
    ("sample run", "--count"),
    # names
    ("train --dataset mnst", 'unknown dataset "mnst" (did you mean "mnist"?)'),
    ("train --target lenet", 'unknown target "lenet" (did you mean "lenet5"?)'),
    ("train --activation rellu", "unknown activation 'rellu'; did you mean 'relu'?"),
    ("baseline --activation kwta-2", "activation 'kwta-2': expected kwta-<share>"),
    ("train --objective dirct", 'unknown objective "dirct" (did you mean "direct"?)'),
    ("train --value-network sett", 'unknown value-network "sett" (did you mean "set"?)'),
    ("train --generator chunky", 'unknown generator "chunky" (did you mean "chunk"?)'),
    ("train --measurer margn", 'unknown measurer "margn" (did you mean "margin"?)'),
    ("train --diversity -1", "--diversity must be at least 0, got -1"),
    ("train --epsilon-factor inf", "--epsilon-factor must be at least 0, got inf"),
    ("train --surprise 2", "--surprise must lie in [0,1], got 2"),
    ("train --schedule cosin", 'unknown schedule "cosin" (did you mean "cosine"?)'),
    ("train --norm l3", 'unknown norm "l3"'),
    ("baseline --target resnet20 --norm group", "as resnet20-group"),
    ("baseline --activation kaf-1", "activation 'kaf-1': a dictionary has 2 to 1000 points"),
    ("train --preset thesys", 'unknown preset "thesys" (did you mean "thesis"?)'),
    ("train --device gpu", 'unknown device "gpu"'),
    ("baseline --method fbff", 'unknown method "fbff" (did you mean "fbf"?)'),
    ("baseline --target mpl", 'unknown target "mpl" (did you mean "mlp"?)'),
    ("evaluate base.safetensors --attack standrd", "did you mean 'standard'?"),
    ("evaluate base.safetensors --norms linf=.1,l2", "l2 needs a radius, as in l2=0.3"),
    ("evaluate base.safetensors --norms linf=.1,l2=x", "l2 needs a radius"),
    ("evaluate base.safetensors --norms linf=.1,linf=.2", "--norms names linf twice"),
    ("evaluate base.safetensors --norms l3=1", 'unknown norm "l3"'),
    ("evaluate base.safetensors --norms linf=-1", "expected a finite epsilon >= 0, got -1.0"),
    ("evaluate base.safetensors --norms linf=.1 --epsilon .2", "leave out --norm and --epsilon"),
    ("evaluate base.safetensors --norms linf=.1,l1=1 --attack rays", "rays"),
    (
        "evaluate base.safetensors --norms linf=.1,l1=1 --step-size .01",
        "--step-size is of one norm",
    ),
    ("evaluate base.safetensors --dataset mnst", '(did you mean "mnist"?)'),
    ("evaluate plain.pt --dataset digits --target mpl", '(did you mean "mlp"?)'),
    ("evaluate base.safetensors --activation swsh", "unknown activation 'swsh'"),
    ("evaluate base.safetensors --activation swish", "say its --target too"),
    ("transfer base.safetensors --attack universal-gradien", "did you mean 'universal-gradient'?"),
    ("transfer base.safetensors --attack pdg", "did you mean 'pgd'?"),
    # numbers
    ("train --beta 1.2", "--beta must be a number in [0,1]"),
    ("train --beta nan", "--beta must be a number in [0,1]"),
    ("train --beta 0.9:0.1", "--beta must be a number in [0,1]"),
    ("train --beta half", "--beta must be a number in [0,1]"),
    ("train --epsilon -1", "epsilon >= 0, got -1"),
    ("train --epsilon nan", "finite epsilon"),
    ("train --epsilon inf", "finite epsilon"),
    ("train --epsilon small", "--epsilon"),
    ("train --steps 0", "--steps must be at least 1, got 0"),
    ("train --steps 1.5", "--steps"),
    ("train --steps many", "--steps"),
    ("train --population -3", "--population must be at least 1"),
    ("train --perturbed -1", "--perturbed must be at least 0"),
    ("train --seed -1", "--seed must be at least 0"),
    ("train --seed 18446744073709551616", "--seed must lie in [0, 2^62)"),
    ("baseline --seed 18446744073709551616", "--seed must lie in [0, 2^62)"),
    ("sample run --count 1 --seed -1", "--seed must lie in [0, 2^62)"),
    ("evaluate base.safetensors --seed -1", "--seed must lie in [0, 2^62)"),
    ("train --generator published --beta 0:1", "the published generator knows no preference"),
    ("train --generator published --latent-size 3", "leave out --latent-size"),
    ("train --preset thesis --diversity 0", "leave out --diversity"),
    ("train --learning-rate 0", "--learning-rate must be above 0"),
    ("train --learning-rate nan", "--learning-rate must be above 0"),
    ("train --value-learning-rate 1e38", "--value-learning-rate must be above 0"),
    ("train --weight-decay nan", "--weight-decay must be at least 0"),
    ("train --ema-decay 1.5", "--ema-decay must lie in [0,1]"),
    ("train --warmup nan", "--warmup must lie in [0,1]"),
    ("train --samples 0", "--samples must be at least 1"),
    ("train --sra-samples -1", "--sra-samples must be at least 0"),
    ("sample run --count 0", "--count must be at least 1, got 0"),
    ("sample run --count x", "--count"),
    ("sample run --count 2 --keep 3", "--keep must be at most --count (2), got 3"),
    ("sample run --count 2 --beta 7", "--beta must lie in [0,1]"),
    ("evaluate base.safetensors --images 0", "--images must be at least 1"),
    ("evaluate base.safetensors --steps 0", "--steps must be at least 1"),
    ("evaluate base.safetensors --epsilon -0.1", "epsilon >= 0, got -0.1"),
    ("baseline --epochs 0", "--epochs must be at least 1"),
    ("baseline --epsilon inf", "finite epsilon"),
    ("baseline --share-start 0.2", "--share-start needs k-WTA, such as kwta-0.1, not relu"),
    (
        "baseline --activation kwta-0.1 --share-start 0.05",
        "--share-start with kwta-0.1 must lie in [0.1,1], got 0.05",
    ),
    ("baseline --activation kwta-0.1 --share-start 1.1", "must lie in [0.1,1], got 1.1"),
    ("baseline --ema-decay 1", "--ema-decay must lie in [0,1), got 1.0"),
    ("sweep --trials 0", "--trials must be at least 1"),
    ("sweep --workers 0", "--workers must be at least 1"),
    # weight files
    ("evaluate none.safetensors", "no such file or folder: none.safetensors"),
    ("evaluate foreign.safetensors", "not a safetensors file"),
    ("evaluate truncated.safetensors", "truncated.safetensors"),
    ("evaluate shape.safetensors", "has shape [3], expected [32]"),
    ("evaluate malice.safetensors", "not a safetensors file"),
    ("evaluate malice.pt --target mlp --dataset digits", "refused: malice.pt"),
    ("evaluate plain.pt", "--target"),
    ("evaluate plain.pt --target lenet5 --dataset digits", "plain.pt"),
    ("evaluate empty", "empty holds no .safetensors files"),
    ("evaluate run", "holds no .safetensors files"),
    ("evaluate base.safetensors --json nowhere/x.json", "--json: there is no folder nowhere"),
    ("evaluate base.safetensors --json empty", "--json"),
    ("transfer", "nothing to evaluate"),
    ("transfer base.safetensors", "transfer needs several networks, got one"),
    ("transfer base.safetensors truncated.safetensors", "truncated.safetensors"),
    ("transfer base.safetensors base.safetensors --json nowhere/x", "--json: there is no folder"),
    ("transfer base.safetensors base.safetensors --picture empty", "--picture: empty cannot be"),
    ("transfer base.safetensors base.safetensors --picture x.txt", "x.txt must end in one of ."),
    ("transfer base.safetensors base.safetensors --picture x.pgf", "x.pgf must end in one of ."),
    ("transfer base.safetensors base.safetensors --images 0", "--images must be at least 1"),
    (f"{TRAIN} --out new --base none.safetensors", "none.safetensors"),
    (f"{TRAIN} --out new --base foreign.safetensors", "not a safetensors file"),
    (f"{TRAIN} --out new --base truncated.safetensors", "truncated.safetensors"),
    (f"{TRAIN} --out new --base shape.safetensors", "has shape [3], expected [32]"),
    (f"{TRAIN} --out new --base malice.safetensors", "not a safetensors file"),
    ("train --out new --base base.safetensors", "--base: base.safetensors holds another network"),
    (f"{TRAIN} --out new --activation elu --base base.safetensors", "than mlp with elu"),
    ("evaluate base.safetensors --norm l2", "--norm l2 needs an --epsilon"),
    ("evaluate base.safetensors --norm l3", 'unknown norm "l3"'),
    (f"{TRAIN} --out new --norm l1", "--norm l1 needs an --epsilon"),
    (f"{TRAIN} --out new --norm l1 --epsilon 5 --base fbf", "random-fgsm knows the norms linf"),
    ("sweep --target mlp --out new --norm l1 --epsilon 5 --base fbf", "knows the norms linf"),
    # folders
    (f"{TRAIN} --out file", "file is not a folder"),
    (f"{TRAIN} --out file/run", "file is not a folder"),
    (f"{TRAIN} --out full", "full is not empty"),
    (f"{TRAIN} --steps 4 --out run", "run already holds a run; add --resume"),
    (f"{TRAIN} --steps 4 --out run --resume", "steps: 3, not 4"),
    ("train --resume", "--resume needs --out"),
    ("train --resume --out run --preset thesis", "--preset with --resume"),
    ("train --resume --out run --preset", "--preset"),
    ("baseline --resume", "--resume needs --out"),
    ("baseline --find-lr --epochs 3 --ema-decay .9", "leave out --epochs, --ema-decay"),
    ("baseline --find-lr --out new --resume", "leave out --resume"),
    ("train --resume --out empty", "empty is not a run"),
    ("train --resume --out none", "none is not a run"),
    ("train --resume --out file", "file is not a run"),
    ("train --resume --out broken", "not a run's configuration"),
    ("train --resume --out other", "not a run's configuration"),
    ("sample empty --count 1", "empty is not a run"),
    ("sample run --count 1 --out new", "let it train"),
    ("sample run --count 1 --out file", "file is not a folder"),
    ("sample run --count 1 --out full", "full is not empty"),
    ("baseline --target mlp --out file", "file is not a folder"),
    ("sweep --out file", "file is not a folder"),
    ("sweep --out full", "full exists and is not a sweep"),
    # sweeps
    ("sweep --out new --vary bta=0:1", '(did you mean "beta"?)'),
    ("sweep --out new --vary beta=0:2", "--beta must be a number in [0,1]"),
    ("sweep --out new --vary beta", "NAME=LOW:HIGH[:log]"),
    ("sweep --out new --storage nonsense://x", "--storage nonsense://x"),
    ("sweep --out new --device gpu", 'unknown device "gpu"'),
    # data
    ("train --dataset mnist --data-dir damaged --out new", "mnist: unreadable files in damaged"),
    ("baseline --dataset mnist --data-dir damaged --out new", "mnist: unreadable files"),
    ("sweep --dataset mnist --data-dir damaged --out new", "mnist: unreadable files"),
]


@pytest.mark.parametrize(("command", "words"), BAD, ids=[command for command, _ in BAD])
def test_a_mistake_is_one_line_with_status_2_and_nothing_written(command, words, here, capsys):
    before = tree(here)
    assert main(command.split()) == 2
    out, said = capsys.readouterr()
    assert out == "" and words in said
    assert said.startswith("hypergen: ") and said.count("\n") == 1 and len(said) < 400
    assert tree(here) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("command", ["train", "baseline", "sweep", "evaluate base.safetensors"])
def test_cuda_where_there_is_none(command, here, capsys):
    before = tree(here)
    assert main([*command.split(), "--device", "cuda"]) == 2
    assert "no CUDA device here; use --device cpu" in capsys.readouterr().err
    assert tree(here) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(here, capsys):
    Path("empty").chmod(0o500)
    assert main(["train", "--target", "mlp", "--out", "empty/run"]) == 2
    assert "cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_usage_names_every_command(arguments, capsys):
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    assert stop.value.code in (0, None)
    said = capsys.readouterr().out
    assert f"usage: hypergen {name}" in said and "--device" in said


def test_warnings_are_one_line(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # to have it back
    main(["--version"])
    assert warnings.formatwarning(UserWarning("so it is"), UserWarning, "file.py", 1) == (
        "hypergen: so it is\n"
    )


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hypergen {hypergen.__version__}\n"


def test_ctrl_c_is_status_130_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("hypergen.run.train", interrupted)
    out = tmp_path / "run"
    assert main(["train", "--out", str(out), "--samples", "3", "--no-baseline"]) == 130
    said = capsys.readouterr()
    assert said.err == f"hypergen: interrupted; continue by hypergen train --resume --out {out}\n"
    assert said.out == f"run folder: {out}\n"  # at the start, for it may be a dated one
    # What was asked of the report is not forgotten either.
    for again in ([], ["--no-baseline"]):
        assert main(["train", "--resume", "--out", str(out), *again]) == 130
        sizes, baselines = report_settings(out)
        assert sizes.samples == 3 and not baselines


def test_a_preset_gives_way_to_what_is_said(monkeypatch):
    seen = []
    monkeypatch.setitem(COMMANDS, "train", (COMMANDS["train"][0], seen.append))
    assert main(["train", "--preset", "thesis", "--steps", "7", "--beta", "0.25"]) == 0
    config = seen[0].training
    assert (config.steps, config.beta, config.generator) == (7, "0.25", "published")
    assert config.value_learning_rate == PRESETS["thesis"]["value_learning_rate"] == 0.35
    assert preset("thesis").population == 1


def test_a_run_to_resume_gives_way_to_nothing_else(tmp_path, monkeypatch):
    """What is said again of it is looked at beside its own settings, not beside the defaults."""
    seen = []
    monkeypatch.setitem(COMMANDS, "train", (COMMANDS["train"][0], seen.append))
    saved = TrainConfig(norm="l2", epsilon=1.5, steps=7)
    saved.save(tmp_path / "config.json")
    assert main(["train", "--resume", "--out", str(tmp_path), "--norm", "l2"]) == 0
    assert main(["train", "--norm", "l2", "--resume", f"--out={tmp_path}"]) == 0
    assert [args.training for args in seen] == [saved, saved]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_process_says_the_same_in_any_encoding(encoding, here):
    command = [sys.executable, "-m", "hypergen", "train", "--bta", "1"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "hypergen: Unrecognized options: --bta, 1 (did you mean --beta?)\n"


def test_commands_started_at_once_have_folders_of_their_own():
    folders = [dated("train") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(re.fullmatch(r"runs/\d{8}-\d{6}-\d{6}-train", str(path)) for path in folders)


@pytest.mark.parametrize(
    "command", ["train --target mlp", "baseline --target mlp", "sample trained --count 1"]
)
def test_a_folder_that_another_one_works_in_is_left_alone(
    command, here, tiny, small_report, cpu, capsys
):
    if "trained" in command:
        run(tiny, Path("trained"), cpu, sizes=small_report, baselines=False)
    with locked(Path("taken")):
        assert main([*command.split(), "--out", "taken"]) == 2
        assert [path.name for path in Path("taken").iterdir()] == [".lock"]
    assert capsys.readouterr().err == "hypergen: another hypergen is at work in taken\n"
    assert not Path("taken").exists()  # nothing came of it


def test_damaged_files_of_a_run_are_one_line(here, tiny, small_report, cpu, capsys):
    run(tiny, Path("mine"), cpu, sizes=small_report, baselines=False)
    results, config = Path("mine/results.json"), Path("mine/config.json")
    results.write_text(results.read_text()[:100])
    capsys.readouterr()
    assert main(["train", "--resume", "--out", "mine"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hypergen: mine/results.json is damaged (") and said.count("\n") == 1
    results.write_text('{"networks": []}')
    assert main(["train", "--resume", "--out", "mine"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("hypergen: mine/results.json is no report") and said.count("\n") == 1
    results.unlink()
    replace(TrainConfig.load(config), latent_size=7).save(config)
    for command in (["train", "--resume", "--out", "mine"], ["sample", "mine", "--count", "1"]):
        assert main(command) == 2
        assert capsys.readouterr().err == (
            "hypergen: mine/checkpoint.safetensors does not fit the settings beside it: "
            "it is of another training\n"
        )


def test_a_baseline_is_trained_written_and_judged(here, capsys):
    assert (
        main(
            ["baseline", "--target", "mlp", "--method", "standard", "--epochs", "1", "--out", "net"]
        )
        == 0
    )
    assert {path.name for path in Path("net").iterdir()} == {"network.safetensors"}
    assert "accuracy" in capsys.readouterr().out
    assert main(["baseline", "--target", "mlp", "--epochs", "1", "--out", "net"]) == 2
    figures = "--images 10 --steps 2 --restarts 1 --json figures.json"
    assert main(f"evaluate net {figures}".split()) == 0
    assert Path("figures.json").exists()


def test_samples_are_drawn_ranked_and_written(here, tiny, small_report, cpu, capsys):
    command = "train --target mlp --steps 4 --population 2 --batch-size 8"
    sizes = "--samples 1 --images 5 --sra-samples 0 --no-baseline --out fresh"
    assert main([*command.split(), *sizes.split()]) == 0
    assert main(["sample", "fresh", "--count", "5", "--keep", "2", "--images", "5"]) == 0
    files = sorted(Path("fresh", "samples-seed1").iterdir())
    assert [f.name for f in files] == ["sample-0000.safetensors", "sample-0001.safetensors"]
    rows = [read_metadata(file) for file in files]
    scores = [sum(row["estimated"].values()) for row in rows]  # beta is one half
    assert scores[0] >= scores[1]
    assert all(0 <= row["sra"] <= row["pgd"] <= 1 and row["seed"] == 1 for row in rows)
    drawn = hypergen.load_generator(Path("fresh")).sample(5, seed=1)
    images = torch.rand(3, 1, 28, 28)
    logits = drawn(images.expand(5, -1, -1, -1, -1))
    for file in files:
        distance = (hypergen.load_network(file)(images) - logits).abs().amax((1, 2))
        assert distance.min() < 1e-5
    assert main(["sample", "fresh", "--count", "5"]) == 2
    assert "not empty" in capsys.readouterr().err
