"""Options made of settings: names, help, fractions, paths, and what plugins bring."""

import re
from pathlib import Path

import pytest

import hypergen.experiments.api  # noqa: F401  (whose floors fill the registries)
from hypergen import registry
from hypergen.catalog import ACTIVATIONS, ATTACKS, GENERATORS, TARGETS, VALUE_NETWORKS
from hypergen.cli import (
    analyze,
    baseline,
    board,
    card,
    compare,
    evaluate,
    explore,
    export,
    report,
    sample,
    search,
    sweep,
    train,
    transfer,
)
from hypergen.cli import list as listing
from hypergen.cli.main import COMMANDS, main
from hypergen.cli.options import POSITIONAL
from hypergen.data import DATASETS
from hypergen.settings import fields

MODULES = {
    "train": train,
    "sample": sample,
    "search": search,
    "evaluate": evaluate,
    "compare": compare,
    "analyze": analyze,
    "report": report,
    "transfer": transfer,
    "baseline": baseline,
    "sweep": sweep,
    "board": board,
    "card": card,
    "export": export,
    "explore": explore,
    "list": listing,
}
NEEDED = {
    "sample": ["run", "--count", "1"],
    "search": ["run"],
    "explore": ["run"],
    "board": ["add", "x"],
    "card": ["x"],
}
PLUGIN = """
import torch
from attacks import PGD

class MyNet(torch.nn.Module):
    def __init__(self, num_classes, input_shape):
        super().__init__()
        self.layer = torch.nn.Linear(input_shape[1] * input_shape[2], num_classes)
    def forward(self, images):
        return self.layer(images[:, 0].flatten(1))

def load():
    return torch.rand(40, 1, 8, 8), torch.arange(40) % 2

class Mine(PGD):
    pass

class Act(torch.nn.Module):
    pass

class Gen(torch.nn.Module):
    pass

class Val(torch.nn.Module):
    pass
"""


def parsed(command: str):
    name, *arguments = command.split()
    return MODULES[name].COMMAND.parse(name, arguments)


def help_of(name: str, capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main([name, *arguments, "--help"])
    assert stop.value.code in (0, None)
    return " ".join(re.sub("[│╭╮╰╯─]|-{4,}|\\s[|+]\\s", " ", capsys.readouterr().out).split())


def test_every_command_has_a_module():
    assert list(MODULES) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_whole(name, capsys):
    """Every option stands there with a text, in groups of which each says what it is about."""
    shown = help_of(name, capsys)
    command = MODULES[name].COMMAND
    assert f"usage: hypergen {name}" in shown and "`" not in re.sub("`hypergen [^`]*`", "", shown)
    for cls in (command.own, *command.settings.values()):
        for field in fields(cls):
            option = f"--{field.short.replace('_', '-')}"
            assert field.short in POSITIONAL or option in shown
    assert "machine options Where the data are" in shown
    assert "None" not in shown and "(default: )" not in shown
    docs = [text for cls in command.settings.values() for text in _docs(cls)]
    letters = "".join(shown.split())  # lines may break within what has a hyphen
    assert all(docs) and all("".join(text.split()) in letters for text in docs)


def _docs(cls) -> list[str]:
    from hypergen.cli.options import field_docs
    from hypergen.cli.wording import in_options

    return [in_options(text) for text in field_docs(cls).values()]


def test_help_groups_options(capsys):
    shown = help_of("train", capsys)
    for group in ("data", "generator", "value-network", "objective", "adversary", "optimisation"):
        assert f" {group} options " in shown


@pytest.mark.parametrize(
    ("name", "registries"),
    [
        ("train", (TARGETS, ACTIVATIONS, DATASETS, GENERATORS, VALUE_NETWORKS)),
        ("baseline", (TARGETS, ACTIVATIONS, DATASETS)),
        ("evaluate", (TARGETS, ACTIVATIONS, DATASETS, ATTACKS)),
        ("transfer", (ATTACKS,)),
        ("compare", (ATTACKS,)),
    ],
)
def test_help_shows_what_is_registered(name, registries, capsys):
    shown = help_of(name, capsys)
    for each in registries:
        assert ", ".join(each.names()) in shown


def test_help_shows_what_a_plugin_registers(capsys):
    Path("mine.py").write_text(
        "import hypergen, torch\n"
        "@hypergen.register_target('my-net')\ndef my_net(): 'A net.'; return torch.nn.Flatten()\n"
    )
    assert "my-net" in help_of("train", capsys, "--plugin", "mine.py")
    assert "my-net" in help_of("train", capsys, "--plugin=mine.py")


@pytest.mark.parametrize("name", [n for n in COMMANDS if n != "list"])
def test_the_defaults_are_those_of_python(name):
    settings, own = parsed(" ".join([name, *NEEDED.get(name, [])]))
    for each, cls in MODULES[name].COMMAND.settings.items():
        if (name, each) == ("sample", "sampling"):
            assert settings[each] == cls.of(count=1)
        elif (name, each) != ("sweep", "report"):
            assert settings[each] == cls()
    assert own.machine == type(own.machine)()


def test_options_have_the_short_names_of_settings():
    settings, own = parsed(
        "train --prior-scale 0.25 --epsilon-warmup 0 --value-attack margin --num-perturbed 0 "
        "--max-robustness-gap 1 --replay-size 7 --dataset mnist --value-steps 3 --objective value "
        "--generator chunk --value-network mlp --samples 3 --device cpu --no-baseline"
    )
    flat = settings["training"].flat()
    assert [flat[n] for n in ("prior_scale", "epsilon_warmup", "value_attack")] == [
        0.25,
        0,
        "margin",
    ]
    assert [flat[n] for n in ("num_perturbed", "max_robustness_gap", "replay_size")] == [0, 1, 7]
    assert [flat[n] for n in ("dataset", "value_steps", "objective")] == ["mnist", 3, "value"]
    assert [flat[n] for n in ("generator", "value_network")] == ["chunk", "mlp"]
    assert settings["report"].samples == 3
    assert own.machine.device == "cpu" and own.no_baseline


def test_fractions_are_read():
    judging = parsed("evaluate x --epsilon 8/255 --step-size 2/255")[0]["judging"]
    assert (judging.epsilon, judging.step_size) == (8 / 255, 2 / 255)
    assert parsed("train --epsilon=8/255")[0]["training"].threat.epsilon == 8 / 255
    assert parsed("baseline --epsilon 1e-1")[0]["training"].epsilon == 0.1
    assert parsed("train --preset thesis --base none")[0]["training"].base is None


def test_paths_may_begin_with_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parsed("train --out=~/x")[1].out == tmp_path / "x"
    assert parsed("sample ~/run --count 1")[1].run == tmp_path / "run"
    assert parsed("evaluate ~/a b --json=~/f.json")[1].paths == (tmp_path / "a", Path("b"))
    assert parsed("list --data-dir=~/data")[1].machine.data_dir == tmp_path / "data"


def test_what_can_be_repeated_adds_up():
    search = parsed("sweep --vary beta=0:1 --vary steps=1,2")[0]["search"]
    assert search.vary == ("beta=0:1", "steps=1,2")
    assert parsed("list --plugin a.py --plugin b")[1].machine.plugin == ("a.py", "b")


@pytest.mark.parametrize("name", ["evaluate", "transfer", "compare"])
def test_suite_is_another_name_of_attack(name):
    assert parsed(f"{name} x --suite square")[0]["judging"].attack == "square"
    assert parsed(f"{name} x --attack square")[0]["judging"].attack == "square"


def test_flags_can_be_taken_back_where_they_are_on():
    on = train.COMMAND.settings["training"].of(grey=True)
    command = type(train.COMMAND)(
        train.TrainOptions, train.COMMAND.settings, lambda early: {"training": on}
    )
    for arguments, grey in (([], True), (["--grey"], True), (["--no-grey"], False)):
        assert command.parse("train", arguments)[0]["training"].data.grey is grey


@pytest.mark.parametrize(
    ("command", "settings", "short", "name"),
    [
        ("train --target my.py:MyNet", "training", "target", "MyNet"),
        ("train --dataset my.py:load --epsilon 0.1", "training", "dataset", "load"),
        ("train --activation my.py:Act", "training", "activation", "Act"),
        ("train --generator my.py:Gen", "training", "generator", "Gen"),
        ("train --value-network my.py:Val", "training", "value_network", "Val"),
        ("baseline --target my.py:MyNet", "training", "target", "MyNet"),
        ("evaluate x --attack my.py:Mine", "judging", "attack", "Mine"),
        ("evaluate x --dataset my.py:load", "judging", "dataset", "load"),
        ("transfer x --suite my.py:Mine", "judging", "attack", "Mine"),
    ],
)
def test_a_file_and_a_name_load_the_plugin(command, settings, short, name):
    Path("my.py").write_text(PLUGIN)
    found = parsed(command)[0][settings]
    assert found.flat()[short] == name
    assert [plugin.source for plugin in registry.loaded()] == ["my.py"]


def test_plugins_are_loaded_from_options_and_from_the_environment(monkeypatch, capsys):
    for name in ("first", "second", "third"):
        Path(f"{name}.py").write_text(
            f"import hypergen\n@hypergen.register_dataset('{name}')\n"
            f"def load():\n    'The {name} one.'\n"
        )
    monkeypatch.setenv("HYPERGEN_PLUGINS", "third.py")
    assert main(["list", "datasets", "--plugin", "first.py", "--plugin", "second.py"]) == 0
    shown = capsys.readouterr().out
    for name in ("first", "second", "third"):
        assert re.search(rf"  {name} +The {name} one\. \[{name}\.py\]\n", shown)
    assert re.search(r"  digits .*\n", shown) and "target:" not in shown


@pytest.mark.parametrize("kind", ["data set", "datasets", "data-sets", "dataset"])
def test_list_knows_a_kind_however_it_is_spelt(kind, capsys):
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "data set:"
    assert [line.split()[0] for line in lines[1:]] == DATASETS.names()


def test_list_lists_every_kind(capsys):
    assert main(["list"]) == 0
    shown = capsys.readouterr().out
    for kind, each in registry.REGISTRIES.items():
        assert f"{kind}:\n" in shown and all(f"  {name}" in shown for name in each)


@pytest.mark.parametrize("name", ["train", "baseline", "sample", "evaluate"])
def test_help_shows_every_default_that_there_is(name, capsys):
    """Also one of 0."""
    shown = "".join(help_of(name, capsys).split())
    for cls in MODULES[name].COMMAND.settings.values():
        for field in fields(cls):
            if isinstance(field.default, int | float) and not isinstance(field.default, bool):
                kind = "INT" if isinstance(field.default, int) else "FLOAT"
                option = f"--{field.short.replace('_', '-')}{kind}"
                text = re.split("--[a-z-]+(?:INT|FLOAT|TEXT|PATH|{)", shown.partition(option)[2])[0]
                assert f"(default:{field.default:g})" in text, field.short
