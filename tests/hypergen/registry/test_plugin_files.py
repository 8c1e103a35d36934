import copy
import hashlib
import importlib
import pickle
import sys
from pathlib import Path

import pytest

import attacks
import hypergen
from hypergen.errors import InputError
from hypergen.plugins import load_plugin, resolve
from hypergen.registry import LOADED, Plugin, Registry, loaded


def test_loads_a_file_once(widgets, folder, write):
    spec = write(
        "own.py",
        "from pathlib import Path",
        "with Path('trace').open('a') as file: file.write('x')",
        "@register('mine')",
        "def mine():",
        "    '''My own.'''",
    )
    plugin = load_plugin(spec)
    content = (folder / "own.py").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert plugin == Plugin("own.py", str((folder / "own.py").resolve()), digest)
    assert load_plugin("./own.py") is plugin and load_plugin(str(folder / "own.py")) is plugin
    assert loaded() == [plugin]
    assert Path("trace").read_text() == "x"
    assert widgets.names() == ["small", "large", "mine"]
    assert widgets.origin("mine") is plugin
    assert widgets.describe("mine") == "My own."


def test_a_changed_file_takes_the_place_of_its_former_version(widgets, write):
    write("own.py", "@register('a')", "def a(): return 1", "@register('b')", "def b(): ...")
    old = load_plugin("own.py")
    write("own.py", "@register('a')", "def a(): return 2")
    new = load_plugin("own.py")
    assert old.sha256 != new.sha256 and loaded() == [new]
    assert widgets.get("a")() == 2 and widgets.origin("a") is new
    assert widgets.names() == ["small", "large", "a"]


def test_the_former_version_stays_if_the_new_one_fails(widgets, write):
    write("own.py", "import helper", "@register('a')", "def a(): return helper.value")
    Path("helper.py").write_text("value = 1")
    old = load_plugin("own.py")
    helper = sys.modules["helper"]
    Path("helper.py").write_text("value = 22")
    write("own.py", "import helper", "register('a')(max)", "register('c')(max)", "1 / 0")
    with pytest.raises(InputError):
        load_plugin("own.py")
    assert loaded() == [old] and widgets.origin("a") is old
    assert widgets.get("a")() == 1 and "c" not in widgets
    assert sys.modules["helper"] is helper
    write("own.py", "import helper", "@register('a')", "def a(): return 100 + helper.value")
    load_plugin("own.py")
    assert widgets.get("a")() == 122  # of the new helper, too


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["def f(:"], r": SyntaxError: .*\(own.py, line 3\)"),
        (
            ["", "def f():", "    return 1 / 0", "f()"],
            "line 5: ZeroDivisionError: division by zero",
        ),
        (["import no_such_thing"], "line 3: ModuleNotFoundError: No module named 'no_such_thing'"),
        (["raise ValueError('one\\ntwo')"], "line 3: ValueError: one two"),
        (["raise SystemExit"], "line 3: SystemExit"),
        (["import os"], "it registers nothing, and defines no class or function to be named"),
        (["from pathlib import Path"], "it registers nothing, and defines no"),
        (["@register('small')", "def f(): ..."], 'line 3: there already is a widget "small";'),
        (["register('a')(max)", "register('a')(min)"], 'line 4: there already is a widget "a";'),
    ],
)
def test_a_failing_file_is_told_in_one_line_and_leaves_nothing(widgets, lines, message, write):
    before = set(sys.modules)
    Path("own.py").write_text("\n".join(["", "", *lines]))
    if "register" in " ".join(lines):
        write("own.py", *lines)
    with pytest.raises(InputError, match=f"plugin own.py.*{message}") as error:
        load_plugin("own.py")
    assert "\n" not in str(error.value)
    assert widgets.names() == ["small", "large"] and loaded() == []
    assert not [name for name in set(sys.modules) - before if name.startswith("hypergen_plugin")]


def test_what_was_registered_before_a_failure_is_taken_back_from_every_registry(widgets, write):
    table = {}
    gadgets = Registry("gadget", lambda: table)
    write("own.py", "register('a')(max)", "REGISTRIES['gadget'].register('b')(min)", "int('x')")
    with pytest.raises(InputError, match="plugin own.py, line 5: ValueError"):
        load_plugin("own.py")
    assert widgets.names() == ["small", "large"] and gadgets.names() == [] and table == {}
    write("own.py", "register('a')(max)", "REGISTRIES['gadget'].register('b')(min)")
    load_plugin("own.py")
    assert widgets.get("a") is max and gadgets.get("b") is min


def test_ctrl_c_while_a_plugin_runs_passes_and_leaves_nothing(widgets, write):
    write("own.py", "register('a')(max)", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_plugin("own.py")
    assert "a" not in widgets and loaded() == []


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("missing.py", "No such file"),
        ("no/such/folder.py", "No such file"),
        ("~nobody-of-that-name/x.py", "No such file"),
        ("folder.py", "Is a"),
        ("circle.py", "symbolic links"),
        ("\0.py", "null"),
    ],
)
def test_a_file_that_cannot_be_read_is_told(widgets, folder, spec, reason):
    (folder / "folder.py").mkdir()
    (folder / "circle.py").symlink_to("circle.py")
    for refused in (load_plugin, lambda spec: resolve(widgets, spec)):
        with pytest.raises(InputError, match=f"plugin .*{reason}"):
            refused(spec)


@pytest.mark.parametrize("spec", ["", "own", "a.b.c", "own.txt", "a/b", "own.py:MyNet", ".own"])
def test_what_is_neither_file_nor_module_is_told(spec):
    with pytest.raises(InputError, match='expected FILE.py or package.module|no module "'):
        load_plugin(spec)


def test_instances_can_be_copied_and_pickled(widgets):
    Path("own-net.2.py").write_text(
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Net:\n"
        "    width: int = 3\n"
    )
    load_plugin("own-net.2.py")
    net = widgets.get("Net")(5)
    assert copy.deepcopy(net) == net
    restored = pickle.loads(pickle.dumps(net))
    assert type(restored) is type(net) and restored == net


def test_instances_of_the_former_version_can_still_be_pickled(widgets, write):
    write("own.py", "class Net: version = 1")
    load_plugin("own.py")
    old = widgets.get("Net")()
    write("own.py", "class Net: version = 2")
    load_plugin("own.py")
    new = widgets.get("Net")()
    assert [pickle.loads(pickle.dumps(net)).version for net in (old, new)] == [1, 2]


def test_a_file_imports_from_its_own_folder_only_while_it_loads(widgets, write):
    before = list(sys.path), list(sys.meta_path)
    write("one/own.py", "from helper import Net", "import parts.layer")
    write("one/helper.py", "class Net: home = 'one'", "register('helped')(Net)")
    write("one/parts/layer.py", "x = 1")
    write("one/second.py", "import helper", "value = helper.Net")
    plugin = load_plugin("one/own.py")
    assert (list(sys.path), list(sys.meta_path)) == before
    assert widgets.get("Net").home == "one" and widgets.origin("Net") is plugin
    assert widgets.origin("helped") is plugin
    assert pickle.loads(pickle.dumps(widgets.get("Net"))) is widgets.get("Net")
    load_plugin("one/second.py")  # shares the helper, which is not run again
    assert LOADED[str(Path("one/second.py").resolve())].module.value is widgets.get("Net")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("second")


def test_helpers_of_the_same_name_in_two_folders_are_told_apart(widgets, write):
    for home in ("one", "two"):
        write(f"{home}/own.py", "import helper", f"register('{home}')(helper.make)")
        write(f"{home}/helper.py", f"def make(): return '{home}'")
        load_plugin(f"{home}/own.py")
    assert widgets.get("one")() == "one" and widgets.get("two")() == "two"


def test_a_file_beside_does_not_stand_in_for_what_is_installed(widgets, write):
    sys.modules.pop("colorsys", None)
    write("colorsys.py", "raise RuntimeError")
    write("own.py", "import colorsys", "register('a')(colorsys.rgb_to_hsv)")
    load_plugin("own.py")
    assert widgets.get("a")(1, 1, 1) == (0, 0, 1)


def test_a_failed_helper_is_run_again_at_the_next_try(widgets, write):
    write("own.py", "import helper", "register('a')(helper.make)")
    write("helper.py", "def mak(): ...")
    with pytest.raises(InputError, match="line 4: AttributeError"):
        load_plugin("own.py")
    write("helper.py", "def make(): return 4")
    load_plugin("own.py")
    assert widgets.get("a")() == 4


def test_a_plugin_may_load_another(widgets, write):
    write("inner.py", "register('inner')(max)")
    write(
        "outer.py",
        "from hypergen.plugins import load_plugin",
        "register('before')(min)",
        "load_plugin('inner.py')",
        "register('after')(sum)",
    )
    outer = load_plugin("outer.py")
    inner = load_plugin("inner.py")
    assert [widgets.origin(name) for name in ("inner", "before", "after")] == [inner, outer, outer]


def test_what_is_shipped_is_not_a_plugins_that_imports_it_first(widgets, write):
    write(
        "own.py",
        "def shipped(): ...",
        "shipped.__module__ = 'hypergen.measures.accuracy'  # as if it were imported here",
        "register('shipped')(shipped)",
        "@register('mine')",
        "def mine(): ...",
    )
    plugin = load_plugin("own.py")
    assert widgets.origin("mine") is plugin
    assert widgets.origin("shipped") is None


@pytest.mark.usefixtures("widgets")
def test_a_failed_import_of_ours_is_not_blamed_on_the_plugin(folder, write, monkeypatch):
    broken = Path(hypergen.__path__[0]).parent / "attacks"
    monkeypatch.setattr(attacks, "__path__", [str(folder / "attacks"), str(broken)])
    (folder / "attacks").mkdir()
    (folder / "attacks" / "broken.py").write_text("import no_such_package")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load_plugin(write("own.py", "import attacks.broken", "def mine(): ..."))
    with pytest.raises(InputError, match=r"plugin own.py, line \d+: ModuleNotFoundError: "):
        load_plugin(write("own.py", "import no_such_package", "def mine(): ..."))
    with pytest.raises(InputError, match=r"plugin own.py, line \d+: ImportError: cannot"):
        load_plugin(write("own.py", "from hypergen.registry import nothing", "def mine(): ..."))
