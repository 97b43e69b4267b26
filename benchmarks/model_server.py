"""The model server of the benchmark: a LoopbackServer in a process of its own, one base URL per scenario.

Prints its root URL. On standard input each line asks for `{"connections_opened", "connections_open", "requests"}`;
it ends when standard input closes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace

from any_agent.testing.loopback import LoopbackServer, WireRequest
from any_agent.testing.scenarios import echo
from any_agent.testing.wire_bytes import WireReply

Script = Callable[[WireRequest], WireReply]


def at_once(script: Script) -> Script:
    """All chunks of a stream in one write, each still an HTTP chunk of its own: the client never waits between two.

    How many chunks a client finds ready would otherwise hang on the scheduler, and with it the number of its calls.
    """

    def answer(request: WireRequest) -> WireReply:
        reply = script(request)
        if len(reply.chunks) < 2:
            return reply
        framed = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in reply.chunks)
        return replace(reply, chunks=[framed + b"0\r\n\r\n"], headers={**reply.headers, "Transfer-Encoding": "chunked"})

    return answer


SCENARIOS: dict[str, Script] = {
    "short": at_once(echo()),
    "tool": at_once(echo(calls_tool=True, arguments='{"x": 1}')),
    "slow": at_once(echo(delay_s=0.2)),
    "ready100": at_once(echo(chunks=100)),
    "ready300": at_once(echo(chunks=300)),
    "paced20": echo(chunks=20, pause_s=0.004),
    "paced60": echo(chunks=60, pause_s=0.004),
}


def main() -> None:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with LoopbackServer() as server:
        for name, script in SCENARIOS.items():
            server.reply(f"/{name}/v1/chat/completions", script)
        print(server.root_url, flush=True)
        for _ in sys.stdin:
            figures = {
                "connections_opened": server.connections_opened,
                "connections_open": server.connections_open,
                "requests": len(server.requests),
            }
            print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
