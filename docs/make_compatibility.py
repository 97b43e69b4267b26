"""Write docs/provider-compatibility.md by running the capability probe: on real llama.cpp, and on replayed servers.

python docs/make_compatibility.py            writes the page
python docs/make_compatibility.py --check    exits 1 when the page is not what a fresh run says

Needs the packages of the tests (xllamacpp, gguf): the models are the tiny ones of tests/support.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from support.llama import start_llama  # noqa: E402
from support.replay_abilities import REPLAYED, speaks  # noqa: E402
from support.tiny_model import TEMPLATE, write_tiny_model  # noqa: E402

from any_agent.cli.verdict_words import ABILITIES  # noqa: E402
from any_agent.models.capabilities import Verdict, probe_capabilities  # noqa: E402
from any_agent.models.openai_wire import DirectModel  # noqa: E402
from any_agent.models.servers import find_model, probe  # noqa: E402
from any_agent.testing import LoopbackServer  # noqa: E402

PAGE = Path(__file__).with_name("provider-compatibility.md")
HEAD = """\
# Provider compatibility

<!-- Written by docs/make_compatibility.py from runs of the capability probe; do not edit. -->

What servers do with the requests of an agent, found by `any-agent doctor --probe` and its at most eight calls (see
[Doctor](doctor.md)). What your own server and model do may differ: ask them.

- **real**: the server itself ran, llama.cpp with a tiny model of this project. The model writes random letters, so it
  shows what the *server* enforces, not what a good model does on its own: whether calls come in parallel, for one.
- **replayed**: the server did not run. Its answers follow its documentation, source and issue tracker, with an able
  model behind; what those do not tell is answered as an able server would. The sources are named in
  `tests/support/replay_abilities.py`.

`yes`, `no`, `?` (it could not be shown), `–` (not asked, as something it needs is missing).

"""
# The template of the tests drops no tools; this one does, and refuses a system message that is not the first.
STRICT = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' and not loop.first -%}{{ raise_exception('System message must be first.') }}"
    "{%- endif -%}<|{{ message.role }}|>{{ message.content }}<|end|>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


@dataclass(frozen=True)
class Run:
    """One column of the table."""

    title: str
    is_real: bool
    verdict: Verdict


async def asked(base_url: str, name: str) -> Verdict:
    server = await probe(base_url)
    served = find_model(server, name) if server else None
    if served is None:
        raise RuntimeError(f"{base_url} does not serve {name}")
    model = DirectModel(served.id, base_url)
    try:
        verdict = await probe_capabilities(model, served)
    finally:
        await model.aclose()
    if not verdict.is_complete:
        raise RuntimeError(f"the probe of {base_url} ended early: {verdict.trouble}")
    return verdict


def with_template(path: Path, template: str) -> Path:
    """The same model file with another template, no longer than its own."""
    old, new = TEMPLATE.encode(), template.encode()
    changed = path.with_name("other.gguf")
    changed.write_bytes(path.read_bytes().replace(old, new + b"{#" + b"-" * (len(old) - len(new) - 4) + b"#}"))
    return changed


def runs() -> list[Run]:
    """Every server, real ones first."""
    found: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        tiny = write_tiny_model(Path(folder) / "tiny.gguf", calls_tools=True)
        for title, path in (
            ("llama.cpp, template with tools", tiny),
            ("llama.cpp, template without tools", with_template(tiny, STRICT)),
        ):
            with start_llama(path) as llama:
                found.append(Run(title, True, asyncio.run(asked(llama.base_url, llama.model))))
    for one in REPLAYED:
        with ExitStack() as stack:
            server = stack.enter_context(LoopbackServer())
            one.sets_up(server)
            speaks(server, one.manners)
            found.append(Run(one.title, False, asyncio.run(asked(server.base_url, one.model))))
    return found


def sign(run: Run, name: str) -> str:
    finding = run.verdict.findings()[name]
    if finding.value is None:
        return "–" if not finding.note or finding.note.startswith("not asked") else "?"
    return "yes" if finding.value else "no"


def page(found: list[Run]) -> str:
    titles = [f"{run.title} ({'real' if run.is_real else 'replayed'})" for run in found]
    lines = [f"| | {' | '.join(titles)} |", f"|---|{'---|' * len(found)}"]
    lines += [f"| {ability.title} | {' | '.join(sign(run, ability.name) for run in found)} |" for ability in ABILITIES]
    lines.append(f"| model calls it took | {' | '.join(str(run.verdict.calls) for run in found)} |")
    lines.append("\n## What it means\n\n| | yes | no | what changes a no |\n|---|---|---|---|")
    lines += [f"| {one.title} | {one.yes} | {one.no} | {one.fix or '–'} |" for one in ABILITIES]
    lines.append("\n## What was seen")
    for run, title in zip(found, titles, strict=True):
        lines.append(f"\n### {title}\n")
        findings = run.verdict.findings()
        lines += [f"- {a.title}: {plain(findings[a.name].note)}" for a in ABILITIES if findings[a.name].note]
    return HEAD + "\n".join(lines) + "\n"


def plain(note: str) -> str:
    """A note as Markdown that no server's words can break."""
    return " ".join(note.replace("`", "'").replace("<", "&lt;").replace("|", "/").split())


def main() -> int:
    text = page(runs())
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE.name} is not what a fresh run says: run `python docs/make_compatibility.py`")
    return 1


if __name__ == "__main__":
    sys.exit(main())
