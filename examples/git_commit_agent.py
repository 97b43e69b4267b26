"""Writes the commit message for what is staged, as conventional commits want it. You accept, edit, or ask for another.

LM Studio:  git add . && python examples/git_commit_agent.py
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/git_commit_agent.py

With a local model the diff does not leave the machine. Nothing is committed unless you say so.
"""

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Literal

from any_agent import Agent
from any_agent.config import get_model

MOST_CHARACTERS = 20_000  # of a diff; the overview of files comes first
SYSTEM_PROMPT = """You write git commit messages from diffs. The summary is imperative, says what the change is for,
has at most 60 characters and no full stop. Details say what was done and why, one line each, at most five."""


@dataclass
class Commit:  # what the model's answer is checked against
    kind: Literal["feat", "fix", "docs", "refactor", "test", "perf", "build", "chore"]
    summary: str
    scope: str = ""
    details: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"{self.kind}({self.scope}): {self.summary}" if self.scope else f"{self.kind}: {self.summary}"
        return "\n".join([head, *([""] if self.details else []), *[f"- {one}" for one in self.details]])


def main() -> None:
    wanted = ["git", "diff", "--staged", "--stat", "--patch", "--no-ext-diff", "--no-color"]
    diff = subprocess.run(wanted, check=True, capture_output=True, encoding="utf-8", errors="replace").stdout
    if not diff:
        sys.exit("Nothing is staged: git add … first")
    print(f"Staged: {diff.count('diff --git ')} file(s)")
    agent = Agent(get_model("lm_studio/qwen3-8b"), system_prompt=SYSTEM_PROMPT, output_type=Commit, enable_memory=False)
    session = agent.create_session()
    prompt = f"Write the commit message for this diff:\n\n{diff[:MOST_CHARACTERS]}"
    while True:
        message = str(session.query_sync(prompt).data)
        print(f"\n{message}\n")
        wish = input("Enter commits, e edits, q leaves; or say what to do better: ").strip()
        if wish == "q":
            return
        if wish in ("", "e"):
            subprocess.run(["git", "commit", "-m", message, *(["--edit"] if wish else [])], check=True)
            return
        prompt = f"Write another one: {wish}"


if __name__ == "__main__":
    main()
