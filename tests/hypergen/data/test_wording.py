"""Names and values in messages."""

import pytest

from hypergen.data.wording import without_folders


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("mnist", "mnist"),
        ("torchvision:KMNIST", "torchvision:KMNIST"),
        ("folder:pets", "folder:pets"),
        ("folder:/home/me/pets/", "folder:pets"),
        ("npz:../cats.npz", "npz:cats.npz"),
        ("/home/me/my.py:load", "my.py:load"),
    ],
)
def test_a_public_name_tells_no_folders(name, shown):
    assert without_folders(name) == shown
