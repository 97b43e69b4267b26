"""The loopback server and its wire bytes, seen through http.client and bare sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from any_agent.testing import LoopbackServer, WireReply, WireRequest, error

CHAT = "/v1/chat/completions"


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    with LoopbackServer() as started:
        yield started


def connect(server: LoopbackServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(server.root_url.removeprefix("http://"), timeout=5)


def post(server: LoopbackServer, path: str = CHAT, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    connection = connect(server)
    try:
        connection.request("POST", path, json.dumps(body or {}))
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def open_socket(server: LoopbackServer, path: str = CHAT) -> socket.socket:
    """A client that has sent a whole request."""
    client = socket.create_connection(("127.0.0.1", int(server.root_url.rpartition(":")[2])), timeout=5)
    client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    return client


def read_all(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


# --- the server: which reply, and what it remembers


def test_replies_come_in_order_and_the_last_one_repeats(server: LoopbackServer) -> None:
    server.reply(CHAT, {"turn": 1}, WireReply((b"2",), repeat=2), [b"3"])
    bodies = [post(server)[2] for _ in range(6)]
    assert bodies == [b'{"turn":1}', b"2", b"2", b"3", b"3", b"3"]
    server.reply(CHAT, [b"4"])
    assert [post(server)[2] for _ in range(2)] == [b"4", b"4"]


def test_a_function_answers_from_the_request(server: LoopbackServer) -> None:
    server.reply(CHAT, lambda request: {"echo": request.json["say"]})
    assert json.loads(post(server, body={"say": "é"})[2]) == {"echo": "é"}


def test_each_path_has_its_own_replies(server: LoopbackServer) -> None:
    server.reply("/v1/models", {"data": []})
    assert post(server, "/v1/models?x=1")[0] == 200
    status, _, body = post(server, "/nowhere")
    assert (status, json.loads(body)["error"]["type"]) == (404, "not_found_error")
    server.reply("*", {"any": "path"})
    assert json.loads(post(server, "/nowhere")[2]) == {"any": "path"}
    assert json.loads(post(server, "/v1/models")[2]) == {"data": []}


def test_requests_are_recorded(server: LoopbackServer) -> None:
    server.reply(CHAT, {})
    connection = connect(server)
    connection.request("POST", f"{CHAT}?a=1", json.dumps({"n": 1}), {"X-Thing": "Yes"})
    connection.getresponse().read()
    connection.request("PUT", CHAT, iter([b'{"n":', b" 2}"]), encode_chunked=True)
    connection.getresponse().read()
    connection.close()
    first, second = server.requests
    assert (first.method, first.path, first.query, first.headers["x-thing"]) == ("POST", CHAT, "a=1", "Yes")
    assert (first.body, first.json, first.connection_id) == (b'{"n": 1}', {"n": 1}, 1)
    assert (second.method, second.json, second.connection_id) == ("PUT", {"n": 2}, 1)
    assert (server.connections_opened, server.clients_left) == (1, 0)


def test_a_client_that_asks_for_it_is_hung_up_on(server: LoopbackServer) -> None:
    server.reply(CHAT, {})
    connection = connect(server)
    connection.request("POST", CHAT, "{}", {"Connection": "close"})
    assert connection.getresponse().read() == b"{}"
    assert connection.sock is None or connection.sock.recv(1) == b""
    connection.close()


# --- the server: how the bytes go out


def test_a_single_chunk_has_a_length_and_several_are_chunked(server: LoopbackServer) -> None:
    server.reply(CHAT, {"a": 1}, WireReply([b"ab", b"", b"c"], headers={"Connection": "close"}))
    _, headers, body = post(server)
    assert (body, headers["content-type"], headers["content-length"]) == (b'{"a":1}', "application/json", "7")
    with open_socket(server) as client:
        head, _, chunks = read_all(client).partition(b"\r\n\r\n")
    assert head == b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked"
    assert chunks == b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("reply", "wire"),
    [
        (WireReply([b"a", b"b"], framing="close"), b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab"),
        (WireReply([b"HTTP/1.0 999 Odd\r\n\r\n", b"x"], framing="raw"), b"HTTP/1.0 999 Odd\r\n\r\nx"),
        (
            WireReply([b"ab"], 529, {"content-length": "9", "connection": "close"}),
            b"HTTP/1.1 529 Unknown\r\ncontent-length: 9\r\nconnection: close\r\n\r\nab",
        ),
        (WireReply([b"ab"], close_abruptly="cut"), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
        (WireReply(close_abruptly="cut"), b""),
        (WireReply([b"ab"], close_abruptly="after"), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"),
    ],
)
def test_odd_framings(server: LoopbackServer, reply: WireReply, wire: bytes) -> None:
    server.reply(CHAT, reply)
    with open_socket(server) as client:
        assert read_all(client) == wire
    assert server.clients_left == 0


def test_a_reset_reaches_the_client(server: LoopbackServer) -> None:
    server.reply(CHAT, WireReply([b"first"], close_abruptly="reset"))
    with open_socket(server) as client, pytest.raises(ConnectionResetError):
        read_all(client)
    server.reply(CHAT, {})
    assert post(server)[0] == 200


def test_waits_before_the_first_byte_and_between_chunks(server: LoopbackServer) -> None:
    server.reply(CHAT, WireReply([b"a", b"b", b"c"], delay_s=0.05, pause_s=0.02))
    started = time.monotonic()
    with open_socket(server) as client:
        client.recv(1)
        assert time.monotonic() - started >= 0.05
        while not client.recv(100).endswith(b"0\r\n\r\n"):
            pass
    assert time.monotonic() - started >= 0.09


def test_a_refusal_over_http(server: LoopbackServer) -> None:
    server.reply(CHAT, error(429, "slow down", type="rate_limit", headers={"Retry-After": "2"}, n_ctx=512))
    status, headers, body = post(server)
    assert (status, headers["retry-after"], headers["content-type"]) == (429, "2", "application/json")
    assert json.loads(body) == {"error": {"message": "slow down", "type": "rate_limit", "code": 429, "n_ctx": 512}}


def test_chunks_do_not_wait_for_acknowledgements(server: LoopbackServer) -> None:
    server.reply(CHAT, [b"a"] * 50)
    connection = connect(server)
    times_s = []
    for _ in range(12):
        started = time.monotonic()
        connection.request("POST", CHAT, "{}")
        connection.getresponse().read()
        times_s.append(time.monotonic() - started)
    connection.close()
    assert min(times_s[2:]) < 0.03, "Nagle's algorithm waits 40 ms, but not on a fresh connection"


# --- the server: clients that leave


@pytest.mark.parametrize(
    ("reply", "first"),
    [
        (WireReply(stall=True), b""),
        (WireReply([b"a"], stall=True), b"HTTP/1.1 200 OK\r\n"),
        (WireReply([b"a"] * 1000, pause_s=0.01), b"HTTP/1.1 200 OK\r\n"),
        (WireReply([b"a"], delay_s=30), b""),
    ],
    ids=["stalled before the head", "stalled in the body", "between chunks", "before the first byte"],
)
def test_a_client_that_leaves_is_noticed(server: LoopbackServer, reply: WireReply, first: bytes) -> None:
    server.reply(CHAT, reply)
    client = open_socket(server)
    assert client.recv(len(first)) == first
    with pytest.raises(TimeoutError):
        server.wait_client_left(0.02)
    client.close()
    assert server.wait_client_left(2.0) == 1


def test_a_client_that_got_everything_did_not_leave(server: LoopbackServer) -> None:
    server.reply(CHAT, [b"a", b"b"])
    for _ in range(3):
        post(server)
    deadline = time.monotonic() + 2
    while server.connections_open and time.monotonic() < deadline:
        time.sleep(0.002)
    assert (server.connections_opened, server.connections_open, server.clients_left) == (3, 0, 0)


async def test_coroutines_wait_without_blocking_their_loop(server: LoopbackServer) -> None:
    server.reply(CHAT, WireReply([b"a"], stall=True))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.root_url.rpartition(":")[2]))
    writer.write(f"GET {CHAT} HTTP/1.1\r\n\r\n".encode())
    (request,) = await server.requests_came()
    assert request.method == "GET"
    await reader.readuntil(b"\r\n\r\n")
    with pytest.raises(TimeoutError):
        await server.client_left(timeout_s=0.01)
    writer.close()
    await writer.wait_closed()
    assert await server.client_left() == 1


def test_closing_drops_clients_and_ends_the_thread() -> None:
    server = LoopbackServer()
    server.start()
    server.reply(CHAT, WireReply([b"a"], stall=True), WireReply([b"x" * 30_000_000]))
    stalled = open_socket(server)
    stalled.recv(10)
    unread = open_socket(server)
    unread.recv(10)
    idle = socket.create_connection(stalled.getpeername())
    server.close()
    server.close()
    assert "loopback" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(stalled.getpeername())
    for client in (stalled, unread, idle):
        client.close()


def test_a_broken_script_is_a_500_and_raises_at_the_end() -> None:
    server = LoopbackServer()
    server.start()
    server.reply(CHAT, lambda request: {"n": request.json["missing"]})
    assert post(server)[0] == 500
    with pytest.raises(KeyError, match="missing"):
        server.close()


def test_a_client_that_sends_no_http_raises_at_the_end() -> None:
    server = LoopbackServer()
    server.start()
    with socket.create_connection(("127.0.0.1", int(server.root_url.rpartition(":")[2]))) as client:
        client.sendall(b"nonsense\r\n\r\n")
        assert client.recv(1) == b""
    with pytest.raises(ValueError, match="unpack"):
        server.close()


def test_a_failing_test_is_not_hidden_by_a_broken_script() -> None:
    def fail_with_a_broken_script() -> None:
        with LoopbackServer() as server:
            server.reply(CHAT, lambda request: {"n": request.json["missing"]})
            post(server)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_with_a_broken_script()


@pytest.fixture
def many_open_files() -> Iterator[None]:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_open_files")
def test_a_thousand_clients_at_once() -> None:
    gate = threading.Event()

    def answer(request: WireRequest) -> WireReply:
        gate.wait(10)  # holds the server's thread: no client is answered before all have come
        return WireReply([request.body])

    with contextlib.ExitStack() as everything:
        server = everything.enter_context(LoopbackServer())
        server.reply(CHAT, answer)
        clients = [everything.enter_context(open_socket(server)) for _ in range(1000)]
        gate.set()
        answers = [client.recv(1000) for client in clients]
        assert {answer.endswith(b"\r\n\r\n{}") for answer in answers} == {True}
        assert (server.connections_opened, server.connections_open) == (1000, 1000)


# --- a server in a process of its own


@pytest.fixture
def child(request: pytest.FixtureRequest) -> Iterator[str]:
    """The base URL of a child process started with the options in the test's parameter."""
    command = [sys.executable, "-W", "error", "-m", "any_agent.testing.loopback", *request.param]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdout:
        yield process.stdout.readline().strip()
        process.stdin.close()
        assert process.wait(timeout=5) == 0


def ask(base_url: str, **body: Any) -> str:
    connection = http.client.HTTPConnection(base_url.split("/")[2], timeout=5)
    connection.request("POST", CHAT, json.dumps(body))
    text = connection.getresponse().read().decode()
    connection.close()
    return text


@pytest.mark.parametrize("child", [["--scenario=echo", "--chunks=5", "--first-byte-ms=30"]], indirect=True)
def test_echo_in_a_child_process(child: str) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "one two"}]}]
    started = time.monotonic()
    stream = ask(child, messages=messages, stream=True, stream_options={"include_usage": True})
    assert time.monotonic() - started >= 0.03
    *chunks, done, end = stream.split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    deltas = [choice["delta"] for chunk in chunks for choice in json.loads(chunk[6:])["choices"]]
    assert [delta.get("content") for delta in deltas] == [None, "one ", "two ", "one ", "two ", "one ", None]
    assert json.loads(chunks[-1][6:])["usage"]["completion_tokens"] == 5
    whole = json.loads(ask(child, messages=messages))
    assert whole["choices"][0]["message"]["content"] == "one two one two one "


@pytest.mark.parametrize("child", [["--scenario=tool-then-text", '--tool-arguments={"a": 1}']], indirect=True)
def test_tool_then_text_in_a_child_process(child: str) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    user, result = {"role": "user", "content": "go"}, {"role": "tool", "tool_call_id": "call_1", "content": "3"}
    first = json.loads(ask(child, messages=[user], tools=tools))["choices"][0]
    assert first["message"]["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": 1}'}
    assert first["finish_reason"] == "tool_calls"
    second = json.loads(ask(child, messages=[user, first["message"], result], tools=tools))["choices"][0]
    assert (second["message"]["content"], second["finish_reason"]) == ("3 ", "stop")
    connection = http.client.HTTPConnection(child.split("/")[2], timeout=5)
    connection.request("GET", "/v1/models")
    assert json.loads(connection.getresponse().read())["data"][0]["id"] == "echo"
    connection.close()
