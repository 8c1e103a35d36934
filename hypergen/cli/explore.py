"""`hypergen explore`."""

from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.errors import InputError
from hypergen.experiments.explorer import Explorer
from hypergen.experiments.run_folder import RunSettings
from hypergen.settings import Range, Settings


@dataclass(frozen=True)
class ExploreOptions(Settings):
    """Look at a trained generator in a browser: choose networks, attack images, keep some."""

    run: Path
    """folder of a run, which may be training"""
    port: Annotated[int | None, Range(1, 65535)] = None
    """of the page's address, http://127.0.0.1:PORT; by default one that is free"""
    no_open: bool = False
    """print the address, and open no browser"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(ExploreOptions)


def run(settings: dict[str, Any], own: ExploreOptions) -> None:
    """Runs the command."""
    if find_spec("nicegui") is None:
        raise InputError("the page needs NiceGUI: pip install 'hypergen[explore]'")
    from hypergen.explore.server import free_port, serve  # here, for not everybody has it

    images = RunSettings.load(own.run).config.data
    port = free_port(own.port)
    dataset = own.machine.load(images, own.machine.chosen)
    explorer = Explorer(own.run, dataset)
    print(f"http://127.0.0.1:{port} shows {own.run}; Ctrl-C ends it", flush=True)
    serve(explorer, port, not own.no_open)
