"""Counts what is in a log (JSON, Apache, syslog, plain) and lets a model explain it; it may look lines up, no more.

python examples/log_analyzer_agent.py app.log --since 2025-10-15T00:00:00 --until 2025-10-15T12:00:00
ANY_AGENT_MODEL=ollama/qwen3 python examples/log_analyzer_agent.py app.log --interactive
"""

import argparse
import re
import time
from collections import Counter

from any_agent import Agent
from any_agent.config import get_model

QUESTION = "Name the main problems by priority, the likely cause of each, and what to do. Look lines up where it helps."
TIMES = {r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d": "%Y-%m-%dT%H:%M:%S", r"\d\d/\w{3}/\d{4}(:\d\d){3}": "%d/%b/%Y:%H:%M:%S",
         r"^[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d": "%Y %b %d %H:%M:%S"}  # fmt: skip
ERROR = re.compile(r'\b(error|fatal|critical|panic|exception|traceback)\b|" 5\d\d ', re.IGNORECASE)
WARNING = re.compile(r'\bwarn(ing)?\b|" 4\d\d ', re.IGNORECASE)


def time_of(line: str) -> str:
    """As ISO 8601; "": it has none. Syslog tells no year: this one."""
    for pattern, form in TIMES.items():
        if found := re.search(pattern, line):
            text = time.strftime("%Y ") + found[0] if form.startswith("%Y ") else found[0].replace(" ", "T")
            return time.strftime("%Y-%m-%dT%H:%M:%S", time.strptime(text, form))
    return ""


def summary(lines: list[str]) -> str:
    errors = [line for line in lines if ERROR.search(line)]
    alike = Counter(re.sub(r"(\S*\d\S*\s*)+", "# ", line).strip()[:160] for line in errors)
    hours = Counter(time_of(line)[:13] for line in errors if time_of(line))
    peak = "".join(f"Peak: {count} errors in the hour from {hour}:00\n" for hour, count in hours.most_common(1))
    warnings = sum(bool(WARNING.search(line)) for line in lines if not ERROR.search(line))
    top = "\n".join(f"  {count} x {text}" for text, count in alike.most_common(10))
    return f"Entries: {len(lines)}\nErrors: {len(errors)}\nWarnings: {warnings}\n{peak}Most frequent errors:\n{top}"


parser = argparse.ArgumentParser(description="What is wrong, says the log?")
parser.add_argument("file", type=argparse.FileType(encoding="utf-8", errors="replace"))
parser.add_argument("--since", default="", help="e.g. 2025-10-15T00:00:00")
parser.add_argument("--until", default="9999")
parser.add_argument("--interactive", action="store_true")
asked = parser.parse_args()
lines = [line.rstrip() for line in asked.file if asked.since <= (time_of(line) or asked.since) <= asked.until]
asked.file.close()


def find_lines(text: str) -> list[str]:
    """The first 20 lines of the log that contain a text."""
    return [line[:500] for line in lines if text.lower() in line.lower()][:20]


session = Agent(get_model("lm_studio/qwen3-8b"), tools=[find_lines], enable_memory=False).create_session()
print(summary(lines))
print(session.query_sync(f"{QUESTION}\n\n{summary(lines)}"))
while asked.interactive and (question := input("\nask (Enter leaves)> ").strip()):
    print(session.query_sync(question))
