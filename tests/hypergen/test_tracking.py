import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from hypergen.tracking import Bar, replacing, write_text


def test_a_written_file_replaces_the_old_one_and_links_stay(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(file)
    for text in ("old", "new\n"):
        write_text(link, text)
        assert link.is_symlink() and file.read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, error):
    file = tmp_path / "file"
    write_text(file, "old")
    with pytest.raises(error), replacing(file) as part:
        part.write_text("half of")
        raise error
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


class Slow(int):
    """A number that takes its time to be added, so that another thread gets in between."""

    def __radd__(self, other: int) -> int:
        time.sleep(0.01)
        return other + int(self)


def test_threads_that_advance_a_bar_lose_nothing():
    bar = Bar("threads", 16)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bar.advance, [Slow(1)] * 16))
    assert bar.done == 16
