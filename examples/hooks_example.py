"""Hooks see every prompt and tool call and may change or refuse them: a gate, a sandbox, a log, a filter.

LM Studio:  python examples/hooks_example.py
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/hooks_example.py
"""

import asyncio

import any_agent
from any_agent import Agent, HookDecision, PostToolUseEvent, PreToolUseEvent, UserPromptSubmitEvent
from any_agent.config import get_model

files: dict[str, str] = {}


def write_file(path: str, content: str) -> str:
    """Write a file (here: only into a dict)."""
    files[path] = content
    return f"wrote {path}"


async def gate(event: PreToolUseEvent) -> HookDecision | None:
    if event.tool_input.get("path", "").endswith(".exe"):
        return HookDecision(continue_=False, reason="programs are not written here")
    return None  # no opinion: the next hook is asked


async def sandbox(event: PreToolUseEvent) -> HookDecision | None:
    path = event.tool_input["path"]
    return HookDecision(modified_input={**event.tool_input, "path": f"/sandbox/{path.lstrip('/')}"})


async def log(event: PostToolUseEvent) -> None:
    print(f"[log: {event.tool_name} {event.tool_input} -> {event.tool_result}]")


async def prompt_filter(event: UserPromptSubmitEvent) -> HookDecision | None:
    if "password" in event.prompt.lower():
        return HookDecision(continue_=False, reason="no passwords in prompts")
    return None


async def main() -> None:
    hooks = {
        any_agent.HOOK_PRE_TOOL_USE: [gate, sandbox],
        any_agent.HOOK_POST_TOOL_USE: [log],
        any_agent.HOOK_USER_PROMPT_SUBMIT: [prompt_filter],
    }
    async with Agent(get_model("lm_studio/qwen3-8b"), tools=[write_file], hooks=hooks) as agent:
        print(await agent.query("Write 'hello' to /etc/motd."))
        print("written:", files)
        try:
            await agent.query("My password is hunter2. Remember it.")
        except RuntimeError as error:  # nothing was sent
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
