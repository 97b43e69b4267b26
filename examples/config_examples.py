"""Where a model's name and address come from, side by side. Asks no model; needs no server.

python examples/config_examples.py
ANY_AGENT_MODEL=ollama/qwen3 python examples/config_examples.py
"""

from any_agent import AgentOptions
from any_agent.config import get_base_url, get_model, route


def show(title: str, **settings: object) -> None:
    found = route(**settings)
    print(f"{title:32} {found.name} at {found.base_url} (door: {found.door})")


def main() -> None:
    # 1. Everything in the code: arguments win over environment and files.
    show("explicit", model="qwen3-8b", base_url="http://192.168.0.5:1234/v1")
    show("provider and model", provider="lm_studio", model="qwen3-8b")
    show("provider in the model's name", model="ollama/llama3.1")
    show("a cloud", model="gpt-4o")

    # 2. The functions that read the environment first and then take what you give.
    print("get_model('qwen3-8b')           ", get_model("qwen3-8b"))
    print("get_model(…, prefer_env=False)  ", get_model("qwen3-8b", prefer_env=False))
    for provider in ("lmstudio", "ollama", "llamacpp", "vllm"):
        print(f"get_base_url(provider={provider!r:11})", get_base_url(provider=provider))

    # 3. The same for options; a value that is not allowed is refused at once, with its name and range.
    print(AgentOptions(model=get_model("qwen3-8b"), base_url=get_base_url(), temperature=0.2).address)
    try:
        AgentOptions(temperature=3.0)
    except ValueError as error:
        print(error)


if __name__ == "__main__":
    main()
