"""The metrics of a run while it goes on: metrics.jsonl and TensorBoard."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypergen.errors import RunError
from hypergen.runtime.event_file import EventFile
from hypergen.runtime.tags import layout
from hypergen.storage.atomic import write_text
from hypergen.storage.json_lines import json_lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

METRICS = "metrics.jsonl"


class Tracker:
    """The metrics of one run: a line of JSON and TensorBoard scalars a step.

    Lines and events from `step` on, which a killed run had written beyond its last checkpoint, are
    dropped, for a resumed run writes them again; so are a damaged line and all that follow it.

    Args:
        folder: of the run.
        settings: shown beside the metrics.
        step: the first that will be logged.
        measures: names of what the run is trained for, by which TensorBoard groups charts.

    Raises:
        RunError: a file cannot be written, also later on.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        step: int = 0,
        measures: Sequence[str] = (),
    ):
        self.path, self.settings = folder / METRICS, settings
        with _told(self.path):
            kept = list(_lines_before(step, self.path)) if self.path.exists() else []
            write_text(self.path, "".join(kept))
        with _told(folder):
            self._events = EventFile(folder, step)
        with _told(self._events.path):
            text = "\n".join(f"    {name}: {value}" for name, value in settings.items())
            self._events.text("config", text)
            self._events.layout(layout(measures))
            self._events.flush()

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the scalars of one step."""
        with _told(self.path), self.path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        with _told(self._events.path):
            for name, value in values.items():
                self._events.scalar(step, name, value)
            self._events.flush()

    def figure(self, step: int, name: str, figure: "Figure") -> None:
        """Adds a picture drawn by matplotlib for TensorBoard."""
        with _told(self._events.path):
            self._events.figure(step, name, figure)
            self._events.flush()

    def image(self, step: int, name: str, image: "Image") -> None:
        """Adds a picture for TensorBoard."""
        with _told(self._events.path):
            self._events.image(step, name, image)
            self._events.flush()

    def finish(self, step: int, values: Mapping[str, float], compared: Sequence[str]) -> None:
        """Adds what came out in the end, for TensorBoard alone.

        compared: of these `values`, by which its page of settings compares runs.
        """
        with _told(self._events.path):
            for name, value in values.items():
                self._events.scalar(step, name, value)
            self._events.hparams(self.settings, compared)
            self._events.flush()

    def close(self) -> None:
        """Closes the files. All that was added is in them already."""
        with contextlib.suppress(OSError):
            self._events.close()


def _lines_before(step: int, path: Path) -> Iterator[str]:
    """The lines of steps before `step`, up to the first that is damaged or cut short."""
    for line, record in json_lines(path.read_bytes()):
        if type(record.get("step")) is not int:
            return
        if record["step"] < step:
            yield line.decode()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Tells an error of the system in one line, with the file's name."""
    try:
        yield
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
