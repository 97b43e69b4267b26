"""Proofread your own novel: a copy editor with the rules of your house. Every issue it keeps stands in the text.

LM Studio:  python examples/copy_editor.py path/to/chapters
Ollama:     ANY_AGENT_MODEL=ollama/qwen3 python examples/copy_editor.py path/to/chapters
No model:   ANY_AGENT_MODEL=offline/proofreader python examples/copy_editor.py
"""

import asyncio
import sys
from pathlib import Path

from any_agent.config import get_model
from any_agent.copy_editor import CopyEditorAgent, Step
from any_agent.copy_editor.score import MANUSCRIPT


class HouseEditor(CopyEditorAgent):
    """Knows the rules of the house, and leaves the slips of people who speak to the author."""

    def build_system_prompt(self):
        return f"{super().build_system_prompt()}\n\nThis house writes numbers up to twelve in words."

    def _validate_issues(self, issues, lines):
        found = super()._validate_issues(issues, lines)
        return [one for one in found if not (one.category == "grammar" and one.line_text.startswith('"'))]


def show(step: Step) -> None:
    if step.record:
        print(f"{step.chapter_id}: {len(step.record.issues)} issues, {len(step.record.rejected)} left out")


async def main() -> None:
    chapters = Path(sys.argv[1]) if len(sys.argv) > 1 else MANUSCRIPT
    novel = {"title": chapters.name, "chapters_path": chapters, "research_output": Path("copy-edit-report")}
    async with HouseEditor(get_model("lm_studio/qwen3-8b"), novel_metadata=novel, on_step=show) as editor:
        results = await editor.analyze_novel()
        page = await editor.generate_index_report(results["run_id"])
    print(f"Analysis complete: {results['total_issues']} issues found")
    print(f"Report: {page}")


if __name__ == "__main__":
    asyncio.run(main())
