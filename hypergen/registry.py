"""Finds what a user can name: shipped things and those of plugins.

Targets, attacks, data sets and all else that is found by its name stand in a `Registry` each.
hypergen/plugins.py loads the user's own code; nothing here runs any. A config or weight file
records which plugins it needs, and is refused where these are not loaded.
"""

import inspect
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from hypergen.errors import InputError

T = TypeVar("T")
Thing = TypeVar("Thing")
SHIPPED = "hypergen", "targets", "attacks"  # no plugin has to be loaded for what is in these


def nearest(name: str, choices: Iterable[str]) -> str:
    """The hint ` (did you mean "x"?)` for the choice closest to `name`, or an empty string."""
    known = {choice.lower(): choice for choice in choices}
    matches = get_close_matches(str(name).lower(), known, n=1)
    return f' (did you mean "{known[matches[0]]}"?)' if matches else ""


@dataclass(frozen=True)
class Plugin:
    """A user's file or module that was loaded."""

    source: str
    """as the user named it: FILE.py or package.module"""
    path: str | None
    """absolute path of the file that was run; None for a module without a file"""
    sha256: str
    """of the bytes of that file; the modules it imports are not covered"""


class Registry(Generic[T]):
    """Finds things of one kind by name: those shipped, those of a pattern, those of plugins.

    kind: what one is called in messages and records, such as "target"; each has one registry.
    entries: name -> thing, to which is added; or a function that returns this mapping, called when
        it is first needed, so that a registry is made without importing what it holds.
    family: gives the thing of a name of a pattern, such as kwta-0.1; None for any other name.
    """

    def __init__(
        self,
        kind: str,
        entries: MutableMapping[str, T] | Callable[[], MutableMapping[str, T]],
        family: Callable[[str], T | None] | None = None,
    ):
        self.kind, self.one = kind, f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
        self._source = entries
        self._family = family
        self._origins: dict[str, Plugin] = {}
        REGISTRIES[kind] = self

    @property
    def _entries(self) -> MutableMapping[str, T]:
        return self._source() if callable(self._source) else self._source

    def register(self, name: str) -> Callable[[Thing], Thing]:
        """A decorator that adds the class or function under `name` and returns it unchanged.

        Raises:
            InputError: a name that is taken, empty, or with "=", ":", "/" or white space in it; or
                what cannot be called. What a notebook's cell defines may be registered again.
        """
        if not isinstance(name, str) or not name or re.search(r"[\s=:/]", name):
            raise InputError(
                f"cannot register {self.one} as {name!r}: "
                'expected a name without "=", ":", "/" and spaces'
            )

        def add(thing: Thing) -> Thing:
            self._require_free(name, thing)
            self._entries[name] = thing  # pyright: ignore[reportArgumentType]
            # A plugin may be the first to import what is shipped, which is not its own.
            if LOADING and getattr(thing, "__module__", "").partition(".")[0] not in SHIPPED:
                LOADING[-1].append((self, name, thing))
            return thing

        return add

    def _require_free(self, name: str, thing: Any) -> None:
        if not callable(thing):
            raise InputError(f'the {self.kind} "{name}" cannot be called, got {thing!r}')
        if name in self._entries and not _defined_again(self._entries[name], thing):
            plugin = self._origins.get(name)
            owner = f" (of {plugin.source})" if plugin else ""
            raise InputError(f'there already is {self.one} "{name}"{owner}; choose another name')

    def put(self, name: str, thing: T, plugin: Plugin) -> None:
        """Notes that `name` is `thing`, and of which plugin."""
        self._entries[name] = thing
        self._origins[name] = plugin

    def drop(self, name: str) -> None:
        """Forgets a name."""
        self._entries.pop(name, None)
        self._origins.pop(name, None)

    def _find(self, name: str) -> tuple[T, Plugin | None] | None:
        if name in self._entries:
            return self._entries[name], self._origins.get(name)
        if self._family is not None and (thing := self._family(name)) is not None:
            return thing, None
        return _attribute(name)

    def _look_up(self, name: str) -> tuple[T, Plugin | None]:
        if not isinstance(name, str):
            raise InputError(f"expected the name of {self.one}, got a {type(name).__name__}")
        found = self._find(name)
        if found is None:
            own = [key for plugin in LOADED.values() for key in plugin.free(self)]
            known = f"{nearest(name, [*self, *own])}; known: {', '.join(self)}"
            bring = "" if LOADED else "; add yours by `plugin` FILE.py or hypergen.load_plugin"
            raise InputError(f'unknown {self.kind} "{name:.60}"{known}{bring}')
        return found

    def get(self, name: str) -> T:
        """The thing of exactly that name, also a public class or function of a loaded plugin.

        The latter is registered by that, for those who look into the mapping itself.

        Raises:
            InputError: an unknown name (the nearest known one is named), or one that several
                plugins hold without having registered it.
        """
        thing, plugin = self._look_up(name)
        if plugin is not None and name not in self._entries:
            owner = next(each for each in LOADED.values() if each.plugin == plugin)
            owner.registered.append((self, name, thing))
            owner.install()
        return thing

    def origin(self, name: str) -> Plugin | None:
        """The plugin that `get(name)` comes from; None for all else. Raises as `get` does."""
        return self._look_up(name)[1]

    def describe(self, name: str) -> str:
        """The first line of its docstring, or an empty string. Raises as `get` does."""
        thing = self.get(name)
        while isinstance(thing, partial) and "__doc__" not in vars(thing):  # it is functools' own
            thing = thing.func
        return (thing.__doc__ or "").strip().partition("\n")[0]

    def names(self) -> list[str]:
        """What is registered, in that order: shipped ones first, members of a family left out."""
        return list(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None


def _defined_again(old: Any, new: Any) -> bool:
    """Whether a notebook's cell, or a script, defines the same class or function once more."""
    names = "__module__", "__qualname__"
    before, after = ([getattr(thing, name, None) for name in names] for thing in (old, new))
    return after[0] == "__main__" and before == after


@dataclass
class LoadedPlugin:
    """A plugin with its module, what it registered, and what it imported from its own folder."""

    plugin: Plugin
    module: ModuleType
    registered: list[tuple[Registry, str, Any]]
    siblings: dict[str, ModuleType]

    def public(self) -> dict[str, Any]:
        """What can be named of it though it is not registered: its own classes and functions.

        What it imports from elsewhere is left out, unless `__all__` lists it, as is what starts
        with an underscore.
        """
        listed = getattr(self.module, "__all__", ())
        return {
            name: thing
            for name, thing in vars(self.module).items()
            if callable(thing)
            and (name in listed or (not name.startswith("_") and self._defines(thing)))
        }

    def free(self, registry: Registry) -> list[str]:
        """The public names that may be of the registry's kind: not registered as another."""
        others = [thing for owner, _, thing in self.registered if owner is not registry]
        taken = {id(getattr(thing, "__wrapped__", thing)) for thing in others}
        return [name for name, thing in self.public().items() if id(thing) not in taken]

    def _defines(self, thing: Any) -> bool:
        if not isinstance(thing, type) and not inspect.isroutine(thing):
            return True  # an object made here, such as a partial
        home = f"{getattr(thing, '__module__', None)}."
        own = [self.module.__name__, *self.siblings]
        shared = [name for plugin in LOADED.values() for name in plugin.siblings]
        return any(home.startswith(f"{name}.") for name in own + shared)

    def install(self) -> None:
        """Puts its things into the registries, as of this plugin, and its siblings into Python."""
        for registry, name, thing in self.registered:
            registry.put(name, thing, self.plugin)
        sys.modules.update(self.siblings)

    def withdraw(self) -> None:
        """Takes out again what `install` put in."""
        for registry, name, _ in self.registered:
            registry.drop(name)
        for name in self.siblings:
            sys.modules.pop(name, None)


REGISTRIES: dict[str, Registry] = {}
"""Kind -> registry."""
LOADED: dict[str, LoadedPlugin] = {}
"""Absolute path of the file, or name of the module -> plugin."""
LOADING: list[list[tuple[Registry, str, Any]]] = []
"""What each plugin that is being loaded has registered so far; one may load another."""


def _attribute(name: str) -> tuple[Any, Plugin] | None:
    """What is called that in a loaded plugin, registered or not, and the plugin."""
    found = [
        (things[name], each.plugin) for each in LOADED.values() if name in (things := each.public())
    ]
    if any(thing is not found[0][0] for thing, _ in found):
        sources = [plugin.source for _, plugin in found]
        raise InputError(
            f'"{name}" stands in {" and in ".join(sources)}: say which, as in {sources[0]}:{name}'
        )
    return found[0] if found else None


def loaded() -> list[Plugin]:
    """The plugins that were loaded, in that order."""
    return [each.plugin for each in LOADED.values()]


def plugin_record(names: Iterable[tuple[Registry, str]]) -> list[dict[str, str]]:
    """What config and weight files say of those of the named things that came from plugins.

    Each is `{"kind": "target", "name": "MyNet", "source": "my_net.py", "sha256": "..."}`.
    """
    return [
        {"kind": registry.kind, "name": name, "source": plugin.source, "sha256": plugin.sha256}
        for registry, name in names
        if (plugin := registry.origin(name)) is not None
    ]


def require_plugins(record: Any, where: str, accept_changed: bool = False) -> None:
    """Refuses a file whose plugins are not loaded, and warns if they have changed; loads none.

    record: what `plugin_record` returned, as read from the file: it is not trusted.
    where: the file, for messages. accept_changed: do not warn.

    Raises:
        InputError: a thing that is not registered now, or something else than such a record.
    """
    for kind, name, source, sha256 in _entries(record, where):
        if name not in REGISTRIES[kind]:
            there = any(Path(plugin.source).name == Path(source).name for plugin in loaded())
            add = f"`plugin` {shlex.quote(source)} (in Python hypergen.load_plugin({source!r}))"
            lack = ", which lacks it now" if there else f": add {add}"
            raise InputError(f"{where} needs the {kind} {name} of {source}{lack}")
        plugin = REGISTRIES[kind].origin(name)
        if accept_changed or (plugin is not None and plugin.sha256 == sha256):
            continue
        if plugin is not None and Path(plugin.source).name == Path(source).name:
            change = f"{source} has changed since {where} was made"
        else:
            now = "no plugin" if plugin is None else plugin.source
            change = f"the {kind} {name} of {where} came from {source} and now comes from {now}"
        warnings.warn(change, stacklevel=2)


def _entries(record: Any, where: str) -> list[tuple[str, str, str, str]]:
    keys = ("kind", "name", "source", "sha256")
    if not isinstance(record, list) or not all(
        isinstance(entry, dict)
        and all(isinstance(entry.get(key), str) and entry[key].isprintable() for key in keys)
        and entry["kind"] in REGISTRIES
        for entry in record
    ):
        raise InputError(f"{where}: what it says of its plugins cannot be read")
    return [(entry["kind"], entry["name"], entry["source"], entry["sha256"]) for entry in record]
