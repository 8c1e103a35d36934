"""Files that TensorBoard reads."""

import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class EventFile:
    """A new file of events in `folder`; events of earlier files from `step` on are void.

    PyTorch's `SummaryWriter` writes the same in a thread, whose errors (a full disk) nobody is
    told of: here they are raised where they happen, as OSError.
    """

    def __init__(self, folder: Path, step: int = 0):
        # Here, for it takes a second that most commands need not spend.
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard import summary

        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self.path = folder / name
        self._protocol: Any = event_pb2
        self._summary = summary
        self._file = self.path.open("xb")
        self._records = RecordWriter(self._file)
        begin = self._protocol.SessionLog(status=self._protocol.SessionLog.START)
        self._write(file_version="brain.Event:2")
        self._write(step, session_log=begin)
        self.flush()

    def scalar(self, step: int, name: str, value: float) -> None:
        """Adds a number."""
        self._write(step, summary=self._summary.scalar(name, value))

    def text(self, name: str, text: str) -> None:
        """Adds a text in Markdown."""
        self._write(summary=self._summary.text(name, text))

    def figure(self, step: int, name: str, figure: "Figure") -> None:
        """Adds a picture."""
        from torch.utils.tensorboard._utils import figure_to_image

        picture = figure_to_image(figure)
        self._write(step, summary=self._summary.image(name, picture, dataformats="CHW"))

    def flush(self) -> None:
        """Hands what was added to the system."""
        self._records.flush()

    def close(self) -> None:
        """Closes the file, whether or not there is room for what was not flushed."""
        self._records.close()

    def _write(self, step: int = 0, **content: Any) -> None:
        event = self._protocol.Event(wall_time=time.time(), step=step, **content)
        self._records.write(event.SerializeToString())
