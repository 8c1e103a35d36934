"""Keeps a page of this machine to this machine: refuses what comes by way of another site.

A browser lets any site send requests to 127.0.0.1. Its scripts can open WebSockets, and read all
answers once the site's name is made to point to 127.0.0.1 (DNS rebinding). So a request must name
this server as its host, and what a script sends must come from a page of this server.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY = (
    "default-src 'self' data: 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
)
"""What a browser lets the page do: ask this server alone, and stand in no other page."""
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


class LocalOnly:
    """An ASGI application that passes on what is meant for this server, and refuses the rest."""

    def __init__(self, app: App, port: int):
        self.app = app
        end = "" if port == 80 else f":{port}"  # which browsers leave out
        self.hosts = {f"{name}{end}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif self._is_ours(dict(scope["headers"])):
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            plain = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 403, "headers": plain})
            await send({"type": "http.response.body", "body": b"only pages of this server may ask"})

    def _is_ours(self, headers: dict[bytes, bytes]) -> bool:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        origin = headers.get(b"origin")
        return host in self.hosts and origin in (None, f"http://{host}".encode())


def _with_headers(send: Send) -> Send:
    async def sending(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *HEADERS]
        await send(message)

    return sending
