"""Files that TensorBoard reads."""

import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypergen.runtime.tags import tag_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image


class EventFile:
    """A new file of events in `folder`; events of earlier files from `step` on are void.

    PyTorch's `SummaryWriter` writes the same in a thread, whose errors (a full disk) nobody is
    told of: here they are raised where they happen, as OSError. The first event of each tag tells
    its unit and meaning (see `tags`), which PyTorch's writer has no way to say of pictures.
    """

    def __init__(self, folder: Path, step: int = 0):
        # Here, for it takes a second that most commands need not spend.
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard import summary

        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        self._protocol: Any = event_pb2
        self._content: Any = summary_pb2
        self._summary = summary
        self._described: set[str] = set()
        self._file = self.path.open("xb")
        self._records = RecordWriter(self._file)
        begin = self._protocol.SessionLog(status=self._protocol.SessionLog.START)
        self._write(file_version="brain.Event:2")
        self._write(step, session_log=begin)
        self.flush()

    def scalar(self, step: int, name: str, value: float) -> None:
        """Adds a number."""
        self._add(step, self._content.Summary.Value(tag=name, simple_value=value))

    def text(self, name: str, text: str) -> None:
        """Adds a text in Markdown."""
        self._write(summary=self._summary.text(name, text))

    def figure(self, step: int, name: str, figure: "Figure") -> None:
        """Adds a picture drawn by matplotlib."""
        from torch.utils.tensorboard._utils import figure_to_image

        picture = figure_to_image(figure)
        (value,) = self._summary.image(name, picture, dataformats="CHW").value
        self._add(step, value)

    def image(self, step: int, name: str, image: "Image") -> None:
        """Adds a picture."""
        import numpy

        (value,) = self._summary.image(name, numpy.asarray(image), dataformats="HWC").value
        self._add(step, value)

    def layout(self, charts: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Says what the page of custom scalars shows: patterns of tags by chart, by category."""
        multiline = {
            category: {chart: ["Multiline", [*tags]] for chart, tags in own.items()}
            for category, own in charts.items()
        }
        self._write(summary=self._summary.custom_scalars(multiline))

    def hparams(self, settings: Mapping[str, Any], metrics: Sequence[str]) -> None:
        """Says which settings led to the metrics, tags of numbers in this file."""
        plain = {
            name: value if isinstance(value, int | float) else str(value)
            for name, value in settings.items()
            if value is not None
        }
        for part in self._summary.hparams(plain, dict.fromkeys(metrics, 0.0)):
            self._write(summary=part)

    def flush(self) -> None:
        """Hands what was added to the system."""
        self._records.flush()

    def close(self) -> None:
        """Closes the file, whether or not there is room for what was not flushed."""
        self._records.close()

    def _add(self, step: int, value: Any) -> None:
        """Adds the value of a tag, which is described where it is its first in this file."""
        if value.tag not in self._described:
            self._described.add(value.tag)
            tag = tag_of(value.tag)
            if tag.unit:
                value.metadata.display_name = f"{value.tag} ({tag.unit})"
                value.metadata.summary_description = tag.meaning
                # Without it TensorBoard's reader says that the tag is "oddly" of no plugin.
                kind = "scalars" if value.WhichOneof("value") == "simple_value" else "images"
                value.metadata.plugin_data.plugin_name = kind
        self._write(step, summary=self._content.Summary(value=[value]))

    def _write(self, step: int = 0, **content: Any) -> None:
        event = self._protocol.Event(wall_time=time.time(), step=step, **content)
        self._records.write(event.SerializeToString())
