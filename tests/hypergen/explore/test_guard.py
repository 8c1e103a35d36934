"""Requests that come by way of other sites are refused; browsers are told to ask nobody else."""

import asyncio

import pytest

from hypergen.explore.guard import LocalOnly

OURS = "127.0.0.1:8080"


async def inner(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"the page"})
    else:
        await send({"type": "websocket.accept"})


def asked(kind: str = "http", **headers: str) -> list[dict]:
    """What the guarded application sends to a request with these headers."""
    sent = []
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        sent.append(message)

    guarded = LocalOnly(inner, port=8080)
    asyncio.run(guarded({"type": kind, "headers": pairs}, receive, send))
    return sent


@pytest.mark.parametrize("host", [OURS, "localhost:8080", "LOCALHOST:8080"])
def test_this_server_answers_by_its_own_names(host):
    start, body = asked(host=host)
    assert start["status"] == 200 and body["body"] == b"the page"
    headers = dict(start["headers"])
    assert headers[b"a"] == b"b"
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self' data:" in policy and "frame-ancestors 'none'" in policy
    assert "http" not in policy and "*" not in policy  # no other host whatever


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "evil.example:8080"},  # a name that was made to point here
        {"host": "127.0.0.1"},
        {"host": "127.0.0.1:80800"},
        {"host": "127.0.0.1:8080.evil.example"},
        {"host": OURS, "origin": "http://evil.example"},
        {"host": OURS, "origin": "http://localhost:8080"},
        {"host": OURS, "origin": "https://127.0.0.1:8080"},
        {"host": OURS, "origin": "null"},
    ],
)
def test_others_are_refused(headers):
    assert asked(**headers)[0]["status"] == 403
    assert [message["type"] for message in asked("websocket", **headers)] == ["websocket.close"]


def test_scripts_of_the_page_itself_are_answered():
    headers = {"host": OURS, "origin": f"http://{OURS}"}
    assert asked(**headers)[0]["status"] == 200
    assert asked("websocket", **headers) == [{"type": "websocket.accept"}]
    assert asked("lifespan") == [{"type": "websocket.accept"}]  # passed on, whatever it is
