import hashlib
import pickle
import sys
from pathlib import Path

import pytest

from hypergen.errors import InputError
from hypergen.plugins import load_named, load_plugin, resolve
from hypergen.registry import Plugin, Registry, loaded


def test_loads_a_module(widgets, folder, monkeypatch, write):
    monkeypatch.syspath_prepend(folder)
    write("acme/__init__.py")
    write("acme/nets.py", "@register('acme')", "class Net: ...")
    plugin = load_plugin("acme.nets")
    path = (folder / "acme" / "nets.py").resolve()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert plugin == Plugin("acme.nets", str(path), digest)
    assert widgets.origin("acme") is plugin and load_plugin("acme.nets") is plugin
    assert pickle.loads(pickle.dumps(widgets.get("acme"))) is widgets.get("Net")
    assert resolve(widgets, "acme.nets:Net") == "Net"


def test_a_failing_module_leaves_nothing_and_can_be_tried_again(
    widgets, folder, monkeypatch, write
):
    monkeypatch.syspath_prepend(folder)
    write("acme/__init__.py", "import acme.nets", "x = 1 / 0")
    write("acme/nets.py", "register('acme')(max)")
    with pytest.raises(InputError, match="plugin acme, line 4: ZeroDivisionError"):
        load_plugin("acme")
    assert "acme" not in widgets and "acme.nets" not in sys.modules
    write("acme/__init__.py", "import acme.nets")
    load_plugin("acme")
    assert widgets.get("acme") is max
    with pytest.raises(InputError, match='plugin acme.typo: no module "acme.typo" is installed'):
        load_plugin("acme.typo")


def test_a_module_without_a_file_is_loaded_too(widgets):
    plugin = load_plugin("math")
    assert plugin.path is None or Path(plugin.path).exists()  # it depends on how Python was built
    assert resolve(widgets, "math:hypot") == "hypot" and widgets.get("hypot")(3, 4) == 5


def install(folder: Path, entry: str) -> None:
    info = folder / "site" / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hypergen.plugins]\n{entry}\n")


def test_loads_those_named_then_those_of_the_environment_then_those_installed(
    widgets, folder, monkeypatch, write
):
    for name in ("one", "two", "three", "four"):
        write(f"{name}.py", f"register('{name}')(max)")
    write("site/acme.py", "register('acme')(max)")
    install(folder, "nets = acme")
    monkeypatch.syspath_prepend(folder / "site")
    monkeypatch.setenv("HYPERGEN_PLUGINS", "three.py:two.py, four.py,")
    found = load_named(["one.py", "two.py"])
    assert found == loaded()
    sources = [plugin.source for plugin in found]
    assert sources == ["one.py", "two.py", "three.py", "four.py", "acme"]
    assert widgets.names()[2:] == ["one", "two", "three", "four", "acme"]


def test_a_broken_plugin_of_the_environment_is_told_with_the_variable(monkeypatch):
    monkeypatch.setenv("HYPERGEN_PLUGINS", "gone.py")
    with pytest.raises(InputError, match="HYPERGEN_PLUGINS: plugin gone.py: No such file"):
        load_named([])


def test_a_broken_installed_plugin_is_left_out_and_told_by_its_name(
    widgets, folder, monkeypatch, write
):
    write("site/acme.py", "register('acme')(max)", "1 / 0")
    install(folder, "nets = acme")
    monkeypatch.syspath_prepend(folder / "site")
    with pytest.warns(UserWarning, match='the installed plugin "nets": .*acme, line 4: Zero'):
        assert load_named([]) == []
    assert widgets.names() == ["small", "large"]


def test_resolves_the_short_form(widgets, folder, write):
    write("sub/own.py", "class MyNet: ...", "@register('my-net')", "class Other: ...")
    assert resolve(widgets, f"{folder}/sub/own.py:MyNet") == "MyNet"
    assert resolve(widgets, "sub/own.py:my-net") == "my-net"
    assert resolve(widgets, "sub/own.py:MyNet") == "MyNet"
    assert widgets.names() == ["small", "large", "my-net", "MyNet"]
    (plugin,) = loaded()
    assert widgets.origin("MyNet") is plugin and widgets.origin("my-net") is plugin


@pytest.mark.parametrize("name", ["small", "size-3", "typo", "foldr:pets", ":x", "C:pets"])
def test_a_plain_name_comes_back(widgets, name):
    assert resolve(widgets, name) == name and loaded() == []


def test_a_family_with_a_colon_is_no_plugin(folder, write):
    write("trace.py", "raise RuntimeError")
    registry = Registry(
        "data set", {}, lambda name: (lambda: name) if name.startswith("folder:") else None
    )
    assert resolve(registry, "folder:trace.py:x") == "folder:trace.py:x"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own.py:MyNett", r'plugin own.py defines no "MyNett" \(did you mean "MyNet"\?\)'),
        ("own.py:_Hidden", 'plugin own.py defines no "_Hidden"; list it in __all__'),
        ("own.py:Path", 'plugin own.py defines no "Path"; list it in __all__'),
        ("own.py:small", 'there already is a widget "small"; choose another name'),
        ("gone.py:MyNet", "plugin gone.py: No such file"),
        ("no_such.package:MyNet", 'plugin no_such.package: no module "no_such" is installed'),
    ],
)
def test_a_short_form_that_leads_nowhere_is_told(widgets, name, message, write):
    write("own.py", "from pathlib import Path", "class MyNet: ...", "class _Hidden: ...")
    with Path("own.py").open("a") as file:
        file.write("def small(): ...\n")
    with pytest.raises(InputError, match=message):
        resolve(widgets, name)
    assert widgets.names() == ["small", "large"]


def test_a_name_of_two_plugins_is_told_until_one_is_named(widgets, write):
    write("one.py", "def net(): return 1")
    write("two.py", "def net(): return 2")
    load_named(["one.py", "two.py"])
    with pytest.raises(InputError, match='"net" stands in one.py and in two.py: say which, as in'):
        widgets.get("net")
    assert resolve(widgets, "two.py:net") == "net"
    assert widgets.get("net")() == 2
    with pytest.raises(InputError, match=r'there already is a widget "net" \(of two.py\)'):
        resolve(widgets, "one.py:net")


def test_public_names_are_found_without_registration(widgets, write):
    write(
        "own.py",
        "from functools import partial",
        "from pathlib import Path, PurePath",
        "__all__ = ['MyNet', 'PurePath', 'three']",
        "class MyNet: ...",
        "three = partial(int, 3)",
        "number = 3",
        "upper = str.upper",
    )
    plugin = load_plugin("own.py")
    assert widgets.get("three")() == 3
    assert widgets.origin("MyNet") is plugin and widgets.origin("PurePath") is plugin
    assert all(name not in widgets for name in ("partial", "Path", "number", "upper", "REGISTRIES"))
    assert widgets.names() == ["small", "large", "three"]  # what was asked for, and no more


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ("raise RuntimeError", "class MyNet: ...", "def other(): ...", "class _No: ..."),
            "own.py is a file: say what of it, as in own.py:MyNet; it has MyNet, other",
        ),
        (("x = 3",), "plugin own.py defines no class or function to be named"),
        (("def broken(:",), "plugin own.py: SyntaxError: invalid syntax"),
    ],
)
def test_a_file_alone_is_told_what_it_has_without_being_run(widgets, write, lines, message):
    write("own.py", *lines)
    with pytest.raises(InputError) as told:
        resolve(widgets, "own.py")
    assert str(told.value).startswith(message) and "\n" not in str(told.value)
    assert loaded() == []
    with pytest.raises(InputError, match="plugin none.py: No such file"):
        resolve(widgets, "none.py")
