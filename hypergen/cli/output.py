"""Output that cannot be shown costs no results: no reader, a full disk, an encoding without it."""

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from typing import TextIO


def fill_closed_descriptors() -> None:
    """Opens the null device in the place of standard streams that are closed.

    Otherwise a file of results would get their number, and with it what libraries print there.
    """
    with contextlib.suppress(OSError):  # no such device, or no descriptor left
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)


@contextlib.contextmanager
def forgiving_output() -> Iterator[None]:
    """Within, nothing that is printed can fail; characters that cannot be encoded are escaped.

    Results that could not be written to standard output are told in one line, unless their reader
    has left.
    """
    with _forgiving(sys.stderr) as (stderr, _), contextlib.redirect_stderr(stderr):
        with _forgiving(sys.stdout) as (stdout, written), contextlib.redirect_stdout(stdout):
            yield
        error = written and written.error
        if error and error.errno != errno.EPIPE:
            print(f"hypergen: what was to be shown is lost: {error.strerror}", file=stderr)


class _Descriptor(io.FileIO):
    """An open file whose writes never fail: what cannot be written is dropped.

    Attributes:
        error: why that was.
    """

    error: OSError | None = None

    def write(self, data, /) -> int:
        try:
            while (count := super().write(data)) is None:  # it does not block, and is full
                select.select([], [self], [])
            return count
        except OSError as error:
            self.error = error
            return len(data)


@contextlib.contextmanager
def _forgiving(stream: TextIO | None) -> Iterator[tuple[TextIO, _Descriptor | None]]:
    """A stream in the place of a standard one, and what it writes to.

    A stream of no file, such as one that a test collects output in, is used as it is.
    """
    if stream is None:
        with open(os.devnull, "w", errors="backslashreplace") as nothing:
            yield nothing, None
        return
    if not isinstance(stream, io.TextIOWrapper):
        yield stream, None
        return
    if not isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO):
        stream.reconfigure(errors="backslashreplace")
        yield stream, None
        return
    with contextlib.suppress(OSError):
        stream.flush()
    descriptor = _Descriptor(stream.fileno(), "w", closefd=False)
    forgiving = io.TextIOWrapper(
        io.BufferedWriter(descriptor),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering or stream.write_through,
    )
    try:
        yield forgiving, descriptor
    finally:
        forgiving.flush()
