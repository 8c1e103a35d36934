import threading
import time

import pytest

from hypergen.storage.lock import LOCK, lock, locked, unlock


def test_one_at_a_time(tmp_path, refused):
    with locked(tmp_path):
        assert "another hypergen is at work" in refused(lock, tmp_path)
    with locked(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_body_that_writes_nothing_leaves_nothing(tmp_path):
    folder = tmp_path / "runs" / "new"
    with locked(folder):
        (folder / "a" / "b").mkdir(parents=True)
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt), locked(folder):
        (folder / "a").mkdir()
        (folder / "file").touch()
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_a_folder_that_was_there_stays(tmp_path):
    folder = tmp_path / "old"
    (folder / "empty").mkdir(parents=True)
    with locked(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["empty"]


@pytest.mark.parametrize("writes", [False, True])
def test_who_waits_goes_on_when_the_folder_was_removed(tmp_path, writes):
    """The first one removes the folder that it had made, and in which the others wait."""
    folder, inside, order = tmp_path / "new", threading.Lock(), []

    def work(number: int) -> None:
        with locked(folder, patience=30):
            assert inside.acquire(blocking=False)
            assert (folder / LOCK).exists()
            order.append(number)
            time.sleep(0.02)
            if writes:
                (folder / str(number)).touch()
            inside.release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(order) == list(range(6))
    left = {path.name for path in folder.iterdir()} if folder.exists() else set()
    assert left == ({str(number) for number in range(6)} if writes else set())


def test_patience_ends(tmp_path, refused):
    with locked(tmp_path):
        begun = time.monotonic()
        refused(lock, tmp_path, 0.3)
        assert 0.3 <= time.monotonic() - begun < 5


def test_the_lock_lasts_until_it_is_given_up(tmp_path, refused):
    handle = lock(tmp_path / "new")
    assert (tmp_path / "new" / LOCK).exists()
    refused(lock, tmp_path / "new")
    unlock(tmp_path / "new", handle)
    assert not list((tmp_path / "new").iterdir())


def test_what_a_kill_left_is_removed(tmp_path, dead):
    (tmp_path / f".config.json.{dead}.part").touch()
    (tmp_path / LOCK).touch()  # which nobody holds
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert not list(tmp_path.iterdir())
