"""The clients that are compared: each asks the same things of the same server in its own usual way."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

Wire = dict[str, Any]
Turn = Callable[[], Awaitable[Any]]

PROMPT = "one two three"
KEY = "benchmark-key"
STREAMED: Wire = {"stream": True, "stream_options": {"include_usage": True}}  # what both doors ask for
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add one.",
        "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]},
    },
}


async def add(x: int) -> int:
    """Add one."""
    return x + 1


def past(count: int) -> list[Wire]:
    """A conversation of `count` messages, the user's turn next."""
    text = "The quick brown fox jumps over the lazy dog. " * 3
    return [{"role": "user" if i % 2 == 0 else "assistant", "content": f"{i}: {text}"} for i in range(count)]


class Way:
    """One client. `root_url` is the server; each scenario of the server has its own base URL below it."""

    name = ""

    def __init__(self, root_url: str) -> None:
        self.root_url = root_url

    def base_url(self, scenario: str) -> str:
        return f"{self.root_url}/{scenario}/v1"

    async def query(self) -> str:
        """One short question, the answer whole."""
        return str(await self.ask("short", [{"role": "user", "content": PROMPT}]))

    async def stream(self, scenario: str) -> int:
        """One question, the answer in pieces; how many came."""
        raise NotImplementedError

    async def tool_trip(self) -> str:
        """A question, a tool call, its result, the answer."""
        messages: list[Wire] = [{"role": "user", "content": PROMPT}]
        call = await self.ask("tool", messages, tools=[ADD])
        result = await add(**json.loads(call["function"]["arguments"]))
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": str(result)})
        return str(await self.ask("tool", messages, tools=[ADD]))

    def conversation(self, messages: list[Wire], scenario: str = "short") -> Turn:
        """The next turn of a conversation that holds `messages` already."""
        asked = [*messages, {"role": "user", "content": PROMPT}]
        return lambda: self.ask(scenario, asked)

    async def ask(self, scenario: str, messages: list[Wire], **more: Any) -> Any:
        """The answer's text, or its first tool call as a wire dict."""
        raise NotImplementedError

    async def aclose(self) -> None: ...


def _said(message: Any) -> Any:
    """Of an SDK's message object: the text, or the first tool call as a wire dict."""
    if not message.tool_calls:
        return message.content
    call = message.tool_calls[0]
    function = {"name": call.function.name, "arguments": call.function.arguments}
    return {"id": call.id, "type": "function", "function": function}


class RawAiohttp(Way):
    """What the network and JSON alone cost."""

    name = "raw aiohttp"

    def __init__(self, root_url: str) -> None:
        import aiohttp

        super().__init__(root_url)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), headers={"Content-Type": "application/json"}
        )

    def _post(self, scenario: str, body: Wire) -> Any:
        return self._session.post(f"{self.base_url(scenario)}/chat/completions", data=json.dumps(body))

    async def ask(self, scenario: str, messages: list[Wire], **more: Any) -> Any:
        async with self._post(scenario, {"model": "m", "messages": messages, **more}) as response:
            message = json.loads(await response.read())["choices"][0]["message"]
        return message["tool_calls"][0] if message.get("tool_calls") else message["content"]

    async def stream(self, scenario: str) -> int:
        pieces = 0
        messages = [{"role": "user", "content": PROMPT}]
        async with self._post(scenario, {"model": "m", "messages": messages, **STREAMED}) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    choices = json.loads(line[6:])["choices"]
                    if choices and choices[0]["delta"].get("content"):
                        pieces += 1
        return pieces

    async def aclose(self) -> None:
        await self._session.close()


class OpenAISdk(Way):
    """The openai client, as nearly every framework uses it."""

    name = "openai SDK"

    def __init__(self, root_url: str) -> None:
        super().__init__(root_url)
        self._clients: dict[str, Any] = {}

    def _client(self, scenario: str) -> Any:
        if scenario not in self._clients:
            import openai

            self._clients[scenario] = openai.AsyncOpenAI(base_url=self.base_url(scenario), api_key=KEY, max_retries=0)
        return self._clients[scenario]

    async def ask(self, scenario: str, messages: list[Wire], **more: Any) -> Any:
        answer = await self._client(scenario).chat.completions.create(model="m", messages=messages, **more)
        return _said(answer.choices[0].message)

    async def stream(self, scenario: str) -> int:
        messages = [{"role": "user", "content": PROMPT}]
        chunks = await self._client(scenario).chat.completions.create(model="m", messages=messages, **STREAMED)
        return len([chunk async for chunk in chunks if chunk.choices and chunk.choices[0].delta.content])

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.close()


class LiteLLM(Way):
    """`litellm.acompletion`, through the openai client or through LiteLLM's own HTTP code (hosted_vllm/)."""

    route = "openai"
    name = "LiteLLM openai/"

    async def _complete(self, scenario: str, messages: list[Wire], **more: Any) -> Any:
        import litellm

        return await litellm.acompletion(
            f"{self.route}/m",
            messages=messages,
            api_base=self.base_url(scenario),
            api_key=KEY,
            max_retries=0,
            _skip_mcp_handler=True,
            **more,
        )

    async def ask(self, scenario: str, messages: list[Wire], **more: Any) -> Any:
        return _said((await self._complete(scenario, messages, **more)).choices[0].message)

    async def stream(self, scenario: str) -> int:
        chunks = await self._complete(scenario, [{"role": "user", "content": PROMPT}], **STREAMED)
        return len([chunk async for chunk in chunks if chunk.choices and chunk.choices[0].delta.content])


class LiteLLMOwnHttp(LiteLLM):
    route = "hosted_vllm"
    name = "LiteLLM hosted_vllm/"


class DirectDoor(Way):
    """any_agent's Agent on an OpenAI-compatible address: session, loop, retry, tools and all."""

    name = "any_agent, direct"
    model = "m"
    door = "direct"

    def __init__(self, root_url: str) -> None:
        super().__init__(root_url)
        self._agents: dict[str, Any] = {}

    def agent(self, scenario: str) -> Any:
        from any_agent import Agent

        if scenario not in self._agents:
            self._agents[scenario] = Agent(
                self.model,
                base_url=self.base_url(scenario),
                api_key=KEY,
                door=self.door,
                tools=[add] if scenario == "tool" else [],
            )
        return self._agents[scenario]

    async def ask(self, scenario: str, messages: list[Wire], **more: Any) -> Any:
        return await self.agent(scenario).query(messages)

    async def query(self) -> str:
        return str(await self.agent("short").query(PROMPT))

    async def stream(self, scenario: str) -> int:
        return len([piece async for piece in self.agent(scenario).stream_query(PROMPT)])

    async def tool_trip(self) -> str:
        return str(await self.agent("tool").query(PROMPT))

    def conversation(self, messages: list[Wire], scenario: str = "short") -> Turn:
        session = self.agent(scenario).create_session()
        session.replace_history(messages)
        return lambda: session.query(PROMPT)

    async def aclose(self) -> None:
        for agent in self._agents.values():
            await agent.aclose()


class LiteLLMDoor(DirectDoor):
    """The same Agent by LiteLLM."""

    name = "any_agent, LiteLLM"
    model = "hosted_vllm/m"
    door = "litellm"


WAYS: dict[str, type[Way]] = {
    "aiohttp": RawAiohttp,
    "openai": OpenAISdk,
    "litellm": LiteLLM,
    "litellm_own_http": LiteLLMOwnHttp,
    "litellm_door": LiteLLMDoor,
    "direct": DirectDoor,
}
