"""Loads a user's own code: `--plugin FILE.py` or `package.module`, and what is beside it.

Code runs only where the user names it, in `load_plugin`, `load_named` and `resolve`.
"""

import ast
import hashlib
import importlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from hypergen.errors import InputError
from hypergen.registry import (
    LOADED,
    LOADING,
    LoadedPlugin,
    Plugin,
    Registry,
    loaded,
    nearest,
)

OWN = "hypergen", "targets", "attacks"
"""Our packages."""


def load_plugin(spec: str | Path) -> Plugin:
    """Runs FILE.py, or imports package.module, and notes what it registers.

    A file is run once, and again only when it has changed: what its new version registers then
    takes the place of what the old one did. While it runs, it can import the modules of its own
    folder. Its classes can be pickled; whoever reads such a pickle loads the same file first. A
    module is imported as Python does it, once a process.

    Raises:
        InputError: no such file or module, an exception while it runs (told with its line), or a
            plugin with nothing in it that could be named. Nothing that it registered is then left,
            and the former version of a changed file stays.
    """
    if not isinstance(spec, str | Path):
        got = type(spec).__name__
        raise InputError(
            f"expected a plugin, FILE.py or package.module, got something of type {got}"
        )
    return _load(str(spec)).plugin


def load_named(plugins: Iterable[str]) -> list[Plugin]:
    """Loads `plugins`, then those of HYPERGEN_PLUGINS, then those installed; returns `loaded()`.

    HYPERGEN_PLUGINS names plugins with commas or the system's path separator between them. An
    installed package names a module as an entry point of the group hypergen.plugins; one that
    fails is left out with a warning, for the user has not asked for it.
    """
    from importlib.metadata import entry_points  # takes longer than all other imports here

    for spec in plugins:
        load_plugin(spec)
    for spec in re.split(f"[,{os.pathsep}]", os.environ.get("HYPERGEN_PLUGINS", "")):
        if spec.strip():
            try:
                load_plugin(spec.strip())
            except InputError as error:
                raise InputError(f"HYPERGEN_PLUGINS: {error}") from error
    for entry in entry_points(group="hypergen.plugins"):
        try:
            load_plugin(entry.module)
        except InputError as error:
            warnings.warn(f'left out the installed plugin "{entry.name}": {error}', stacklevel=2)
    return loaded()


def resolve(registry: Registry, name: str) -> str:
    """The name without its plugin: for `my_net.py:MyNet`, loads my_net.py and returns `MyNet`.

    So it does for `package.module:MyNet`. What the plugin has not registered itself is registered
    under its own name. Any other name, known or not, comes back as it is.

    Raises:
        InputError: as from `load_plugin`; a plugin without that name, or that imports it from
            elsewhere and does not list it in `__all__`; a name that is taken; a file alone.
    """
    source, _, plain = name.rpartition(":")
    if name in registry:
        return name
    if not source:
        if name.endswith(".py"):
            raise InputError(_which_of(name))
        return name
    if source.isidentifier() and source not in sys.modules and find_spec(source) is None:
        return name  # no module, but perhaps a mistyped family, as in foldr:pets
    plugin = _load(source)
    if not any((owner, key) == (registry, plain) for owner, key, _ in plugin.registered):
        things = plugin.public()
        if plain not in things:
            there = plain in vars(plugin.module)
            hint = "; list it in __all__" if there else nearest(plain, things)
            raise InputError(f'plugin {source} defines no "{plain}"{hint}')
        registry.register(plain)(things[plain])
        plugin.registered.append((registry, plain, things[plain]))
        plugin.install()
    return plain


def _which_of(file: str) -> str:
    """What a user is told who names a file and nothing in it, which is not run to find out."""
    try:
        tree = ast.parse(Path(os.path.expanduser(file)).read_bytes())
    except OSError as error:
        return f"plugin {file}: {error.strerror}"
    except Exception as error:  # SyntaxError, or RecursionError where it is deeply nested, ...
        return f"plugin {file}: {type(error).__name__}: {error}"
    defined = ast.ClassDef, ast.FunctionDef
    names = [node.name for node in tree.body if isinstance(node, defined)]
    names = [name for name in names if not name.startswith("_")]
    if not names:
        return f"plugin {file} defines no class or function to be named"
    return f"{file} is a file: say what of it, as in {file}:{names[0]}; it has {', '.join(names)}"


def _load(spec: str) -> LoadedPlugin:
    if spec.endswith(".py"):
        return _load_file(spec)
    if not all(part.isidentifier() for part in spec.split(".")):
        raise InputError(f'plugin "{spec}": expected FILE.py or package.module')
    return LOADED.get(spec) or _load_module(spec)


def _load_file(spec: str) -> LoadedPlugin:
    try:
        path = Path(os.path.realpath(os.path.expanduser(spec)))
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # no such file, or a name that none can have
        raise InputError(f"plugin {spec}: {getattr(error, 'strerror', error)}") from None
    plugin = Plugin(spec, str(path), hashlib.sha256(content).hexdigest())
    old = LOADED.get(str(path))
    if old is not None:
        if old.plugin.sha256 == plugin.sha256:
            return old
        old.withdraw()
    stem = re.sub(r"\W", "_", path.stem)
    unique = hashlib.sha256(str(path).encode() + content).hexdigest()[:16]
    name = f"hypergen_plugin_{stem}_{unique}"
    try:
        with _noted(spec, name) as registered:
            with _importable(path.parent) as siblings:
                module = _execute(name, path, content)
            new = LoadedPlugin(plugin, module, registered, siblings)
            _require_use(new)
    except BaseException:
        sys.modules.pop(name, None)
        if old is not None:
            old.install()
        raise
    return _keep(str(path), new)


def _load_module(spec: str) -> LoadedPlugin:
    with _noted(spec, spec) as registered:
        try:
            module = importlib.import_module(spec)
        except ModuleNotFoundError as error:
            if f"{spec}.".startswith(f"{error.name}."):
                raise InputError(f'no module "{error.name}" is installed') from error
            raise
        file = getattr(module, "__file__", None)
        path = None if file is None else Path(file).resolve()
        content = b"" if path is None else path.read_bytes()
        plugin = Plugin(spec, path and str(path), hashlib.sha256(content).hexdigest())
        new = LoadedPlugin(plugin, module, registered, siblings={})
        _require_use(new)
    return _keep(spec, new)


def _keep(key: str, plugin: LoadedPlugin) -> LoadedPlugin:
    plugin.install()
    LOADED[key] = plugin
    return plugin


def _require_use(plugin: LoadedPlugin) -> None:
    if not plugin.registered and not plugin.public():
        raise InputError("it registers nothing, and defines no class or function to be named")


def _execute(name: str, path: Path, content: bytes) -> ModuleType:
    """Runs the very bytes that were hashed, as a module that pickle finds by its name."""
    spec = spec_from_file_location(name, path)
    assert spec is not None
    module = sys.modules[name] = module_from_spec(spec)
    exec(compile(content, path, "exec"), vars(module))
    return module


@contextmanager
def _noted(spec: str, module: str) -> Iterator[list[tuple[Registry, str, Any]]]:
    """What is registered meanwhile; taken back, and the error told in one line, if one comes."""
    registered: list[tuple[Registry, str, Any]] = []
    before = set(sys.modules)
    LOADING.append(registered)
    try:
        yield registered
    except BaseException as error:
        for registry, name, _ in registered:
            registry.drop(name)
        if registered:  # the next try has to run what registered them
            package = module.partition(".")[0]
            for name in set(sys.modules) - before:
                if name.partition(".")[0] == package:
                    del sys.modules[name]
        if isinstance(error, ImportError) and _is_own(error):
            raise
        if isinstance(error, Exception | SystemExit):
            raise InputError(f"plugin {spec}{_told(error, module)}") from error
        raise
    finally:
        LOADING.pop()


def _is_own(error: ImportError) -> bool:
    """Whether an import within this package failed, which is no fault of the plugin."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    package = str(frame.f_globals.get("__name__")).partition(".")[0]
    return package in OWN and frame.f_globals is not globals()


def _told(error: BaseException, module: str) -> str:
    """`, line 3: ValueError: ...`: the innermost line of the plugin, and the error."""
    frames = traceback.walk_tb(error.__traceback__)
    lines = [line for frame, line in frames if frame.f_globals.get("__name__") == module]
    message = " ".join(str(error).split())
    if not isinstance(error, InputError):
        message = f"{type(error).__name__}: {message}".removesuffix(": ")
    return f"{f', line {lines[-1]}' if lines else ''}: {message}"


class _Folder:
    """Finds the modules of a folder, after all that is installed: `attacks` stays what it was."""

    def __init__(self, folder: Path):
        self.folder = str(folder)
        self.found: set[str] = set()

    def find_spec(self, fullname, path=None, target=None):
        spec = PathFinder.find_spec(fullname, [self.folder]) if path is None else None
        if spec is not None:
            self.found.add(fullname)
        return spec


@contextmanager
def _importable(folder: Path) -> Iterator[dict[str, ModuleType]]:
    """Makes the modules of a folder importable; yields what gets imported of them, by name.

    Those of other plugins' folders step aside meanwhile, for they may have the same names. At the
    end `sys.modules` is as it was, without the yielded ones.
    """
    siblings: dict[str, ModuleType] = {}
    foreign = [
        name
        for path, plugin in LOADED.items()
        if Path(path).parent != folder
        for name in plugin.siblings
    ]
    hidden = {name: sys.modules.pop(name) for name in foreign if name in sys.modules}
    finder = _Folder(folder)
    importlib.invalidate_caches()
    sys.meta_path.append(finder)
    try:
        yield siblings
    finally:
        sys.meta_path.remove(finder)
        for name in list(sys.modules):
            if name.partition(".")[0] in finder.found:
                siblings[name] = sys.modules.pop(name)
        sys.modules.update(hidden)
