"""A network as a folder for the Hugging Face hub, with a card of what is known of it."""

from pathlib import Path
from typing import Any

from hypergen.data.wording import without_folders
from hypergen.experiments.command_line import making_line
from hypergen.experiments.made_by import made_by, run_of
from hypergen.experiments.run_folder import read_results, require_empty
from hypergen.report.card import Figure, Known, model_card
from hypergen.report.intervals import interval
from hypergen.settings import HUGE
from hypergen.storage.lock import locked
from hypergen.storage.metadata import origin
from hypergen.storage.weights import load_network, read_metadata

NAMES = {
    "accuracy": "accuracy",
    "pgd": "robust accuracy under PGD",
    "sra": "standard robust accuracy (APGD-CE, APGD-T, FAB-T and Square)",
}
"""Figures of a weight file that a card tells, and what it calls them."""


def write_card(file: Path, folder: Path, license: str = "unknown") -> Path:
    """Writes model.safetensors, config.json and README.md, which `HubModel` loads; their folder.

    The card has what the file says, and what the results of the run say that it lies in. Nothing is
    measured, and what is not known is said to be missing.

    Raises:
        InputError: no weight file of ours, a folder that is not empty, or no huggingface_hub.
    """
    from hypergen.storage.hub import save_to_hub_folder  # an extra

    network = load_network(file)
    require_empty(folder)
    metadata = read_metadata(file)
    making = made_by(file)
    dataset = metadata.get("dataset") and without_folders(metadata["dataset"])
    known = Known(
        name="-".join((metadata["target"], (dataset or "unknown").rpartition(":")[2], file.stem)),
        metadata=origin(metadata) | {"version": metadata.get("version"), "dataset": dataset},
        network=str(network),
        weights=sum(each.numel() for each in network.parameters()),
        recipe=making.recipe if making else None,
        command=making_line(making) if making else None,
        place=making.file if making else None,
        figures=figures(file, metadata),
    )
    card = model_card(known, license)
    with locked(folder):
        require_empty(folder)
        save_to_hub_folder(folder, file, card)
    return folder


def figures(file: Path, metadata: dict[str, Any]) -> list[Figure]:
    """What is written down of how good the network is: in its run's results, else in the file."""
    row, images, attack = metadata, _images_of_file(metadata), metadata.get("attack")
    run = run_of(file)
    results = read_results(run) if run else None
    if run is not None and results is not None:
        place = str(file.absolute().relative_to(run))
        rows = [each for each in results["networks"] if each.get("file") == place]
        if rows:
            row, attack = rows[0], results["attack"]
            images = {"accuracy": results["all_images"], "pgd": attack["images"]}
            images |= {"sra": results["sra"]["images"]} if results["sra"] else {}
    threat = attack["threat"] if isinstance(attack, dict) and "threat" in attack else None
    found = []
    for name, title in NAMES.items():
        value, count = row.get(name), images.get(name)
        if not isinstance(value, float) or not 0 <= value <= 1:
            continue
        count = count if isinstance(count, int) and 0 < count < HUGE else None
        ends = None if count is None else interval(value, count)
        against = None if name == "accuracy" else threat
        found.append(Figure(name, title, value, ends, count, against))
    return found


def _images_of_file(metadata: dict[str, Any]) -> dict[str, Any]:
    """How many images figures of a weight file are of, as far as it says so."""
    attack = metadata.get("attack")
    if not isinstance(attack, dict):
        return {}
    names = ("pgd", "sra") if attack.get("name") == "standard" else ("pgd",)
    return dict.fromkeys(names, attack.get("images"))
