"""What model servers say about themselves: the shapes of their JSON, and the model a name means. No I/O.

Every reader returns None when the JSON is not of its shape: servers answer unknown paths with 200, so a status proves
nothing. The served window and the trained maximum are kept apart; only the first may be budgeted with.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

Kind = Literal["lm_studio", "ollama", "llamacpp", "vllm", "openai_compatible"]
State = Literal["ready", "locked", "loading"]
Wire = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One model of a server.

    Attributes: id (what a request names), window_tokens (served; None: the server does not tell), trained_tokens (the
    model's maximum), source (the field that told the window, or the list it stands in), aliases (other names it answers
    to), is_window_certain (loaded with that window, not merely configured), is_remote (runs on the vendor's machines),
    template_id (fingerprint of its chat template). None stands for "the server does not tell".
    """

    id: str
    window_tokens: int | None
    trained_tokens: int | None
    is_loaded: bool
    has_tools: bool | None
    has_vision: bool | None
    kind: Literal["llm", "embedding"] | None
    source: str
    aliases: tuple[str, ...] = ()
    is_window_certain: bool = False
    is_remote: bool = False
    template_id: str | None = None


@dataclass(frozen=True, slots=True)
class Server:
    """A model server that answered.

    Attributes: base_url (with /v1), build (llama.cpp's own), state (locked: it wants a key, or another one; loading: it
    answers when its model is loaded), takes_any_name (it has one model, which answers whatever name is asked for).
    """

    kind: Kind
    base_url: str
    version: str | None = None
    models: tuple[ServedModel, ...] = ()
    build: str | None = None
    state: State = "ready"
    takes_any_name: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """The context window a model is served with; not `is_certain`: configured or advertised, not seen loaded."""

    tokens: int
    source: str
    is_certain: bool


@dataclass(slots=True)
class ServerCache:
    """What was learnt about servers, by base URL (with /v1); it holds until its owner calls `forget`.

    Attributes: windows (certain ones, by base URL and model), counting (how the server counts, by base URL and
    "text" or "prompt"; None: it cannot).
    """

    windows: dict[tuple[str, str], Window] = field(default_factory=dict)
    counting: dict[tuple[str, str], str | None] = field(default_factory=dict)

    def forget(self, base_url: str | None = None) -> None:
        """Drop what is known of one server, or of all: after a context error, or when another model was loaded."""
        gone = None if base_url is None else (base_url.rstrip("/"), f"{base_url.rstrip('/')}/v1")
        for known in (self.windows, self.counting):
            for key in [key for key in known if gone is None or key[0] in gone]:
                del known[key]


# ------------------------------------------------------------------ small readers


def _rows(data: Any, key: str, is_row: Callable[[Wire], bool]) -> list[Wire] | None:
    rows = data.get(key) if isinstance(data, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) and is_row(row) for row in rows):
        return None
    return rows


def _tokens(value: Any) -> int | None:
    """A positive whole number; 0 means unknown (the router of llama.cpp says n_ctx 0)."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return int(value) if is_number and 1 <= value < 1e12 else None


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def as_object(value: Any) -> Wire:
    """The value, or an empty object where it is none."""
    return value if isinstance(value, Mapping) else {}


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _kind_by_name(model_id: str) -> Literal["embedding"] | None:
    return "embedding" if re.search(r"embed|rerank", model_id, re.I) else None


def read_text(data: Any, key: str) -> str | None:
    """A text in an object, e.g. `{"version": "0.12.6"}` as Ollama and vLLM say it; None: there is none."""
    text = as_object(data).get(key)
    return text if isinstance(text, str) and text else None


def _fingerprint(data: Wire, *keys: str) -> str | None:
    texts = [text for key in keys if (text := read_text(data, key))]
    return hashlib.sha256("\0".join(texts).encode(errors="replace")).hexdigest()[:12] if texts else None


# ------------------------------------------------------------------ LM Studio


def lm_studio_models(data: Any) -> tuple[ServedModel, ...] | None:
    """`/api/v1/models` (0.4 and later): one entry per loaded instance, one per model that is not loaded."""
    rows = _rows(
        data, "models", lambda r: isinstance(r.get("key"), str) and isinstance(r.get("loaded_instances"), list)
    )
    return None if rows is None else tuple(model for row in rows for model in _lm_studio_row(row))


def _lm_studio_row(row: Wire) -> Iterable[ServedModel]:
    key, can = row["key"], as_object(row.get("capabilities"))
    kind: Literal["llm", "embedding"] = "embedding" if row.get("type") == "embedding" else "llm"
    trained = _tokens(row.get("max_context_length"))
    tools, vision = _flag(can.get("trained_for_tool_use")), _flag(can.get("vision"))
    instances = [one for one in row["loaded_instances"] if isinstance(one, Mapping)]
    if not instances:
        yield ServedModel(key, None, trained, False, tools, vision, kind, "/api/v1/models")
    for instance in instances:
        instance_id = instance["id"] if isinstance(instance.get("id"), str) else key
        tokens = _tokens(as_object(instance.get("config")).get("context_length"))
        source = "/api/v1/models loaded_instances[].config.context_length"
        aliases = (key,) if key != instance_id else ()
        is_told = tokens is not None
        yield ServedModel(instance_id, tokens, trained, True, tools, vision, kind, source, aliases, is_told)


def lm_studio_old_models(data: Any) -> tuple[ServedModel, ...] | None:
    """`/api/v0/models` (0.3.6 and later)."""
    rows = _rows(data, "data", lambda r: isinstance(r.get("id"), str) and r.get("state") in ("loaded", "not-loaded"))
    return None if rows is None else tuple(_lm_studio_old_row(row) for row in rows)


def _lm_studio_old_row(row: Wire) -> ServedModel:
    is_loaded = row["state"] == "loaded"
    tokens = _tokens(row.get("loaded_context_length")) if is_loaded else None
    return ServedModel(
        row["id"],
        tokens,
        _tokens(row.get("max_context_length")),
        is_loaded,
        "tool_use" in row["capabilities"] if isinstance(row.get("capabilities"), list) else None,
        row["type"] == "vlm" if row.get("type") in ("vlm", "llm") else None,
        "embedding" if row.get("type") == "embeddings" else "llm",
        "/api/v0/models loaded_context_length" if tokens else "/api/v0/models",
        is_window_certain=tokens is not None,
    )


# ------------------------------------------------------------------ Ollama


def ollama_running(data: Any) -> dict[str, int | None] | None:
    """`/api/ps`: the window of each loaded model (None: a version that does not tell it)."""
    rows = _rows(data, "models", lambda r: isinstance(r.get("name"), str) and "expires_at" in r)
    return None if rows is None else {row["name"]: _tokens(row.get("context_length")) for row in rows}


def ollama_rows(data: Any) -> list[Wire]:
    """`/api/tags`: the models on disk."""
    return _rows(data, "models", lambda r: isinstance(r.get("name"), str)) or []


def ollama_model(row: Wire, running: Mapping[str, int | None], shown: Any) -> ServedModel:
    """One model of `/api/tags`, with what `/api/ps` and its `/api/show` say."""
    name, shown = row["name"], as_object(shown)
    info = as_object(shown.get("model_info"))
    trained = _tokens(info.get(f"{info.get('general.architecture')}.context_length"))
    can = shown.get("capabilities", row.get("capabilities"))
    tokens, source = running.get(name), "/api/ps context_length"
    is_certain = tokens is not None
    if tokens is None:
        configured = re.search(r"^num_ctx\s+(\d{1,9})\s*$", str(shown.get("parameters") or ""), re.M)
        tokens = _tokens(int(configured[1])) if configured else None
        source = "/api/show num_ctx" if tokens else "/api/tags"
        if tokens and trained:
            tokens = min(tokens, trained)  # Ollama loads no more than the model was trained for
    return ServedModel(
        name,
        tokens,
        trained,
        name in running,
        "tools" in can if isinstance(can, list) else None,
        "vision" in can if isinstance(can, list) else None,
        ("llm" if "completion" in can else "embedding") if isinstance(can, list) and can else _kind_by_name(name),
        source,
        (name.removesuffix(":latest"),) if name.endswith(":latest") else (),
        is_certain,
        bool(row.get("remote_host") or row.get("remote_model")),
        _fingerprint(shown, "template"),
    )


# ------------------------------------------------------------------ llama.cpp


def is_llamacpp_props(data: Any) -> TypeGuard[Wire]:
    """Whether this is what `/props` answers, of a server with one model or of a router."""
    if not isinstance(data, Mapping) or not isinstance(data.get("default_generation_settings"), Mapping):
        return False
    return "n_ctx" in data["default_generation_settings"] or "total_slots" in data or "model_path" in data


def is_router_props(props: Wire) -> bool:
    return props.get("role") == "router"


def is_router_row(row: Wire) -> bool:
    return isinstance(row.get("status"), Mapping)


def is_running_row(row: Wire) -> bool:
    """Whether a router may be asked for the `/props` of this model without loading it."""
    return _state(row) in ("loaded", "sleeping")


def _state(row: Wire) -> Any:
    return row["status"].get("value") if is_router_row(row) else "loaded"


def names_of(row: Wire) -> tuple[str, ...]:
    """The id and the aliases of a row of `/v1/models`."""
    return (row["id"], *(alias for alias in _texts(row.get("aliases")) if alias != row["id"]))


def llamacpp_model(row: Wire, props: Any) -> ServedModel:
    """A row of `/v1/models` with the `/props` of that model (None where it was not asked)."""
    props = props if is_llamacpp_props(props) and not is_router_props(props) else {}
    tokens, source = _tokens(as_object(props.get("default_generation_settings")).get("n_ctx")), "/props n_ctx"
    if tokens is None:
        tokens, source = _tokens(as_object(row.get("meta")).get("n_ctx")), "/v1/models meta.n_ctx"
    can, first, *others = as_object(props.get("chat_template_caps")), *names_of(row)
    tools = _flag(can.get("supports_tool_calls", can.get("supports_tools")))
    vision = _flag(as_object(props.get("modalities")).get("vision"))
    return ServedModel(
        first,
        tokens,
        _tokens(as_object(row.get("meta")).get("n_ctx_train")),
        _state(row) == "loaded" and props.get("is_sleeping") is not True,
        tools,
        _sees(row) if vision is None else vision,
        _kind_by_name(first) or ("llm" if props else None),
        source if tokens else "/v1/models",
        tuple(others),
        tokens is not None,
        template_id=_fingerprint(props, "chat_template", "chat_template_tool_use"),
    )


def _sees(row: Wire) -> bool | None:
    modalities = as_object(row.get("architecture")).get("input_modalities")
    return "image" in modalities if isinstance(modalities, list) else None


# ------------------------------------------------------------------ vLLM and everybody else


def openai_rows(data: Any) -> list[Wire] | None:
    """The rows of `/v1/models`; some servers leave the list bare."""
    if isinstance(data, list) and data:
        data = {"data": data}
    rows = _rows(data, "data", lambda r: isinstance(r.get("id"), str) and r["id"] != "")
    return None if rows == [] and data.get("object") != "list" else rows


def openai_kind(rows: Sequence[Wire]) -> Kind:
    """Who serves these rows."""
    owners = [row.get("owned_by") for row in rows]
    if "llamacpp" in owners:
        return "llamacpp"
    return "vllm" if "vllm" in owners and any("max_model_len" in row for row in rows) else "openai_compatible"


def openai_models(rows: Sequence[Wire]) -> tuple[ServedModel, ...]:
    """The models of `/v1/models`, of whatever server. A LoRA has the window of its parent."""
    by_id = {row["id"]: row for row in rows}
    return tuple(_openai_model(row, as_object(by_id.get(str(row.get("parent"))))) for row in rows)


def _openai_model(row: Wire, parent: Wire) -> ServedModel:
    meta = as_object(row.get("meta"))
    served = (
        ("max_model_len", row.get("max_model_len") or parent.get("max_model_len")),
        ("meta.n_ctx", meta.get("n_ctx")),
        ("loaded_context_length", row.get("loaded_context_length")),
    )
    offered = (("context_length", row.get("context_length")), ("context_window", row.get("context_window")))
    told = [(name, tokens) for name, value in (*served, *offered) if (tokens := _tokens(value))]
    name, tokens = told[0] if told else ("", None)
    return ServedModel(
        row["id"],
        tokens,
        _tokens(meta.get("n_ctx_train")) or _tokens(row.get("max_context_length")),
        True,
        None,
        _sees(row),
        _kind_by_name(row["id"]),
        f"/v1/models {name}".rstrip(),
        names_of(row)[1:],
        name in dict(served),
    )


def koboldcpp_window(data: Any) -> int | None:
    """`/api/extra/true_max_context_length`: KoboldCpp cuts longer prompts without a word."""
    return _tokens(as_object(data).get("value"))


# ------------------------------------------------------------------ which model is meant


def find_model(server: Server, name: str) -> ServedModel | None:
    """The model a server would answer with. Of several instances of one model, the one with the smallest window."""
    if server.takes_any_name and server.models:
        return server.models[0]
    rules: tuple[Callable[[str], str], ...] = (str, str.lower, lambda text: text.lower().rpartition("/")[2])
    for rule in rules:
        found = [m for m in server.models if rule(name) in map(rule, (m.id, *m.aliases))]
        if found:
            loaded = [m for m in found if m.is_loaded] or found
            return min(loaded, key=lambda m: (m.window_tokens or 1 << 60, m.id))
    return None


def nearest_model(name: str, servers: Iterable[Server]) -> str | None:
    """The id of the listed model that a misspelt name most likely means; None when none is near."""
    best: tuple[float, bool, str] | None = None
    for server in servers:
        for model in server.models:
            score = max(_likeness(name, known) for known in (model.id, *model.aliases))
            entry = (-score, not model.is_loaded, model.id)
            if score >= 0.6 and (best is None or entry < best):
                best = entry
    return best[2] if best else None


def _likeness(name: str, known: str) -> float:
    name, known = name.lower(), known.lower()
    short = known.rpartition("/")[2]  # without publisher, and without Ollama's tag
    pairs = ((name, known), (name.rpartition("/")[2], short), (name, short.partition(":")[0]))
    return max(difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() for a, b in pairs)


def best_model(servers: Iterable[Server]) -> tuple[Server, ServedModel] | None:
    """What `Agent("auto")` takes: loaded ones first, then tools, then the window, then the first server.

    Embedding models, and models that would run on the vendor's machines, are never taken.
    """
    usable = [
        (server, place, model)
        for place, server in enumerate(servers)
        for model in server.models
        if model.kind != "embedding" and not model.is_remote
    ]
    tools_rank = {True: 0, None: 1, False: 2}
    usable.sort(
        key=lambda u: (not u[2].is_loaded, tools_rank[u[2].has_tools], -(u[2].window_tokens or 0), u[1], u[2].id)
    )
    return (usable[0][0], usable[0][2]) if usable else None


def is_text_only(messages: Iterable[Wire]) -> bool:
    """Whether no message holds an image or another part that is not text."""
    parts = [part for message in messages if isinstance(message.get("content"), list) for part in message["content"]]
    return all(isinstance(part, Mapping) and part.get("type", "text") == "text" for part in parts)
