"""Mistakes on the command line: one line each, status 2, and nothing written."""

import functools
import importlib.metadata
import inspect
import os
from pathlib import Path

import pytest
import torch

from hypergen.cli.main import main
from hypergen.storage.lock import locked

TRAIN = "train --target mlp --image-size 8"
BAD = [
    # commands and options
    ("trian", 'unknown command "trian" (did you mean "train"?)'),
    ("train --bta 0.5", "Unrecognized options: --bta, 0.5 (did you mean --beta?)"),
    ("train stray", "stray"),
    ("evaluate", "no weight files: give a run, a folder of samples or a weight file"),
    ("sample", "--count"),
    ("sample run", "--count"),
    # names
    ("train --dataset mnst", 'unknown data set "mnst" (did you mean "mnist"?)'),
    ("train --target lenet", 'unknown target "lenet" (did you mean "lenet5"?)'),
    ("train --activation rellu", 'unknown activation "rellu" (did you mean "relu"?)'),
    ("baseline --activation kwta-2", "activation 'kwta-2': expected kwta-<share>"),
    ("train --objective dirct", 'unknown objective "dirct" (did you mean "direct"?)'),
    ("train --value-network sett", 'unknown value network "sett" (did you mean "set"?)'),
    ("train --generator chunky", 'unknown generator "chunky" (did you mean "chunk"?)'),
    ("train --value-attack margn", 'unknown value attack "margn" (did you mean "margin"?)'),
    ("train --prior-scale -1", "--prior-scale must be at least 0, got -1"),
    ("train --epsilon-factor inf", "--epsilon-factor must be at most 1e+09, got inf"),
    ("train --max-robustness-gap 2", "--max-robustness-gap must lie in [0,1], got 2"),
    ("train --schedule cosin", 'unknown schedule "cosin" (did you mean "cosine"?)'),
    ("train --norm l3", 'unknown norm "l3"'),
    ("baseline --activation kaf-1", "activation 'kaf-1': a dictionary has 2 to 1000 points"),
    ("train --preset thesys", 'unknown preset "thesys" (did you mean "thesis"?)'),
    ("train --device gpu", 'unknown device "gpu"'),
    ("baseline --method fbff", 'unknown method "fbff" (did you mean "fbf"?)'),
    ("baseline --method msd", "msd needs --norms, such as linf=0.3,l2=1.5,l1=10"),
    ("baseline --method avg --norms l2=1 --epsilon 0.1", "leave out --norm and --epsilon"),
    ("baseline --norms linf=0.1,l2=1", "--norms is of avg and msd: leave it out with fbf"),
    ("baseline --method msd --norms linf=0.1,l2", "--norms: l2 needs a radius, as in l2=0.3"),
    ("baseline --method msd --norms linf=8", "did you mean 8/255?"),
    ("train --measure union=0.5", "it needs norms with their radii"),
    ("train --measure robustness:attack=pgdd=0.5", '(did you mean "pgd"?)'),
    ("baseline --target mpl", 'unknown target "mpl" (did you mean "mlp"?)'),
    ("evaluate base.safetensors --attack standrd", '(did you mean "standard"?)'),
    ("evaluate base.safetensors --norms linf=0.1,l2", "l2 needs a radius, as in l2=0.3"),
    ("evaluate base.safetensors --norms linf=0.1,l2=x", "l2 needs a radius"),
    ("evaluate base.safetensors --norms linf=0.1,linf=0.2", "--norms names linf twice"),
    ("evaluate base.safetensors --norms l3=1", 'unknown norm "l3"'),
    ("evaluate base.safetensors --norms linf=-1", "expected a finite epsilon >= 0, got -1.0"),
    ("evaluate base.safetensors --norms linf=0.1 --epsilon 0.2", "leave out --norm and --epsilon"),
    ("evaluate base.safetensors --norms linf=0.1,l1=1 --attack rays", "rays"),
    (
        "evaluate base.safetensors --norms linf=0.1,l1=1 --step-size 0.01",
        "--step-size is of one norm",
    ),
    ("evaluate base.safetensors --dataset mnst", '(did you mean "mnist"?)'),
    ("evaluate plain.pt --dataset digits --target mpl", '(did you mean "mlp"?)'),
    ("evaluate base.safetensors --activation swsh", 'unknown activation "swsh" '),
    ("evaluate base.safetensors --activation swish", "say its --target too"),
    (
        "transfer base.safetensors --attack universal-gradien",
        '(did you mean "universal-gradient"?)',
    ),
    ("transfer base.safetensors --attack pdg", '(did you mean "pgd"?)'),
    # old names of options
    ("train --perturbed 1", "(did you mean --num-perturbed?)"),
    ("train --replay 9", "(did you mean --replay-size?)"),
    # plugins
    ("train --plugin none.py", "plugin none.py: No such file or directory"),
    ("train --plugin syntax.py", "plugin syntax.py: SyntaxError"),
    ("train --plugin nothing.py", "it registers nothing"),
    ("train --plugin fails.py", "plugin fails.py, line 1: ValueError: so it is"),
    ("train --plugin no.such_module", 'no module "no" is installed'),
    ("train --plugin", "--plugin"),
    ("list --plugin syntax.py", "plugin syntax.py: SyntaxError"),
    ("train --target none.py:Net", "plugin none.py: No such file or directory"),
    ("train --target none.py", "plugin none.py: No such file or directory"),
    ("train --target fails.py", "plugin fails.py defines no class or function to be named"),
    ("evaluate theirs.safetensors", "needs the target MyNet of my_net.py: add --plugin my_net.py"),
    ("export theirs.safetensors", "needs the target MyNet of my_net.py: add --plugin my_net.py"),
    ("list attak", 'unknown kind "attak" (did you mean "attack"?)'),
    # numbers
    ("train --beta 1.2", "--beta must be a number in [0,1]"),
    ("train --beta nan", "--beta must be a number in [0,1]"),
    ("train --beta 0.9:0.1", "--beta must be a number in [0,1]"),
    ("train --beta half", "--beta must be a number in [0,1]"),
    ("train --epsilon -1", "--epsilon must be at least 0, got -1"),
    ("train --epsilon nan", "--epsilon must be at least 0, got nan"),
    ("train --epsilon inf", "--epsilon must be at most 1e+09, got inf"),
    ("train --epsilon -inf", "--epsilon must be a finite number, got -inf"),
    ("train --epsilon small", "--epsilon: expected a number or a fraction such as 8/255"),
    ("train --epsilon 1/0", "8/255, got 1/0"),
    ("train --epsilon 8", "in [0,1], got 8; did you mean 8/255?"),
    ("baseline --epsilon 8", "did you mean 8/255?"),
    ("evaluate base.safetensors --epsilon 8", "did you mean 8/255?"),
    ("evaluate base.safetensors --step-size 0/255", "--step-size must be above 0"),
    ("train --steps 0", "--steps must be at least 1, got 0"),
    ("train --steps 1.5", "--steps: expected a whole number, got 1.5"),
    ("train --steps many", "--steps: expected a whole number, got many"),
    ("train --population -3", "--population must be at least 1"),
    ("train --num-perturbed -1", "--num-perturbed must be at least 0"),
    ("train --seed -1", "--seed must be at least 0"),
    ("train --seed 18446744073709551616", "--seed must be below 4.61e+18"),
    ("baseline --seed 18446744073709551616", "--seed must be below 4.61e+18"),
    ("sample run --count 1 --seed -1", "--seed must be at least 0, got -1"),
    ("evaluate base.safetensors --seed -1", "--seed must be at least 0, got -1"),
    ("train --generator published --beta 0:1", "the published generator knows no range: --beta"),
    ("train --generator published --latent-size 3", "leave out --latent-size"),
    ("train --preset thesis --prior-scale 0", "leave out --prior-scale"),
    ("train --learning-rate 0", "--learning-rate must be above 0"),
    ("train --learning-rate nan", "--learning-rate must be above 0"),
    ("train --value-learning-rate 1e38", "--value-learning-rate must be below 1e+30"),
    ("train --weight-decay nan", "--weight-decay must be at least 0"),
    ("train --ema-decay 1.5", "--ema-decay must lie in [0,1]"),
    ("train --warmup nan", "--warmup must lie in [0,1]"),
    ("train --samples 0", "--samples must be at least 1"),
    ("train --sra-samples -1", "--sra-samples must be at least 0"),
    ("sample run --count 0", "--count must be at least 1, got 0"),
    ("sample run --count x", "--count"),
    ("sample run --count 2 --keep 3", "--keep must be at most --count (2), got 3"),
    ("sample run --count 2 --beta 7", "--beta must be a number in [0,1] or, for several, LOW:"),
    ("sample run --count 2 --beta 0:1:1", "--beta must be a number in [0,1] or, for several, LOW:"),
    ("sample run --count 2 --accuracy-at-least 2", "--accuracy-at-least must lie in [0,1]"),
    (
        "sample run --count 2 --accuracy-at-least 0.9 --beta 0.5",
        "--accuracy-at-least chooses what is asked: leave out --beta",
    ),
    ("evaluate base.safetensors --images 0", "--images must be at least 1"),
    ("evaluate base.safetensors --steps 0", "--steps must be at least 1"),
    ("evaluate base.safetensors --epsilon -0.1", "--epsilon must be at least 0, got -0.1"),
    ("baseline --epochs 0", "--epochs must be at least 1"),
    ("baseline --epsilon inf", "--epsilon must be at most 1e+09, got inf"),
    ("baseline --share-start 0.2", "--share-start needs k-WTA, such as kwta-0.1, not relu"),
    (
        "baseline --activation kwta-0.1 --share-start 0.05",
        "--share-start with kwta-0.1 must lie in [0.1,1], got 0.05",
    ),
    ("baseline --activation kwta-0.1 --share-start 1.1", "must lie in [0,1], got 1.1"),
    ("baseline --ema-decay 1", "--ema-decay must lie in [0,1), got 1.0"),
    ("sweep --trials 0", "--trials must be at least 1"),
    ("sweep --workers 0", "--workers must lie in [1,1000]"),
    # numbers and memory without bounds
    (f"train --steps 1{400 * '0'}", "--steps must be at most 1e+09, got about 1e400"),
    (f"train --steps {5000 * '9'}", "--steps: expected a whole number, got 999"),
    (f"train --epsilon {5000 * '9'}/3", "8/255, got 999"),
    ("train --steps 1e20", "--steps: expected a whole number, got 1e20"),
    ("train --population 10000000000000000000", "--population must be at most 1e+09"),
    ("train --latent-size 1000000000000", "--latent-size must be at most 1e+09"),
    ("train --image-size 100000", "--image-size must lie in [1,4096], got 100000"),
    ("train --image-size 4096 --out new", "GB; lower --image-size"),
    ("train --weight-decay 1e308", "--weight-decay must be at most 1e+09, got 1e+308"),
    ("baseline --epochs 10000000000", "--epochs must be at most 1e+09"),
    ("evaluate base.safetensors --restarts 10000000000", "--restarts must be at most 1e+09"),
    ("sample run --count 10000000000", "--count must be at most 1e+09"),
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
    ("evaluate base.safetensors --json nowhere/x.json", "there is no folder"),
    ("evaluate base.safetensors --json empty", "empty cannot be written"),
    ("transfer", "no weight files: give a run, a folder of samples or a weight file"),
    (
        "transfer base.safetensors",
        "transfer tries on each network what fools another: got only one",
    ),
    ("transfer base.safetensors truncated.safetensors", "truncated.safetensors"),
    ("transfer base.safetensors base.safetensors --json nowhere/x", "there is no folder"),
    ("transfer base.safetensors base.safetensors --picture empty", "empty cannot be written"),
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
    ("evaluate base.safetensors --norm l2", "--epsilon is needed: there is no usual radius in l2"),
    ("evaluate base.safetensors --norm l3", 'unknown norm "l3"'),
    (f"{TRAIN} --out new --norm l1", "--epsilon is needed: there is no usual radius in l1"),
    (f"{TRAIN} --out new --norm l1 --epsilon 5 --base fbf", "random-fgsm knows the norms linf"),
    ("sweep --target mlp --out new --norm l1 --epsilon 5 --base fbf", "knows the norms linf"),
    # folders
    ("train --out=", "--out: expected a path, got an empty text"),
    ("baseline --out=", "--out: expected a path, got an empty text"),
    ("train --resume --out=", "expected a path, got an empty text"),
    ("train --out \udcff", "--out: '\\udcff' is no path in UTF-8"),
    ("evaluate a ~nobody-of-this-name/b", "there is no such home folder"),
    (f"evaluate {300 * 'a'}", "aaa...: the name is too long"),
    (f"{TRAIN} --out {300 * 'a'}", "aaa...: the name is too long"),
    (f"{TRAIN} --out /proc/x", "/proc cannot be written to"),
    ("baseline --target mlp --out /proc/x", "/proc cannot be written to"),
    (f"{TRAIN} --out file", "file is not a folder"),
    (f"{TRAIN} --out file/run", "file is not a folder"),
    (f"{TRAIN} --out full", "full is not empty"),
    (f"{TRAIN} --steps 4 --out run", "run already holds a run; add --resume"),
    (f"{TRAIN} --steps 4 --out run --resume", "steps: 3, not 4"),
    ("train --resume", "--resume needs --out"),
    ("train --resume --out run --preset thesis", "--preset with --resume"),
    ("train --resume --out run --preset", "--preset"),
    ("baseline --resume", "--resume needs --out"),
    ("baseline --find-lr --epochs 3 --ema-decay 0.9", "leave out --epochs, --ema-decay"),
    ("baseline --find-lr --out new --resume", "leave out --resume"),
    ("train --resume --out empty", "empty is not a run"),
    ("train --resume --out none", "none is not a run"),
    ("train --resume --out file", "file is not a run"),
    ("train --resume --out broken", "broken/config.json is damaged"),
    ("train --resume --out other", "other/config.json has an unknown setting stepps"),
    ("train --resume --out former", "former was made by hypergen 0.1.0"),
    ("sample empty --count 1", "empty is not a run"),
    ("sample run --count 1 --out new", "let it train"),
    ("compare", "a comparison needs two paths at least"),
    ("compare none run", "no such file or folder: none"),
    ("compare run run", "run is given twice"),
    ("compare run file --picture a.b", "--picture: a.b must end in one of"),
    ("search run --out new", "let it train"),
    ("search empty", "empty is not a run"),
    ("search run --budget 3", "--keep must be at most --budget (3), got 8"),
    ("search run --budget 0", "--budget must be at least 1, got 0"),
    ("search run --method best", 'unknown method "best"; known: gradient, tpe'),
    ("search run --images 1", "--images must be at least 2, got 1"),
    ("sample run --count 1 --out file", "file is not a folder"),
    ("sample run --count 1 --out full", "let it train"),
    ("baseline --target mlp --out file", "file is not a folder"),
    ("sweep --out file", "file is not a folder"),
    ("sweep --out full", "full exists and is not a sweep"),
    ("board", "what to do: add (required)"),
    ("board remove base.safetensors", 'unknown action "remove"'),
    ("board add nowhere.safetensors", "no such file or folder: nowhere.safetensors"),
    ("board add plain.pt", "name its --target"),
    ("board add base.safetensors --images 0", "--images must be at least 1"),
    ("board add base.safetensors --out file", "file is not a folder"),
    ("board add theirs.safetensors", "add --plugin my_net.py"),
    ("card nowhere.safetensors", "nowhere.safetensors"),
    ("card plain.pt", "plain.pt"),
    ("card base.safetensors --out full", "full is not empty"),
    ("export run --int8 --format safetensors --out new", "--int8 is for .onnx and .pt2"),
    # sweeps
    ("sweep --out new --vary bta=0:1", '(did you mean "beta"?)'),
    ("sweep --out new --vary beta=0:2", "--beta must be a number in [0,1]"),
    ("sweep --out new --vary beta", "NAME=LOW:HIGH[:log]"),
    ("sweep --out new --storage nonsense://x", "--storage nonsense://x"),
    ("sweep --out new --device gpu", 'unknown device "gpu"'),
    # data
    ("train --dataset npz:none.npz", "npz:none.npz: No such file or directory"),
    ("train --dataset folder:none --norm l2", "folder:none: there is no such folder"),
    ("train --dataset torchvision:KMNISTT", '(did you mean "KMNIST"?)'),
    ("train --dataset mnist --data-dir damaged --out new", "mnist: unreadable files in damaged"),
    ("baseline --dataset mnist --data-dir damaged --out new", "mnist: unreadable files"),
    ("sweep --dataset mnist --data-dir damaged --out new", "mnist: unreadable files"),
]


@pytest.fixture(scope="module", autouse=True)
def sources_are_read_once():
    """What tyro and the command line take from the source of a class, which they parse each time.

    The classes that a parser is made of, in `types`, have none: looking for it takes as long. So
    does looking for plugins in all installed packages.
    """
    read = functools.cache(inspect.getsource)
    entry_points = functools.cache(importlib.metadata.entry_points)

    def source(thing) -> str:
        if getattr(thing, "__module__", None) == "types":
            raise OSError("could not find class definition")
        return read(thing)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "getsource", source)
        patch.setattr(importlib.metadata, "entry_points", entry_points)
        yield


@pytest.mark.parametrize(("command", "words"), BAD, ids=[command for command, _ in BAD])
def test_a_mistake_is_one_line_with_status_2_and_nothing_written(command, words, here, capsys):
    before = tree(here)
    assert main(command.split()) == 2
    out, said = capsys.readouterr()
    assert out == "" and words in said
    assert said.startswith("hypergen: ") and said.count("\n") == 1 and len(said) < 450
    assert "`" not in said  # the library's word for a setting
    assert tree(here) == before


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("command", ["train", "baseline", "sweep", "evaluate base.safetensors"])
def test_cuda_where_there_is_none(command, here, capsys):
    before = tree(here)
    assert main([*command.split(), "--device", "cuda"]) == 2
    assert 'no CUDA device here; use "cpu"' in capsys.readouterr().err
    assert tree(here) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(here, capsys):
    Path("empty").chmod(0o500)
    assert main(["train", "--target", "mlp", "--out", "empty/run"]) == 2
    assert "cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", ["train --target mlp", "baseline --target mlp", "sample trained --count 1"]
)
def test_a_folder_that_another_one_works_in_is_left_alone(command, here, trained, capsys):
    Path("trained").symlink_to(trained)
    with locked(Path("taken")):
        assert main([*command.split(), "--out", "taken"]) == 2
        assert [path.name for path in Path("taken").iterdir()] == [".lock"]
    assert capsys.readouterr().err == "hypergen: another hypergen is at work in taken\n"
    assert not Path("taken").exists()  # nothing came of it
