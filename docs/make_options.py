"""Write docs/options.md from the fields of AgentOptions and their docstrings.

python docs/make_options.py            writes the page
python docs/make_options.py --check    exits 1 when the page is not what the code says
"""

from __future__ import annotations

import inspect
import re
import sys
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from any_agent.options import AgentOptions

PAGE = Path(__file__).with_name("options.md")
# Accepted and checked, but nothing reads them yet; tests/house/test_docs.py sees to it that this is true.
NOT_YET = ("metrics_endpoint",)
HEAD = """\
# Options

<!-- Written by docs/make_options.py from any_agent/options/fields.py; do not edit. -->

Every field of `AgentOptions`. Give them to the agent (`Agent("ollama/qwen3", temperature=0.2)`), as an object
(`Agent(options=AgentOptions(…))`), or for one prompt (`agent.query("…", temperature=0)`). Most of them may also stand
under `options:` in a [settings file](configuration.md#files).

Options are checked when they are made: an unknown name or a value out of range raises `ConfigurationError`, which names
the field, the value and what is allowed. An `AgentOptions` cannot be changed; `options.replace(temperature=0)` gives a
changed copy.

`None` as a default means that nothing is sent and the server decides. Options marked "not yet" are accepted and
checked, but have no effect in this version.
"""


def sections() -> list[tuple[str, list[str]]]:
    """The headings in the class and the fields under each, in order."""
    found: list[tuple[str, list[str]]] = []
    parts = [one for one in AgentOptions.__mro__ if issubclass(one, BaseModel) and one is not BaseModel]
    source = "".join(map(inspect.getsource, parts))
    for heading, field in re.findall(r"^    (?:# -- (.+)|(\w+): .*)$", source, re.MULTILINE):
        if heading:
            found.append((heading, []))
        elif field in AgentOptions.model_fields:
            found[-1][1].append(field)
    return found


def shown(value: Any) -> str:
    """A default as it would be written."""
    return repr(value.value if isinstance(value, Enum) else value).replace("'", '"')


def row(name: str) -> str:
    field = AgentOptions.model_fields[name]
    text = " ".join((field.description or "").split()).replace("|", "\\|")
    default = field.get_default(call_default_factory=True)
    mark = "**Not yet.** " if name in NOT_YET else ""
    return f"| `{name}` | `{shown(default)}` | {mark}{text} |"


def page() -> str:
    parts = [HEAD]
    for heading, fields in sections():
        parts.append(f"\n## {heading[0].upper()}{heading[1:]}\n\n| option | default | what it does |\n|---|---|---|\n")
        parts.append("".join(f"{row(name)}\n" for name in fields))
    return "".join(parts)


def main() -> int:
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(page(), encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page():
        return 0
    print(f"{PAGE.name} is not what any_agent/options says: run `python docs/make_options.py`")
    return 1


if __name__ == "__main__":
    sys.exit(main())
