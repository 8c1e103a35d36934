"""One case: a command, how it is ended, how it goes on, and what is wrong with that."""

import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from scripts.bench.soak import compare, endings
from scripts.bench.soak.endings import Unbroken
from scripts.bench.soak.process import Child
from scripts.bench.soak.tasks import TASKS, read_by

DONE_BEFORE = "exists; choose another"
BEGUN = "not empty; choose another", "exists; choose another", "is not a run"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a case, in one line."""

    case: str
    task: str
    ending: str
    detail: str


@dataclass
class Ended:
    """How a command ended: its status, and what it said on both streams."""

    status: int
    said: str


class Place:
    """A folder in which commands are run on copies of what they read."""

    def __init__(self, root: Path, corpus: Path, name: str):
        self.folder = root / name
        self.folder.mkdir()
        self.corpus, self.log = corpus, root / f"{name}.log"

    def fill(self, task: str) -> int:
        """Copies what a task reads; so many bytes."""
        for name in read_by(task):
            shutil.copytree(self.corpus / name, self.folder / name)
        return size_of(self.folder)

    def start(self, line: str, begin: Callable[[], object] = lambda: None) -> Child:
        """Starts a command."""
        with self.log.open("ab") as log:
            return Child(["hypergen", *line.split()], self.folder, log, begin)

    def run(self, line: str, begin: Callable[[], object] = lambda: None) -> Ended:
        """Runs a command to its end; one that hangs is killed."""
        self.log.write_bytes(b"")
        return self.ended(self.start(line, begin))

    def ended(self, child: Child) -> Ended:
        """How it ended."""
        try:
            child.wait()
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            return Ended(124, self.log.read_text(errors="replace"))
        return Ended(child.wait(), self.log.read_text(errors="replace"))


def unbroken(place: Place, task: str) -> Unbroken:
    """What a command does that nothing ends. RuntimeError: it fails."""
    read = place.fill(task)
    counted = place.folder.parent / f"{task}.count"

    def begin() -> None:
        count = endings.at_change(0, lambda: None)
        real = os._exit

        def leave(status: int) -> None:
            counted.write_text(str(count()))
            real(status)

        os._exit = leave  # type: ignore

    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    ended = place.run(TASKS[task].line, begin)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    if ended.status:
        raise RuntimeError(f"{task}: status {ended.status}: {ended.said}")
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    files = compare.contents(place.folder)
    seconds = wall if TASKS[task].waits else own
    return Unbroken(int(counted.read_text()), seconds, size_of(place.folder) - read, files)


class Soak:
    """Tries cases.

    Args:
        root: a folder for everything.
        corpus: what commands read.
        known: what each command does that nothing ends.
    """

    def __init__(self, root: Path, corpus: Path, known: dict[str, Unbroken]):
        self.root, self.corpus, self.known = root, corpus, known

    def try_case(self, name: str, task: str, kind: str) -> tuple[bool, str, list[Fault]]:
        """Whether the command was ended before its end, how, and what is wrong with that."""
        rng, known = Random(name), self.known[task]
        moment, begin = endings.armed(kind, rng, known, TASKS[task].waits)
        place = Place(Path(tempfile.mkdtemp(dir=self.root)), self.corpus, "place")
        place.folder.parent.chmod(0o711)
        try:
            if kind == "full disk":
                endings.mount(place.folder)
            place.fill(task)
            if kind == "full disk":
                room = int(known.size * rng.uniform(0.0, 1.1))
                endings.leave_room(place.folder, room)
                moment = f"with room for {room} bytes"
            ended, found = self.broken(place, task, kind, begin, rng)
            damaged = endings.damage(place.folder / "new", rng) if kind == "damage" else None
            found += self.mend(place, kind)
            found += self.go_on(place, task, damaged)
            found += [f"left behind: {path}" for path in compare.left(place.folder)]
        finally:
            endings.unmount(place.folder)
            shutil.rmtree(place.folder.parent)
        told = f"{kind} {moment}"
        return ended, told, [Fault(name, task, told, each) for each in found]

    def broken(
        self, place: Place, task: str, kind: str, begin: Callable[[], object], rng: Random
    ) -> tuple[bool, list[str]]:
        """Whether the command was ended, and what is wrong with how."""
        line = TASKS[task].line
        place.log.write_bytes(b"")
        if kind == "second writer":
            both = [place.start(line)]
            time.sleep(rng.random() * self.known[task].seconds)
            both.append(place.start(line))
            each = [place.ended(child) for child in both]
            statuses = {one.status for one in each}
            said = each[-1].said
            found = [f"status {status}" for status in statuses - {0, 2}]
            found += [] if 0 in statuses else [f"both are refused: {said[-300:]}"]
            return 2 in statuses, found + list(strange(said))
        one = place.run(line, begin)
        found = list(strange(one.said))
        if one.status not in endings.STATUSES[kind] | {0}:
            found.append(f"status {one.status}: {one.said[-300:]}")
        if one.status in (1, 2) and "hypergen: " not in one.said:
            found.append(f"status {one.status} and no word")
        return one.status != 0, found

    def mend(self, place: Place, kind: str) -> list[str]:
        """Takes away what ended the command, and waits for what it has started."""
        if kind == "full disk":
            endings.leave_room(place.folder, endings.LARGE)
        if kind == "read-only":
            endings.reopen(place.folder)
        if kind == "clock":
            for path in place.folder.rglob("*"):
                os.utime(path, (2e9, 2e9))
        return [f"process {pid} is left behind" for pid in orphans()]

    def go_on(self, place: Place, task: str, damaged: Path | None) -> list[str]:
        """What is wrong when the command is run again, to its end."""
        spec, known = TASKS[task], self.known[task]
        new = place.folder / "new"
        begun = (new / "config.json").exists() or (new / "checkpoint.safetensors").exists()
        line = spec.resumed if spec.resumed and begun else spec.line
        again = place.run(line)
        found = list(strange(again.said))
        if damaged is not None and "used" not in again.said and "damaged" not in again.said:
            found += [] if unhurt(place, known, damaged) else ["damage is not told"]
        if again.status == 2 and any(words in again.said for words in BEGUN):
            if not compare.differences(known.files, compare.contents(place.folder)):
                return found  # it had been done
            shutil.rmtree(new)
            again = place.run(spec.line)
            found += strange(again.said)
        elif again.status == 2 and damaged is not None and "damaged" in again.said:
            shutil.rmtree(new)
            again = place.run(spec.line)
        if again.status:
            return [*found, f"again: status {again.status}: {again.said[-300:]}"]
        apart = compare.differences(known.files, compare.contents(place.folder))
        return found + [f"differs: {each}" for each in apart]


def unhurt(place: Place, known: Unbroken, damaged: Path) -> bool:
    """Whether a damaged file is that of the unbroken run again, or is gone: it was not needed."""
    name = str(damaged.relative_to(place.folder))
    return not damaged.exists() or compare.content(damaged) == known.files.get(name)


def strange(said: str) -> Iterator[str]:
    """What no command should say."""
    if "Traceback (most recent call last)" in said:
        yield f"traceback: {said[-1500:]}"


def size_of(folder: Path) -> int:
    """The bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def orphans(patience: float = 20.0) -> list[int]:
    """Processes that ended ones have left, once they had some time; they are killed."""
    end = time.monotonic() + patience
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return []
        if not pid and time.monotonic() > end:
            return _killed()
        if not pid:
            time.sleep(0.02)


def _killed() -> list[int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for pid in map(int, children):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return [int(pid) for pid in children]
