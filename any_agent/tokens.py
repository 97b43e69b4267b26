"""Counts tokens without asking anyone: exact vocabularies where there are some, bounds that hold where there are none.

Nothing is ever downloaded. A text is counted by `splintr` (the extra `tokens`: vocabularies of OpenAI, Qwen, Llama,
Mistral, Gemma, DeepSeek), else by tiktoken from files on this disk (LiteLLM carries some), else from its characters.
What a server makes of it is learned from its own reports (`calibration`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import math
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from .calibration import (
    FLOOR,
    IMAGE,
    MESSAGE,
    TOKENS,
    Bounds,
    Calibration,
    Fit,
    Reported,
    Step,
    Sum,
    Sums,
    Trust,
    packed,
    rough_tokens,
    unpacked,
)  # fmt: skip
from .types import ImageBlock, Message, TextBlock, ToolResultBlock, ToolSpec, ToolUseBlock, ToolUseError

Said: TypeAlias = Message | Mapping[str, Any]  # an own message or an OpenAI dict

# Model names, the vocabulary they use (None: not known here, o200k_base stands in) and the trained window in tokens.
# A server may serve less. The first row that is found in the name counts.
_FAMILIES = tuple((re.compile(pattern), vocabulary, window) for pattern, vocabulary, window in (
    (r"gpt-?oss", "o200k_base", 131_072),
    (r"gpt-?5|gpt-?4\.5", "o200k_base", 272_000),
    (r"gpt-?4\.1", "o200k_base", 1_047_576),
    (r"gpt-?4o", "o200k_base", 128_000),
    (r"^o[134](-|$)", "o200k_base", 200_000),
    (r"gpt-?4-(turbo|vision|1106|0125)", "cl100k_base", 128_000),
    (r"gpt-?4-32k", "cl100k_base", 32_768),
    (r"gpt-?4(?![\d.])", "cl100k_base", 8192),
    (r"gpt-?35?(\.5)?-turbo|gpt-?3\.5", "cl100k_base", 16_385),
    (r"claude-(2|instant)", None, 100_000),
    (r"claude", None, 200_000),
    (r"gemini", None, 1_048_576),
    (r"deepseek.*(distill|coder).*llama", "llama3", 128_000),
    (r"deepseek.*distill.*qwen", "qwen3", 128_000),
    (r"deepseek-?(v3|chat|reasoner)|deepseek-?r1(?!.*\d+b)", "deepseek_v3", 65_536),  # r1:8b and the like are distilled
    (r"code-?llama", "codellama", 16_384),
    (r"llama-?4", None, 128_000),
    (r"llama-?3[._-]?[1-3]", "llama3", 128_000),
    (r"llama-?3", "llama3", 8192),
    (r"llama-?2|vicuna|tiny-?llama", "llama2", 4096),
    (r"nemo|ministral|devstral|magistral|pixtral-12b|mistral-small-?(3|24b)", "mistral_v3", 128_000),
    (r"mixtral|mistral-?7b", "mistral_v2", 32_768),  # v1 and v2 differ in control tokens only
    (r"mistral", None, 32_768),
    (r"qwen-?(1\.5|2\.5|[23](?![.\d]))|qwq", "qwen3", 32_768),
    (r"qwen", None, 32_768),
    (r"gemma-?4", "gemma4", 131_072),
    (r"gemma-?3", "gemma3", 131_072),
    (r"gemma", "gemma2", 8192),
    (r"phi-?4(?!-?(mini|multi))", "phi4", 16_384),
    (r"phi-?3(\.5)?(?!-?small)", "llama2", 4096),
    (r"glm-?4", "glm4", 128_000),
    (r"kimi-?k2", "kimi_k2", 131_072),
))  # fmt: skip
# Compared id by id with tiktoken, or with what llama.cpp and transformers keep for their own tests. The others only
# agree with themselves, so their bounds stay wide until a server has reported.
_PROVEN = {"o200k_base", "cl100k_base", "llama2", "llama3", "qwen3", "gemma2", "mistral_v3"}
_STAND_IN = "o200k_base"
_TIKTOKEN_FILES = {  # the file's name in tiktoken's cache, and its SHA-256
    "o200k_base": (
        "fb374d419588a4632f3f557e76b4b70aebbca790",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "9b5ad71b2ce5302211f9c61530b329a4922fc6a4",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
_CHUNK_CHARS = 32_768  # tiktoken's stack overflows on much longer runs of spaces
_TOOLS_PREAMBLE = 60  # tokens a template spends on saying how tools are called
_REMEMBERED = 4096
_loading = threading.Lock()  # of the one environment variable that tiktoken reads


class Vocabulary(NamedTuple):
    """What counts a text. `trust`: "exact" for the model's own, "near" for another one, "rough" for none."""

    name: str
    trust: Trust
    count: Callable[[str], int]


class TokenCounter:
    """Tokens of texts, messages and tool schemas as the model's server will count them; never raises.

    Counted are roles and overhead (learned; 5 a message at first), text, tool calls and results, schemas, and images at
    a flat 800 until a server has told more. Reasoning is not sent back, so it counts nothing. A message is counted
    once, then remembered by identity. Use one counter for each conversation, and share the calibration.

    Args:
        model: Its name chooses vocabulary and window.
        server: Base URL of the server, so that two servers learn apart.
        calibration: What servers have reported; None starts from nothing and keeps nothing.
    """

    def __init__(self, model: str, *, server: str | None = None, calibration: Calibration | None = None) -> None:
        self.model = model
        self.server = server
        self.limit = _family(model)[1]
        self._calibration = Calibration() if calibration is None else calibration
        self._vocabulary: Vocabulary | None = None
        self._fit: Fit | None = None
        self._sums = Sums(self._of_message, self._of_wire)
        self._specs: dict[int, tuple[ToolSpec, int]] = {}
        self._texts: dict[str, int] = {}
        self._reported: Reported | None = None
        self._bounded: tuple[tuple[Sum, float, int], Bounds] = (Sum([], 0), 0.0, -1), Bounds(0.0, 0.0, 0.0)

    @property
    def vocabulary(self) -> Vocabulary:
        """What counts texts; loaded at the first use (15 to 350 ms of splintr, 0.5 s of tiktoken)."""
        if self._vocabulary is None:
            self._vocabulary = find_vocabulary(self.model)
        return self._vocabulary

    def prepare(self) -> None:
        """Load the vocabulary and what was learned of it before. Blocking, up to 0.5 s."""
        _ = self._learned

    def count(self, text_or_messages: str | Said | Sequence[Said]) -> int:
        """Tokens of a text or of messages, rather too many than too few."""
        given: Any = text_or_messages
        if isinstance(given, str):
            features = [*unpacked(self._of_text(given)), 0.0, 0.0]
            return math.ceil(self._learned.bounds(features).upper) if given else 0
        return self.upper(given if isinstance(given, Sequence) else [given])

    def count_messages(self, messages: Sequence[Said]) -> int:
        """Tokens of messages, rather too many than too few."""
        return self.upper(messages)

    def estimate(self, messages: Sequence[Said], tools: Sequence[ToolSpec] = ()) -> int:
        """The best guess of the prompt's tokens."""
        return round(self.bounds(messages, tools).estimate)

    def upper(self, messages: Sequence[Said], tools: Sequence[ToolSpec] = ()) -> int:
        """For budgets: not below the truth. Before any report about 2.3 times the estimate, then 1.02 to 1.3 times."""
        return math.ceil(self.bounds(messages, tools).upper)

    def lower(self, messages: Sequence[Said], tools: Sequence[ToolSpec] = ()) -> int:
        """Not above the truth: fewer reported tokens mean that text was cut."""
        return math.floor(self.bounds(messages, tools).lower)

    def floor(self, messages: Sequence[Message]) -> int:
        """The fewest tokens that any tokenizer is known to make of these, whatever was learned of this one."""
        return math.floor(FLOOR * unpacked(sum(map(self._sums.one, messages)))[TOKENS])

    def bounds(self, messages: Sequence[Said], tools: Sequence[ToolSpec] = ()) -> Bounds:
        """All three figures at the price of one."""
        if not messages and not tools:
            return Bounds(0.0, 0.0, 0.0)
        asked = said, schemas, learned = self._sums.of(messages), self._of_tools(tools), self._learned.learned
        before, found = self._bounded
        if before[0] is not said or before[1:] != (schemas, learned):
            found = self._learned.bounds([*unpacked(said.total), schemas, 1.0], self._step(said, schemas))
            self._bounded = asked, found
        return found

    def learn(self, messages: Sequence[Said], tools: Sequence[ToolSpec], reported_prompt_tokens: int | None) -> bool:
        """Take in what the server reported for this prompt, cached tokens included; None and 0 mean nothing was told.

        Returns:
            False: the report lies below `lower`, so the server has cut text. Such a report is not believed, unless
            three in a row show that another tokenizer is at work.
        """
        if not reported_prompt_tokens or reported_prompt_tokens < 0:
            return True
        said, schemas = self._sums.of(messages), self._of_tools(tools)
        features = [*unpacked(said.total), schemas, 1.0]
        self._bounded = (said, schemas, -1), Bounds(0.0, 0.0, 0.0)
        verdict = self._learned.learn(features, reported_prompt_tokens, self._step(said, schemas))
        if verdict == "learned" and said.is_own:  # dicts may change, so they are no base for later prompts
            self._reported = Reported(tuple(messages), said, schemas, reported_prompt_tokens)
        return verdict != "cut"

    def unlearn(self, reports: int) -> None:
        """Forget the last reports: the server had cut those prompts."""
        self._learned.unlearn(reports)
        self._reported = None

    @property
    def _learned(self) -> Fit:
        if self._fit is None:
            name, trust, _ = self.vocabulary
            self._fit = self._calibration.fit(self.server, self.model, name, trust)
        return self._fit

    def _step(self, said: Sum, schemas: float) -> Step | None:
        """How a prompt differs from the last one that was reported, message by message."""
        last = self._reported
        if last is None:
            return None
        same = last.said.total
        if not said.begins_with(last.said):
            same = sum([self._sums.known[i] for i in last.ids.intersection(said.ids)])
        if not same:
            return None
        new, gone = [*unpacked(said.total - same), 0.0, 0.0], [*unpacked(last.said.total - same), 0.0, 0.0]
        if schemas != last.schemas:
            new[-2], gone[-2] = schemas, last.schemas
        return Step(last.tokens, new, gone)

    def _of_message(self, message: Any) -> int:
        total = 0 if getattr(message, "role", "") == "tool" else MESSAGE  # each result is a message of its own
        return total + sum([self._of_block(block) for block in getattr(message, "content", None) or ()])

    def _of_block(self, block: Any) -> int:
        match block:
            case TextBlock():
                return self._of_text(block.text)
            case ToolResultBlock():
                content = block.content
                return MESSAGE + self._of_text(content if isinstance(content, str) else _json(content or ""))
            case ToolUseBlock():
                return MESSAGE + self._of_text(_call(block.name, block.input))
            case ToolUseError():
                return MESSAGE + self._of_text(_call(block.name, {"invalid_arguments": block.raw_data or ""}))
            case ImageBlock():
                return IMAGE
        return 0

    def _of_wire(self, message: Mapping[str, Any]) -> int:
        content = message.get("content")
        if content.__class__ is str and "tool_calls" not in message:
            found = self._texts.get(content)
            if found is not None:
                return found + MESSAGE
        total = MESSAGE
        for part in content if isinstance(content, (list, tuple)) else (content,):
            if isinstance(part, Mapping) and "image" in str(part.get("type")):
                total += IMAGE
            elif isinstance(part, Mapping):
                total += self._of_known(part["text"] if isinstance(part.get("text"), str) else _json(part))
            else:
                total += self._of_known(part) if isinstance(part, str) else self._of_block(part)
        calls = message.get("tool_calls")
        for call in calls if isinstance(calls, (list, tuple)) else ():
            function = call.get("function") if isinstance(call, Mapping) else None
            if isinstance(function, Mapping):
                total += MESSAGE + self._of_known(_call(function.get("name"), function.get("arguments")))
        return total

    def _of_known(self, text: str) -> int:
        found = self._texts.get(text)
        if found is None:
            if len(self._texts) > _REMEMBERED:
                self._texts.clear()
            found = self._texts[text] = self._of_text(text)
        return found

    def _of_text(self, text: str) -> int:
        return packed(text, _counted(text, self.vocabulary.count)) if text else 0

    def _of_tools(self, tools: Sequence[Any]) -> float:
        total = 0
        for spec in tools:
            found = self._specs.get(id(spec))
            if found is None:
                found = spec, _counted(_schema(spec), self.vocabulary.count)
                if isinstance(spec, ToolSpec) and len(self._specs) < _REMEMBERED:
                    self._specs[id(spec)] = found
            total += found[1]
        return float(total + _TOOLS_PREAMBLE) if total else 0.0


def estimate_tokens(messages: Sequence[Said], model: str = "gpt-3.5-turbo") -> int:
    """The best guess of a conversation's tokens for a model of this name."""
    return TokenCounter(model).estimate(messages)


def _json(value: Any) -> str:
    try:
        text: str = json.dumps(value, ensure_ascii=False, default=str)
        return text
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _call(name: Any, arguments: Any) -> str:
    text = arguments if isinstance(arguments, str) else _json(arguments or {})
    return f'{{"name": "{name}", "arguments": {text}}}'


def _schema(spec: Any) -> str:
    if isinstance(spec, ToolSpec):
        spec = {"name": spec.name, "description": spec.description, "parameters": spec.parameters}
        spec = {"type": "function", "function": spec}
    return _json(spec)


# ------------------------------------------------------------------ vocabularies


def find_vocabulary(model: str) -> Vocabulary:
    """The best there is on this machine for a model of this name."""
    own = _family(model)[0]
    for name in (own, _STAND_IN):
        count = _loaded(name) if name else None
        if name and count:
            return Vocabulary(name, "exact" if name == own and name in _PROVEN else "near", count)
    return Vocabulary("characters", "rough", rough_tokens)


def _family(model: str) -> tuple[str | None, int]:
    name = re.sub(r"[:_ ]", "-", re.split(r"[/\\]", model.lower().removeprefix("ft:"))[-1])
    for pattern, vocabulary, window in _FAMILIES:
        if pattern.search(name):
            return vocabulary, window
    return None, 4096


def _counted(text: str, count: Callable[[str], int]) -> int:
    """Tokens of a text of any length and content."""
    total = 0
    for start in range(0, len(text), _CHUNK_CHARS):
        chunk = text[start : start + _CHUNK_CHARS]
        try:
            total += count(chunk)
        except UnicodeEncodeError:  # half of a surrogate pair
            total += _counted(chunk.encode("utf-8", "replace").decode(), count)
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # how Rust gives up
                raise
            total += rough_tokens(chunk)
    return total


@cache
def _loaded(name: str) -> Callable[[str], int] | None:
    return _from_splintr(name) or _from_tiktoken(name)


def _from_splintr(name: str) -> Callable[[str], int] | None:
    try:
        encode = importlib.import_module("splintr").Tokenizer.from_pretrained(name).encode_ordinary
    except (ImportError, AttributeError, OSError, ValueError):
        return None
    return lambda text: len(encode(text))


def _from_tiktoken(name: str) -> Callable[[str], int] | None:
    file, digest = _TIKTOKEN_FILES.get(name, ("", ""))
    folder = next((f for f in _tiktoken_folders() if file and _is_whole(f / file, digest)), None)
    if folder is None:  # tiktoken would download it
        return None
    with _loading:
        before = os.environ.get("TIKTOKEN_CACHE_DIR")
        os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
        try:
            import tiktoken

            encode = tiktoken.get_encoding(name).encode_ordinary
        except (ImportError, OSError, ValueError):
            return None
        finally:
            os.environ.pop("TIKTOKEN_CACHE_DIR", None)
            if before is not None:
                os.environ["TIKTOKEN_CACHE_DIR"] = before
    return lambda text: len(encode(text))


def _tiktoken_folders() -> Iterator[Path]:
    yield from [Path(os.environ[name]) for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR") if os.environ.get(name)]
    try:
        found = importlib.util.find_spec("litellm")  # does not import it
    except (ImportError, ValueError):
        return
    for folder in (found and found.submodule_search_locations) or ():
        yield Path(folder) / "litellm_core_utils" / "tokenizers"


def _is_whole(path: Path, digest: str) -> bool:
    with contextlib.suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    return False
