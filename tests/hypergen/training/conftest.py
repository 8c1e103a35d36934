import copy
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import attacks
from hypergen.measures import robustness
from hypergen.runtime.sessions import TIMES
from hypergen.training import objective


@pytest.fixture
def asked(monkeypatch) -> list[SimpleNamespace]:
    """What the objective was asked in every step."""
    calls, whole = [], objective.gradient

    def gradient(kind, population, batch, weights, value, measures, *precision):
        call = SimpleNamespace(batch=batch, weights=weights, measures=measures)
        calls.append(call)
        return whole(kind, population, batch, weights, value, measures, *precision)

    monkeypatch.setattr(objective, "gradient", gradient)
    return calls


@pytest.fixture
def used(monkeypatch) -> list[attacks.Attack]:
    """What attacked the images, in order."""
    calls, whole = [], robustness.attacked_images

    def attacked_images(population, images, labels, attack, *rest):
        calls.append(attack)
        return whole(population, images, labels, attack, *rest)

    monkeypatch.setattr(robustness, "attacked_images", attacked_images)
    return calls


@pytest.fixture
def same() -> Callable[..., bool]:
    """Tells whether two nested states are equal but for times, tensors by `near`."""

    def equal(a: Any, b: Any, near: Callable[[Tensor, Tensor], bool] = torch.equal) -> bool:
        if isinstance(a, Tensor):
            return near(a, b)
        if isinstance(a, dict):
            keys = [key for key in a if key not in TIMES]
            return list(a) == list(b) and all(equal(a[key], b[key], near) for key in keys)
        if isinstance(a, list | tuple):
            return len(a) == len(b) and all(equal(x, y, near) for x, y in zip(a, b, strict=True))
        return a == b

    return equal


class Saved:
    """The last state that was saved, as it was then."""

    def __init__(self) -> None:
        self.states: list[dict[str, Any]] = []

    def __call__(self, state: dict[str, Any]) -> None:
        self.states.append(copy.deepcopy(state))


@pytest.fixture
def saved() -> Iterator[Saved]:
    """Keeps every state that is saved."""
    yield Saved()
