"""Makes command-line options of settings, and settings of the options that were given.

An option is called by the short name of its field. Its help is the string below the field, with
the names that are registered, those of plugins among them.
"""

import ast
import contextlib
import dataclasses
import functools
import inspect
import io
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, Positional, UseAppendAction, arg
from tyro.constructors import PrimitiveConstructorSpec

from hypergen.catalog import ATTACKS
from hypergen.cli.early import Early
from hypergen.cli.wording import in_options, one_line
from hypergen.data import DATASETS
from hypergen.errors import InputError, option
from hypergen.knob import number_text, parse_number, parse_radius
from hypergen.plugins import resolve
from hypergen.registry import Registry
from hypergen.settings import Field, Registered, Settings, fields, kinds
from hypergen.storage.folders import expanded

POSITIONAL = ("run", "paths", "kind", "action", "file")
"""Short names of what a command takes without an option before it."""
ALIASES = {"attack": ("--suite",)}
"""Second names of options, by the setting's short name."""
UNMARKED: dict[str, Registry] = {"attack": ATTACKS, "dataset": DATASETS}
"""Registries of settings that do not say themselves what they name, by short name."""


@dataclass(frozen=True)
class Command:
    """What one command takes.

    Attributes:
        own: options of the command itself.
        settings: name -> settings that make options too. The names head groups of options.
        defaults: what gives settings, by name, in the place of the usual ones, from the options
            that are looked at first.
    """

    own: type[Settings]
    settings: Mapping[str, type[Settings]] = dataclasses.field(default_factory=dict)
    defaults: Callable[[Early], Mapping[str, Settings]] = lambda early: {}

    def parse(self, name: str, arguments: list[str]) -> tuple[dict[str, Any], Any]:
        """The settings, by name, and the command's own options, all checked.

        `InputError`: an unknown option, or a value that a field cannot hold.
        """
        defaults = {}
        if not {"-h", "--help"} & set(arguments):
            self._load_named(arguments)
            defaults = self.defaults(Early.of(arguments))
        complaint = io.StringIO()
        try:
            with contextlib.redirect_stderr(complaint):
                parsed = tyro.cli(
                    self.parser(defaults, arguments), args=arguments, prog=f"hypergen {name}"
                )
        except SystemExit as stop:
            if stop.code in (0, None):  # --help
                raise
            raise InputError(one_line(complaint.getvalue())) from None
        values = dict(_flat(parsed))
        made = {each: as_settings(cls, values) for each, cls in self.settings.items()}
        return made, as_settings(self.own, values)

    def _load_named(self, arguments: list[str]) -> None:
        """Loads the plugins of `--target FILE.py:NAME` and its like, which a run may be made of."""
        known = [field for cls in self.settings.values() for field in fields(cls)]
        registries = {option(field.short): _registry(field) for field in known}
        for text, after in zip(arguments, [*arguments, ""][1:], strict=True):
            name, equals, value = text.partition("=")
            registry = registries.get(name)
            if registry is not None:
                resolve(registry, value if equals else after)

    def parser(self, defaults: Mapping[str, Settings], arguments: Sequence[str] = ()) -> type:
        """The dataclass that tyro parses: the command's own options, then a group for each part."""
        given = {text.partition("=")[0] for text in arguments}
        groups: dict[str, list[tuple[str, Any, Any]]] = {}
        for name, cls in {"": self.own, **self.settings}.items():
            docs = field_docs(cls)
            for field in fields(cls):
                group = field.path[0] if len(field.path) > 1 else name
                default = field.default
                if name in defaults:
                    default = field.of(defaults[name])
                    if field.takes_several and option(field.short) in given:
                        default = ()  # tyro would append what is given
                positional = name == "" and field.short in POSITIONAL
                made = _option(field, docs.get(field.short, ""), default, positional)
                groups.setdefault(group, []).append(made)
        groups["machine"] = groups.pop("machine")  # which matters least
        members = groups.pop("", [])
        for group, options in groups.items():
            kind = dataclasses.make_dataclass(group, options, frozen=True, kw_only=True)
            kind.__doc__ = self._heading(group)
            members.append((group, OmitArgPrefixes[kind], dataclasses.field()))
        whole = dataclasses.make_dataclass("Options", members, frozen=True, kw_only=True)
        whole.__doc__ = inspect.getdoc(self.own)
        return whole

    def _heading(self, group: str) -> str:
        """What a group of options is about."""
        for cls in (self.own, *self.settings.values()):
            part = typing.get_type_hints(cls).get(group)
            if isinstance(part, type) and issubclass(part, Settings):
                return inspect.getdoc(part) or ""
        return inspect.getdoc(self.settings[group]) or ""


def as_settings(cls: type[Settings], values: Mapping[str, Any]) -> Any:
    """The settings with those of the values that are theirs; `FILE.py:NAME` loads that plugin.

    `InputError` for what a field cannot hold.
    """
    chosen = {field.short: values[field.short] for field in fields(cls)}
    for field in fields(cls):
        registry = _registry(field)
        if registry is not None and isinstance(chosen[field.short], str):
            chosen[field.short] = resolve(registry, chosen[field.short])
        if field.kind == tuple[Path, ...]:  # read here, for tyro tells no reason for one of several
            chosen[field.short] = tuple(map(expanded, chosen[field.short]))
    return cls.of(**chosen)


@functools.cache
def field_docs(cls: type[Settings]) -> dict[str, str]:
    """The string below each field, in one line, by the field's short name; also of the parts."""
    docs = dict(_docs(cls))
    return {field.short: docs.get(field.path, "") for field in fields(cls)}


def _docs(cls: type[Settings]) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path of the field, its text), those of a class after those that it inherits."""
    for each in reversed(cls.__mro__):
        if not issubclass(each, Settings) or each is Settings:
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        body = typing.cast(ast.ClassDef, tree.body[0]).body
        for node, after in zip(body, body[1:], strict=False):
            match node, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(ast.Constant(str(text))):
                    yield (name,), " ".join(text.split())
    for name, part in typing.get_type_hints(cls).items():
        if isinstance(part, type) and issubclass(part, Settings):
            for path, text in _docs(part):
                yield (name, *path), text


def _registry(field: Field) -> Registry | None:
    mark = field.mark(Registered)
    return UNMARKED.get(field.short) if mark is None else mark.registry


def _option(field: Field, doc: str, default: Any, positional: bool) -> tuple[str, Any, Any]:
    """One member of a dataclass that tyro parses."""
    mark, registry = field.mark(Registered), _registry(field)
    if registry is not None:
        names = [*(mark.also if mark else ()), *registry.names()]
        doc = f"{doc}; known: {', '.join(names)}"
    shown: dict[str, Any] = {"help": in_options(doc)}
    # No default is shown where the text says what happens by default; 0 is one.
    if default is None or default is False or default == () or positional:
        shown["help_behavior_hint"] = ""
    if not positional:
        shown["name"] = field.short.replace("_", "-")
        shown["aliases"] = ALIASES.get(field.short)
    kind, several = _kind(field)
    if several and positional:
        shown["metavar"] = "PATH ..."
    member: Any = Annotated[kind, arg(**shown)]  # pyright: ignore[reportInvalidTypeForm]
    if positional:
        member = Positional[member]
    elif several:
        member = UseAppendAction[member]
    elif kind is bool and default is not True:
        member = FlagCreatePairsOff[member]
    missing = default is dataclasses.MISSING
    value = dataclasses.field() if missing else dataclasses.field(default=default)
    return field.short, member, value


def _kind(field: Field) -> tuple[Any, bool]:
    """The type that tyro reads an option as, and whether it takes several values."""
    kind, *others = kinds(field.kind)
    if kind is bool:
        return bool, False
    if field.takes_several:
        element = typing.get_args(kind)[0]
        reader = _reader(str if element is Path else element, optional=False)
        return tuple[Annotated[element, reader], ...], True  # type: ignore
    optional = NoneType in typing.get_args(field.kind)
    return Annotated[Any, _reader(RADIUS if others else kind, optional)], False


def _reader(kind: Any, optional: bool) -> PrimitiveConstructorSpec:
    """How tyro reads and shows values of a type; "none" stands for None where this is one."""
    metavar, read = READERS.get(kind, ("TEXT", str))
    if typing.get_origin(kind) is Literal:  # whose choices are checked with a hint by the settings
        metavar = "{" + ",".join(map(str, typing.get_args(kind))) + "}"

    def value(texts: list[str]) -> Any:
        return None if optional and texts[0].lower() == "none" else read(texts[0])

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=value,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [number_text(value)],
    )


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"expected a whole number, got {text:.60}") from None


RADIUS = float | tuple[float, ...]
"""A number that may be a range."""
READERS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    int: ("INT", _whole),
    float: ("FLOAT", parse_number),
    RADIUS: ("FLOAT|LOW:HIGH", parse_radius),
    Path: ("PATH", expanded),
}
"""Type -> what help calls its values, and what reads one."""


def _flat(parsed: Any) -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(parsed):
        value = getattr(parsed, field.name)
        if dataclasses.is_dataclass(value):
            yield from _flat(value)
        else:
            yield field.name, value
