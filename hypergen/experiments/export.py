"""Exports networks of runs, folders and weight files for use elsewhere."""

from collections.abc import Sequence
from pathlib import Path

from hypergen.errors import InputError
from hypergen.storage.export import export, require_writable
from hypergen.storage.folders import require_folder
from hypergen.storage.network_files import find, open_networks
from targets import Ensemble, Population


def export_files(
    paths: Sequence[Path],
    format: str,
    out: Path | None = None,
    ensemble: bool = False,
    int8: bool = False,
) -> list[Path]:
    """Writes the networks in a format of `storage.export`, each checked; the files.

    Args:
        paths: runs, folders of samples, or weight files.
        format: "onnx", "pt2" or "safetensors".
        out: a file for one network, else a folder; by default beside each network, an ensemble
            beside the first.
        ensemble: write the networks as one that votes.
        int8: with weights of 8 bits.

    Raises:
        InputError: as from `open_networks` and `export`; networks that cannot vote together; or a
            file that is there already and was not named.
    """
    require_writable(format, int8)
    networks = open_networks(find(paths))
    if ensemble and len(networks) < 2:
        raise InputError("`ensemble` needs several networks, got one")
    modules = [network.module for network in networks]
    exported = [Ensemble(Population.of(modules))] if ensemble else modules
    goals = _goals([network.path for network in networks], format, out, ensemble)
    shapes = [tuple(network.metadata["input_shape"]) for network in networks]
    for goal in goals:
        require_folder(goal.parent)
        goal.parent.mkdir(parents=True, exist_ok=True)
    return [
        export(module, goal, input_shape=shape, int8=int8, format=format)
        for module, goal, shape in zip(exported, goals, shapes, strict=False)
    ]


def _goals(paths: Sequence[Path], format: str, out: Path | None, ensemble: bool) -> list[Path]:
    """Where each network goes; one path for an ensemble."""
    single = ensemble or len(paths) == 1
    if out is not None and single and out.suffix == f".{format}":
        return [out]
    folders = [path.parent if out is None else out for path in paths]
    names = ["ensemble"] if ensemble else [path.stem for path in paths]
    pairs = zip(folders, names, strict=False)
    goals = [folder / f"{name}.{format}" for folder, name in pairs]
    for goal in goals:
        if goal.exists():
            raise InputError(f"{goal} exists; choose another `out`")
    if len(set(goals)) < len(goals):
        raise InputError("networks of one name from several folders: export them one by one")
    return goals
