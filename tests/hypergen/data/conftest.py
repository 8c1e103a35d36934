from urllib.error import URLError

import pytest
from torchvision import datasets

from hypergen import data


@pytest.fixture
def offline(monkeypatch):
    """Every download fails."""

    def refuse(*args, **kwargs):
        raise URLError("no network")

    for module in (datasets.mnist, datasets.cifar):
        monkeypatch.setattr(module, "download_and_extract_archive", refuse)
    for module in (datasets.svhn, datasets.usps):
        monkeypatch.setattr(module, "download_url", refuse)


@pytest.fixture(scope="session")
def digits() -> data.Dataset:
    return data.load("digits")
