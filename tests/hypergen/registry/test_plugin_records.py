import warnings
from pathlib import Path

import pytest

from hypergen.errors import InputError
from hypergen.plugins import load_plugin
from hypergen.registry import Registry, loaded, plugin_record, require_plugins


def test_records_what_came_from_plugins(widgets, write, shipped):
    gadgets = Registry("gadget", {"small": shipped})
    write("own.py", "class MyNet: ...")
    plugin = load_plugin("own.py")
    assert plugin_record([(widgets, "MyNet"), (gadgets, "small")]) == [
        {"kind": "widget", "name": "MyNet", "source": "own.py", "sha256": plugin.sha256}
    ]
    assert plugin_record([(widgets, "size-3"), (gadgets, "small")]) == []


def entry(**changes: object) -> dict[str, object]:
    return {"kind": "widget", "name": "MyNet", "source": "own.py", "sha256": "0" * 64, **changes}


def test_neither_a_record_nor_an_unknown_name_runs_a_plugin(widgets, write):
    write("own.py", "open('trace', 'w').close()", "class MyNet: ...")
    for source in ("own.py", "./own.py", "own"):
        with pytest.raises(InputError) as error:
            require_plugins([entry(source=source)], "runs/a")
        assert str(error.value) == (
            f"runs/a needs the widget MyNet of {source}: add `plugin` {source} "
            f"(in Python hypergen.load_plugin('{source}'))"
        )
    for name in ("MyNet", "own", "own.py:MyNet"):
        assert name not in widgets
        with pytest.raises(InputError, match="unknown widget"):
            widgets.get(name)
    assert not Path("trace").exists() and loaded() == []


def test_a_plugin_of_the_same_content_is_accepted_silently(widgets, recwarn, write):
    write("own.py", "class MyNet: ...")
    load_plugin("own.py")
    record = plugin_record([(widgets, "MyNet")])
    require_plugins(record, "runs/a")
    require_plugins([], "runs/b")
    assert not recwarn.list


def test_a_changed_plugin_is_told_by_its_hash(widgets, write):
    write("own.py", "class MyNet: ...")
    load_plugin("own.py")
    record = plugin_record([(widgets, "MyNet")])
    write("own.py", "class MyNet: width = 2")
    load_plugin("own.py")
    with pytest.warns(UserWarning, match="^own.py has changed since runs/a was made$"):
        require_plugins(record, "runs/a")
    with warnings.catch_warnings(action="error"):
        require_plugins(record, "runs/a", accept_changed=True)
    write("own.py", "class YourNet: ...")
    load_plugin("own.py")
    with pytest.raises(InputError, match="needs the widget MyNet of own.py, which lacks it now"):
        require_plugins(record, "runs/a")


def test_the_same_name_from_elsewhere_is_told(widgets, write):
    write("other.py", "class MyNet: ...")
    load_plugin("other.py")
    with pytest.warns(UserWarning, match="came from own.py and now comes from other.py"):
        require_plugins([entry()], "runs/a")
    with pytest.warns(UserWarning, match="came from own.py and now comes from no plugin"):
        require_plugins([entry(name="small")], "runs/a")


@pytest.mark.parametrize(
    "record",
    [
        None,
        "own.py",
        {},
        3,
        ["own.py"],
        [None],
        [{}],
        [entry(name=3)],
        [entry(kind=["widget"])],
        [entry(kind="unheard of")],
        [entry(source=None)],
        [entry(source="own.py\nrm -rf")],
        [entry(name="\x1b[2J")],
    ],
)
def test_a_record_that_is_none_is_told_in_one_line(widgets, record):
    with pytest.raises(InputError) as error:
        require_plugins(record, "runs/a")
    assert str(error.value) == "runs/a: what it says of its plugins cannot be read"


def test_the_plugin_to_add_is_quoted_for_the_shell(widgets):
    with pytest.raises(InputError, match="add `plugin` 'own nets.py; ls' .in Python "):
        require_plugins([entry(source="own nets.py; ls")], "runs/a")
