"""Learn the distribution of robust networks: a weight generator and its value network.

    import hypergen

    run = hypergen.train(dataset="mnist", beta=0.5, steps=3000, out="runs/a")
    population = run.sample(8)
    figures = hypergen.evaluate(population, dataset="mnist", epsilon=0.1, attack="standard")

Everything here is imported when it is first used: `import hypergen` alone loads no torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_PLACES = {
    "InputError": "hypergen.errors",
    "RunError": "hypergen.errors",
    "TrainConfig": "hypergen.config",
    "BaselineConfig": "hypergen.training.direct_config",
    "ReportConfig": "hypergen.experiments.run_folder",
    "Run": "hypergen.experiments.run",
    "Sampler": "hypergen.evaluation.sampler",
    "Dataset": "hypergen.data",
    "Population": "targets",
    "Ensemble": "targets",
    "Analysis": "hypergen.analysis",
    "limit_memory": "hypergen.budget",
    "train": "hypergen.experiments.api",
    "baseline": "hypergen.experiments.api",
    "evaluate": "hypergen.experiments.api",
    "analyze": "hypergen.experiments.api",
    "attack": "hypergen.experiments.api",
    "ensemble": "hypergen.experiments.api",
    "write_report": "hypergen.experiments.report",
    "export": "hypergen.storage.export",
    "HubModel": "hypergen.storage.hub",
    "load_dataset": "hypergen.experiments.objects",
    "load_generator": "hypergen.experiments.run",
    "load_network": "hypergen.storage.weights",
    "load_plugin": "hypergen.plugins",
    "register_activation": "hypergen.experiments.registration",
    "register_analysis": "hypergen.experiments.registration",
    "register_attack": "hypergen.experiments.registration",
    "register_dataset": "hypergen.experiments.registration",
    "register_generator": "hypergen.experiments.registration",
    "register_measure": "hypergen.experiments.registration",
    "register_target": "hypergen.experiments.registration",
    "register_value_network": "hypergen.experiments.registration",
}
"""Public name -> the module that it stands in."""

__all__ = ["__version__", *_PLACES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'hypergen' has no attribute {name!r}")
    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
