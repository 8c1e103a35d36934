import pytest
from matplotlib.figure import Figure

from hypergen.picture import write_picture


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml")])
def test_the_name_says_the_format(tmp_path, name, begins):
    write_picture(tmp_path / name, Figure())
    assert (tmp_path / name).read_bytes().startswith(begins)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_dots_an_inch(tmp_path):
    for dpi in (100, 50):
        write_picture(tmp_path / "a.png", Figure(figsize=(2, 1)), dpi=dpi)
        # The header's width and height.
        size = (tmp_path / "a.png").read_bytes()[16:24]
        assert size == (2 * dpi).to_bytes(4) + dpi.to_bytes(4)


def test_what_cannot_be_drawn_keeps_the_old_picture(tmp_path):
    file, unfinished = tmp_path / "a.png", Figure()
    file.write_bytes(b"old")
    unfinished.text(0, 0, "$\\nonsense$")
    with pytest.raises(ValueError, match="nonsense"):
        write_picture(file, unfinished)
    assert file.read_bytes() == b"old" and list(tmp_path.iterdir()) == [file]
