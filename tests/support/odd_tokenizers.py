"""Tokenizers nobody ships, texts of many kinds, and servers that report what such a tokenizer makes of a prompt.

Everything is made from a seed: the same seed gives the same conversation and the same reports.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from any_agent.tokens import find_vocabulary
from any_agent.types import (
    AssistantMessage,
    Message,
    SystemMessage,
    TextBlock,
    ToolMessage,
    ToolResultBlock,
    ToolSpec,
    ToolUseBlock,
    UserMessage,
)

Tokenize = Callable[[str], float]

_CODE = '''
def merge(left: list[int], right: list[int]) -> list[int]:
    """Merge two sorted lists into one."""
    out, i, j = [], 0, 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            out.append(left[i])
            i += 1
        else:
            out.append(right[j])
            j += 1
    return out + left[i:] + right[j:]


class Stack(Generic[T]):
    def __init__(self, items: Iterable[T] = ()) -> None:
        self._items: list[T] = list(items)

    def push(self, item: T) -> "Stack[T]":
        self._items.append(item)
        return self
'''
_PROSE = """The harbour was quiet when the first boats came back. Nobody on the pier had expected them before noon, and
so the women who usually counted the baskets were still at home. Thomas tied the rope, looked at the sky and said that
the weather would turn before the evening. His brother laughed; he had heard the same sentence on every clear morning
for eleven years. They carried the fish up the stairs, weighed it, and wrote the numbers into the grey book that had
belonged to their father. Whoever wants to understand a small town should read such books, not the newspapers. """
_MANUAL = """To install the package, create a virtual environment and run the command shown below. The configuration
file is optional: if it is missing, sensible defaults are used. Set `log_level` to `debug` when you report a problem,
and attach the output. Versions before 2.4 do not support streaming; upgrade first. """
TEXTS: dict[str, str] = {
    "prose": _PROSE * 4,
    "manual": _MANUAL * 6,
    "shouting": 'THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED. ' * 8,
    "code": _CODE * 3,
    "markdown": "| name | size | done |\n|------|-----:|:----:|\n| parser | 120 | yes |\n| printer | 88 | no |\n" * 10,
    "german": "Die Prüfung der Verträge dauert länger als üblich, weil einige Anlagen fehlen. Bitte schicken Sie uns "
    "die Übersicht über alle Änderungen bis Freitag; wir melden uns natürlich früher, falls es möglich ist. " * 5,
    "russian": "Современные языковые модели умеют писать тексты, отвечать на вопросы и переводить. Пожалуйста, "
    "проверьте этот договор и коротко расскажите, что в нём не так. " * 5,
    "arabic": "تستطيع النماذج اللغوية الحديثة كتابة النصوص والإجابة عن الأسئلة والترجمة بين اللغات. من فضلك راجع هذا "
    "العقد وأخبرني باختصار عن أي مشكلة فيه. " * 5,
    "hindi": "आधुनिक भाषा मॉडल लेख लिख सकते हैं, प्रश्नों के उत्तर दे सकते हैं और अनुवाद कर सकते हैं। कृपया इस अनुबंध की जाँच करें। " * 5,
    "chinese": "近年来，大型语言模型取得了惊人的进展，它们可以写文章、回答问题、翻译语言，甚至编写程序。请你帮我检查"
    "一下这份合同里的条款，看看有没有什么问题，然后用简短的中文总结给我。" * 5,
    "japanese": "最近の大規模言語モデルは、文章を書いたり、質問に答えたり、プログラムを作ったりすることができます。"
    "明日の会議の資料を確認して、間違いがあれば教えてください。" * 5,
    "korean": "요즘 큰 언어 모델은 글을 쓰고 질문에 답하며 프로그램도 만듭니다. 내일 회의 자료를 확인하고 틀린 부분이 "
    "있으면 알려 주세요. " * 5,
    "emoji": "Great job 🎉🎉 see you at the party 🥳🍕🍻! 👍🏽 Bring the kids 👩‍👩‍👧‍👦 and the dog 🐕 ❤️ ✨ " * 8,
    "mixed": "Please translate „Grüße aus Köln“ into 中文 and Русский, then email it to anna@example.org 🙂. " * 8,
}
TALK = ("prose", "manual", "german")
WORK = ("code", "markdown", "json", "log", "manual")
EVERYTHING = (*TEXTS, "json", "log", "numbers", "ids")


def piece(rng: random.Random, kinds: Sequence[str]) -> str:
    """A text of one kind, 3 to 4,000 characters, mostly some hundreds."""
    kind = rng.choice(kinds)
    size = min(4000, int(rng.lognormvariate(5.5, 1.1)) + 3)
    made = {"json": _json_rows, "log": _log_lines, "numbers": _numbers, "ids": _ids}.get(kind)
    text = made(rng, size) if made else TEXTS[kind] * (1 + size // len(TEXTS[kind]))
    start = rng.randrange(max(1, len(text) - size))
    return text[start : start + size]


def _json_rows(rng: random.Random, size: int) -> str:
    rows = [
        {"id": rng.randrange(10**6), "name": rng.choice(["ann", "bob", "eve"]), "ok": True, "score": rng.random()}
        for _ in range(size // 60 + 1)
    ]
    return json.dumps(rows, indent=rng.choice([None, 2]))


def _log_lines(rng: random.Random, size: int) -> str:
    line = "2026-11-{:02d}T08:{:02d}:12.{:03d}Z INFO [worker-{}] GET /api/v1/items/{} 200 {}ms\n"
    return "".join(
        line.format(*[rng.randrange(1, n) for n in (29, 60, 999, 9, 99999, 900)]) for _ in range(size // 70 + 1)
    )


def _numbers(rng: random.Random, size: int) -> str:
    return ",".join(str(round(rng.gauss(0, 1000), 3)) for _ in range(size // 8 + 1))


def _ids(rng: random.Random, size: int) -> str:
    return " ".join(f"{rng.getrandbits(128):032x}" for _ in range(size // 33 + 1))


# ------------------------------------------------------------------ tokenizers

_WORDS = re.compile(r"[\u3000-\u9fff\uac00-\ud7ff]|[\u0900-\u0fff]{1,5}|[^\W\u0900-\u0fff]{1,5}|[^\w\s]")


@cache
def our_tokens(text: str) -> int:
    """Tokens in the vocabulary that stands in for unknown models."""
    return find_vocabulary("unknown-model").count(text)


def half_bytes(text: str) -> float:
    return len(text.encode()) / 2


def words_and_a_half(text: str) -> float:
    """Words (of at most five letters) and signs, times 1.5; scripts without spaces have one word per character."""
    return 1.5 * len(_WORDS.findall(text))


def single_digits(text: str) -> float:
    """Our vocabulary, but each digit is one token, as Qwen, Gemma and Llama 2 have it."""
    return our_tokens(re.sub(r"\d+", "", text)) + sum(c.isdigit() for c in text)


TOKENIZERS: dict[str, Tokenize] = {
    "characters": len,
    "bytes": lambda text: len(text.encode()),
    "half_bytes": half_bytes,
    "words_and_a_half": words_and_a_half,
    "half": lambda text: our_tokens(text) / 2,
    "double": lambda text: our_tokens(text) * 2,
    "single_digits": single_digits,
    "cl100k_base": find_vocabulary("gpt-4").count,
}
LOCAL_VOCABULARIES = ("llama2", "llama3", "qwen3", "gemma2", "mistral_v3", "deepseek_v3", "glm4", "kimi_k2")


def local_tokenizers() -> dict[str, Tokenize]:
    """The vocabularies of local models, where the package that carries them is installed."""
    try:
        import splintr
    except ImportError:
        return {}
    made = {name: splintr.Tokenizer.from_pretrained(name).encode_ordinary for name in LOCAL_VOCABULARIES}
    return {name: (lambda text, encode=encode: len(encode(text))) for name, encode in made.items()}


# ------------------------------------------------------------------ servers and conversations


@dataclass
class Server:
    """Reports prompt tokens as a chat template over one tokenizer would make them.

    Attributes:
        overhead: Tokens around each message, `fixed` those of the whole prompt.
        tools_share: How much of a tool's JSON schema the template shows; `tools_fixed` is said around them.
        window: Longer prompts are cut to half of it, silently, as Ollama does (0: never).
    """

    tokenize: Tokenize
    overhead: float = 4
    fixed: float = 3
    tools_share: float = 1.0
    tools_fixed: float = 0
    window: int = 0

    def truth(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int:
        """Tokens of the whole prompt."""
        total = self.fixed + sum(self._message(message) for message in messages)
        if tools:
            shown = [json.dumps([t.name, t.description, t.parameters]) for t in tools]
            total += self.tools_fixed + self.tools_share * sum(map(self.tokenize, shown))
        return max(1, round(total))

    def report(self, messages: Sequence[Message], tools: Sequence[ToolSpec] = ()) -> int:
        """`prompt_tokens` of the answer."""
        truth = self.truth(messages, tools)
        return self.window // 2 + 2 if self.window and truth > self.window else truth

    def _message(self, message: Message) -> float:
        total = 0.0 if isinstance(message, ToolMessage) else self.overhead
        for block in message.content:
            if isinstance(block, TextBlock):
                total += self.tokenize(block.text)
            elif isinstance(block, ToolUseBlock):
                total += self.overhead + self.tokenize(json.dumps({"name": block.name, "arguments": block.input}))
            elif isinstance(block, ToolResultBlock):
                total += self.overhead + self.tokenize(block.as_text())
        return total


def any_server(rng: random.Random, tokenize: Tokenize) -> Server:
    """A server with some template."""
    shares, fixed = (0.0, 0.15, 0.8, 1.0, 1.3), (0, 1, 3, 25, 60)
    return Server(
        tokenize, rng.choice((0, 2, 4, 5, 10)), rng.choice(fixed), rng.choice(shares), rng.choice((0, 0, 100))
    )


def tools(count: int) -> tuple[ToolSpec, ...]:
    """So many tools with ordinary schemas."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {
            "path": {"type": "string", "description": "Where the file is, relative to the project."},
            "limit": {"type": "integer", "minimum": 1, "description": "How many lines at most."},
        },
        "required": ["path"],
    }
    return tuple(
        ToolSpec(f"read_part_{n}", "Read a part of a text file and number its lines.", schema) for n in range(count)
    )


def conversation(rng: random.Random, kinds: Sequence[str], turns: int, *, keep: int = 0) -> Iterator[list[Message]]:
    """The prompts of one conversation, each longer than the last; with `keep`, old messages go in blocks."""
    messages: list[Message] = [SystemMessage(piece(rng, TALK))]
    for turn in range(turns):
        messages = [*messages, UserMessage(piece(rng, kinds))]
        yield messages
        if rng.random() < 0.3:
            call = ToolUseBlock(f"call_{turn}", "read_part_0", {"path": f"src/{turn}.py", "limit": 20})
            result = ToolResultBlock(call.id, piece(rng, kinds))
            messages = [*messages, AssistantMessage([call]), ToolMessage([result])]
            yield messages
        messages = [*messages, AssistantMessage(piece(rng, kinds))]
        if keep and len(messages) > keep:
            messages = [messages[0], *messages[1 + keep // 2 :]]
