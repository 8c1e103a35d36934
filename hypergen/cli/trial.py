"""One trial of a sweep: `hypergen train` that ends when its sweep does."""

import os
import signal
import sys
import threading
import time


def end_with(parent: int) -> None:
    """Ends this process, as a kill would, once process `parent` is no longer its parent."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


if __name__ == "__main__":
    # Also from a sweep in the background of a shell, where Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parent = int(sys.argv.pop(1))
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    from hypergen.cli.main import main  # takes seconds, in which the sweep may end
    from hypergen.errors import REFUSED_STATUS

    sys.exit(main(refused_status=REFUSED_STATUS))
