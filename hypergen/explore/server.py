"""Serves the page, to browsers of this machine alone."""

import socket
from functools import partial

from nicegui import app, ui

from hypergen.errors import InputError
from hypergen.experiments.explorer import Explorer
from hypergen.explore.desk import Desk
from hypergen.explore.guard import LocalOnly
from hypergen.explore.page import Page

HOST = "127.0.0.1"
AWAY_SECONDS = 30.0
"""How long a tab may be away (a machine that sleeps, or is slow) and still be the same."""
CLOSING_SECONDS = 2
"""How long browsers have to go away when the server ends."""


def free_port(port: int | None) -> int:
    """The port, or one that is free where none is asked for. `InputError`: it is taken."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((HOST, port or 0))
        except OSError as error:
            raise InputError(f"`port` {port} cannot be had ({error.strerror})") from None
        return tried.getsockname()[1]


def serve(explorer: Explorer, port: int, show: bool) -> None:
    """Serves the page of a run until it is interrupted; show: open it in a browser."""
    desk = Desk(explorer)
    app.on_shutdown(desk.close)
    app.add_middleware(LocalOnly, port=port)
    ui.run(
        partial(Page, desk),
        host=HOST,
        port=port,
        show=show,
        title=f"{explorer.folder.name} - hypergen",
        dark=None,
        binding_refresh_interval=None,
        language="en-US",
        tailwind=False,
        reload=False,
        show_welcome_message=False,
        reconnect_timeout=AWAY_SECONDS,
        timeout_graceful_shutdown=CLOSING_SECONDS,
    )
