from pathlib import Path

import pytest

from hypergen.storage.impersonal import impersonal, impersonal_tree


@pytest.mark.parametrize(
    ("word", "kept"),
    [
        ("/secret/deep/pets", "pets"),
        ("/secret/pets//", "pets"),
        ("/pets", "pets"),
        ("npz:/secret/my cats.npz", "npz:my cats.npz"),
        ("--out=/secret/runs/a", "--out=a"),
        ("/secret/mine.py:load", "mine.py:load"),
        ("/secret/mine.py:load=0.5", "mine.py:load=0.5"),
        ("npz:/secret/a.npz: No such file", "npz:a.npz: No such file"),
        ("{home}/secret/a", "a"),
        ("--out={home}/runs", "--out=runs"),
        ("~/secret/a", "a"),
        ("folder:{home}", "folder:~"),
        ("{home}stead/a", "a"),
        ("postgresql://me:secret@host/db", "postgresql://..."),
        ("--storage=grpc://secret:13000", "--storage=grpc://..."),
        ("sqlite:////secret/a.db", "sqlite://..."),
        ("runs/a", "runs/a"),
        ("npz:../cats.npz", "npz:../cats.npz"),
        ("8/255", "8/255"),
        ("jpeg:quality=50=8/255", "jpeg:quality=50=8/255"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_folders_users_and_hosts_are_left_out(word, kept):
    assert impersonal(word.format(home=Path.home())) == kept
    assert impersonal(kept) == kept


def test_in_a_tree_every_text_is_changed_and_nothing_else():
    tree = {"/a/b": ["/a/b", 1, None, {"c": "/a/b"}], "x": 0.5, "y": True}
    assert impersonal_tree(tree) == {"/a/b": ["b", 1, None, {"c": "b"}], "x": 0.5, "y": True}
