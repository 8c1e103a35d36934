import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from hypergen.errors import InputError
from hypergen.plugins import load_plugin
from hypergen.registry import Registry, nearest


def test_finds_by_exact_name_and_family(widgets, shipped):
    assert widgets.get("small") is shipped
    assert widgets.get("size-12")() == 12
    assert "large" in widgets and "size-3" in widgets
    assert "Small" not in widgets and "sma" not in widgets
    assert list(widgets) == widgets.names() == ["small", "large"]
    assert widgets.origin("small") is None and widgets.origin("size-3") is None


def test_describes_by_the_first_line_of_the_docstring(widgets):
    widgets.register("bare")(lambda: 0)
    assert widgets.describe("small") == widgets.describe("large") == "A widget of any size."
    assert widgets.describe("size-3") == "A widget of any size."
    assert widgets.describe("bare") == ""


def test_unknown_name_is_told_with_the_nearest_and_the_way_to_bring_ones_own(widgets, write):
    with pytest.raises(InputError) as error:
        widgets.get("smal")
    assert str(error.value) == (
        'unknown widget "smal" (did you mean "small"?); known: small, large; '
        "add yours by `plugin` FILE.py or hypergen.load_plugin"
    )
    load_plugin(write("own.py", "def MyNet(): ..."))
    with pytest.raises(InputError) as error:
        widgets.get("MyNets")
    assert str(error.value) == (
        'unknown widget "MyNets" (did you mean "MyNet"?); known: small, large'
    )


@pytest.mark.parametrize("ask", [Registry.get, Registry.origin, Registry.describe])
def test_every_question_about_an_unknown_name_is_refused(widgets, ask):
    with pytest.raises(InputError, match='unknown widget "x"'):
        ask(widgets, "x")


def test_nearest_ignores_case_and_says_nothing_of_far_names():
    assert nearest("LENET", ["mlp", "LeNet5"]) == ' (did you mean "LeNet5"?)'
    assert nearest("zzz", ["mlp", "LeNet5"]) == ""


def test_entries_are_asked_for_only_when_needed(shipped):
    asked = []

    def entries() -> dict[str, Callable]:
        asked.append(1)
        return table

    table = {"small": shipped}
    registry = Registry("lazy", entries)
    assert not asked
    registry.register("more")(shipped)
    assert table == {"small": shipped, "more": shipped}
    table["later"] = shipped
    assert registry.names() == ["small", "more", "later"]


def test_import_is_cheap():
    modules = "{'torch', 'numpy', 'attacks', 'targets', 'importlib.metadata'}"
    code = f"import sys, hypergen.registry, hypergen.plugins; print({modules} & {{*sys.modules}})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert result.stdout.strip() == "set()", result.stderr


def test_register_returns_the_thing_unchanged(widgets):
    @widgets.register("mine")
    def mine():
        """Mine."""

    assert mine.__name__ == "mine" and widgets.get("mine") is mine
    assert widgets.names() == ["small", "large", "mine"]


@pytest.mark.parametrize("name", ["", "a=b", "a:b", "a b", "a\n", "\t", max, None])
def test_refuses_a_name_that_cannot_be_given(widgets, name):
    with pytest.raises(InputError, match="cannot register a widget as .*expected a name without"):
        widgets.register(name)
    assert widgets.names() == ["small", "large"]


def test_refuses_a_name_that_is_taken_and_what_cannot_be_called(widgets, shipped):
    with pytest.raises(InputError, match='there already is a widget "small"; choose another name'):
        widgets.register("small")(lambda: 0)
    with pytest.raises(InputError, match='the widget "three" cannot be called, got 3'):
        widgets.register("three")(3)
    assert widgets.get("small") is shipped and "three" not in widgets


def test_a_cell_of_a_notebook_can_be_run_again_but_not_take_another_name(widgets, shipped):
    def cell(definition: str) -> type:
        namespace = {"__name__": "__main__"}
        exec(definition, namespace)
        return namespace["Net"]  # pyright: ignore[reportReturnType]

    widgets.register("net")(cell("class Net: width = 1"))
    widgets.register("net")(cell("class Net: width = 2"))
    assert widgets.get("net").width == 2  # pyright: ignore[reportFunctionMemberAccess]
    with pytest.raises(InputError, match="already is"):
        widgets.register("small")(cell("class Net: width = 3"))
    with pytest.raises(InputError, match="already is"):
        widgets.register("net")(shipped)


def test_the_nearest_name_is_one_of_the_kind(widgets, write):
    gadgets: Registry[Callable] = Registry("gadget", {})
    write("own.py", "def zigzag(): ...", "@register('my-widget')", "def make(): ...")
    with Path("own.py").open("a") as file:
        file.write("REGISTRIES['gadget'].register('my-gadget')(zigzag)\n")
    load_plugin("own.py")
    for name, hint in (("zigzags", ""), ("my-gadgets", "my-widget"), ("maker", "make")):
        with pytest.raises(InputError) as error:
            widgets.get(name)
        assert ("did you mean" in str(error.value)) == bool(hint) and hint in str(error.value)
    with pytest.raises(InputError, match='did you mean "zigzag"'):
        gadgets.get("zigzags")
    with pytest.raises(InputError) as error:
        gadgets.get("mak")
    assert "did you mean" not in str(error.value)


def test_a_text_of_its_own_describes_what_is_made_by_a_partial(widgets):
    made = partial(int, 3)
    made.__doc__ = "Three."
    widgets.register("three")(made)
    widgets.register("again")(partial(made))
    assert widgets.describe("three") == widgets.describe("again") == "Three."
