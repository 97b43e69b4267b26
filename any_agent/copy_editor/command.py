"""`any-agent copy-edit` and `any-agent demo`: what runs, with which model, and what is printed of it."""

from __future__ import annotations

import asyncio
import json as json_text
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ..errors import AnyAgentError, ConfigurationError
from .editor import DEFAULT_OUT, CopyEditorAgent
from .issues import SEVERITIES
from .offline_model import NOTE, OfflineProofreader
from .progress import steps_shown, tell
from .proofread import engine_name
from .records import ChapterRecord, RunRecord, counted
from .report import as_json, count, report_path, write_index
from .score import MANUSCRIPT, Score, load_key, score

if TYPE_CHECKING:
    from ..models.servers.shapes import ServedModel, Server

DEMO_OUT = Path("copy-edit-demo")
DEMO_TITLE = "Four Chapters"
_DEMO_LIMIT_S = 600.0
_SILENCE_S = 120.0
_MOST_TOKENS = 8000


@dataclass(frozen=True, slots=True)
class Screen:
    """Where the output goes: `is_quiet` keeps standard error empty, `is_json` puts one object on standard output."""

    is_quiet: bool
    is_json: bool

    def tell(self, text: str) -> None:
        if not self.is_quiet:
            tell(text)


def run_copy_edit(
    *,
    paths: Sequence[Path],
    out: Path | None = None,
    offline: bool = False,
    jobs: int = 1,
    resume: bool = True,
    quiet: bool = False,
    json: bool = False,
    fallback_models: Sequence[str] = (),
    **address: Any,
) -> int:
    """Proofread files and folders; returns the exit code: 1 when a chapter failed.

    Args:
        address: model, provider, base_url, api_key, where they were given.

    Raises:
        AnyAgentError: a path or setting is wrong, or the model cannot be reached; what was done is kept.
    """
    _check_offline(offline, address, fallback_models)
    screen, started = Screen(quiet, json), perf_counter()
    folder = out or DEFAULT_OUT
    novel = {"title": _title(paths), "chapters": list(paths), "research_output": folder}
    fields = _offline_fields() if offline else _model_fields(address, fallback_models)
    if offline:
        _tell_rules(screen)
    run = asyncio.run(_proofread(novel, fields, screen, jobs=jobs, resume=resume, is_told_what_is_done=True))
    _print(run, screen, folder, perf_counter() - started)
    return 0 if run.status == "finished" else 1


def run_demo(
    *,
    out: Path | None = None,
    offline: bool = False,
    quiet: bool = False,
    json: bool = False,
    fallback_models: Sequence[str] = (),
    servers: Sequence[str] | None = None,
    **address: Any,
) -> int:
    """Proofread the shipped manuscript and compare with its answer key; returns the exit code.

    A model that is named is used, and its failure is an error. Otherwise a local server with a loaded model is used,
    and the rules of `offline/proofreader` where there is none or where it is of no use.

    Args:
        servers: base URLs to look at for a server; None: the usual ones of this machine.
        address: model, provider, base_url, api_key, where they were given.

    Raises:
        AnyAgentError: the model that was named failed, or nothing can be written.
    """
    _check_offline(offline, address, fallback_models)
    screen, started = Screen(quiet, json), perf_counter()
    folder = out or DEMO_OUT
    novel = {"title": DEMO_TITLE, "chapters_path": MANUSCRIPT, "research_output": folder}
    if address or fallback_models:
        fields = _model_fields(address, fallback_models)
        run = asyncio.run(_proofread(novel, fields, screen, resume=False))
    else:
        run = asyncio.run(_demo(novel, screen, () if offline else servers))
    found = {record.chapter_id: record.issues for record in run.chapters}
    result = score(found, load_key(MANUSCRIPT / "answer_key.json"))
    _print(run, screen, folder, perf_counter() - started, result)
    return 0 if run.status == "finished" else 1


def _check_offline(offline: bool, address: Mapping[str, Any], fallback_models: Sequence[str]) -> None:
    named = next((f"--{name.replace('_', '-')}" for name in address), "--model" if fallback_models else "")
    if offline and named:
        raise ConfigurationError(f"--offline uses no model; leave out {named}, or --offline", field="offline")


def _title(paths: Sequence[Path]) -> str:
    first = paths[0].absolute() if paths else Path()
    return (first if first.is_dir() else first.parent).name or "Manuscript"


def _model_fields(address: Mapping[str, Any], fallback_models: Sequence[str]) -> dict[str, Any]:
    """What was given, and only that: the rest may stand in environment and config files."""
    return {**address, **({"fallback_models": list(fallback_models)} if fallback_models else {})}


def _offline_fields() -> dict[str, Any]:
    return {"model": OfflineProofreader(), "tools": ["read_file"]}


def _tell_rules(screen: Screen) -> None:
    screen.tell(f"Reading with offline/proofreader: {NOTE}. Engine: {engine_name()}.")
    if not engine_name().startswith("harper"):
        from .. import DISTRIBUTION

        screen.tell(
            f"It finds more with the extra `proof`, which is not installed: pip install '{DISTRIBUTION}[proof]'"
        )


# ------------------------------------------------------------------ one run


async def _proofread(
    novel: Mapping[str, Any],
    fields: Mapping[str, Any],
    screen: Screen,
    *,
    jobs: int = 1,
    resume: bool = True,
    is_told_what_is_done: bool = False,
) -> RunRecord:
    """Run the agent over the novel and write the reports.

    Args:
        is_told_what_is_done: when the run breaks off, write the reports of what was done, and tell how to go on.
    """
    with steps_shown(is_quiet=screen.is_quiet) as on_step:
        agent = CopyEditorAgent(novel_metadata=novel, jobs=jobs, on_step=on_step, **fields)
        async with agent:
            try:
                told = await agent.analyze_novel(resume=resume)
            except (AnyAgentError, asyncio.CancelledError):
                if is_told_what_is_done and agent.run_id is not None:
                    _keep_what_is_done(agent, agent.run_id, screen)
                raise
            await agent.generate_index_report(told["run_id"])
            return agent.db.load_run(told["run_id"])


def _keep_what_is_done(agent: CopyEditorAgent, run_id: int, screen: Screen) -> None:
    run = agent.db.load_run(run_id)
    done = sum(record.status == "done" for record in run.chapters)
    if done:
        page = write_index(run, agent.output_folder)
        screen.tell(f"{done} of {count(len(run.chapters), 'chapter')} done and kept: {page}. Run it again to go on.")


# ------------------------------------------------------------------ the demo


async def _demo(novel: Mapping[str, Any], screen: Screen, places: Sequence[str] | None) -> RunRecord:
    """With a local server if one has a model loaded and it is of use; otherwise with the rules."""
    if places is None or places:
        found = await _server_here(screen, places)
        run = await _tried(novel, *found, screen) if found else None
        if run is not None:
            return run
    _tell_rules(screen)
    return await _proofread(novel, _offline_fields(), screen, resume=False)


async def _server_here(screen: Screen, places: Sequence[str] | None) -> tuple[Server, ServedModel, str | None] | None:
    """A server on this machine with a chat model loaded, and the key the user named with its address."""
    from ..models.servers import Address, addresses_here, best_model, discover

    try:
        addresses = addresses_here() if places is None else [Address(place) for place in places]
        servers = await discover(addresses)
    except AnyAgentError as error:
        screen.tell(f"Looking for a model server failed: {error}")
        return None
    if not servers:
        screen.tell("No model server answers on this machine.")
        return None
    keys = {address.base_url: address.api_key for address in addresses}
    for server in servers:
        loaded = [model.id for model in server.models if model.is_loaded and model.kind != "embedding"]
        state = ", ".join(loaded[:3]) or ("wants a key" if server.state == "locked" else "no chat model loaded")
        screen.tell(f"Found {server.kind} at {server.base_url}: {state}")
    best = best_model([server for server in servers if server.state == "ready"])
    if best is None or not best[1].is_loaded:
        return None
    return *best, keys.get(best[0].base_url)


async def _tried(
    novel: Mapping[str, Any], server: Server, model: ServedModel, api_key: str | None, screen: Screen
) -> RunRecord | None:
    """The run with a server that was found; None: it failed, took too long or found nothing, and that was told."""
    screen.tell(f"Reading with {model.id} at {server.base_url}.")
    window = model.window_tokens
    fields: dict[str, Any] = {
        "model": model.id,
        "provider": None if server.kind == "openai_compatible" else server.kind,
        "base_url": server.base_url,
        "api_key": api_key,
        "context_window_size": window if window and window >= 256 else None,
        "max_tokens": min(_MOST_TOKENS, window // 2) if window else None,
        "timeout": _SILENCE_S,
        "max_retries": 1,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        run = await asyncio.wait_for(_proofread(novel, given, screen, resume=False), _DEMO_LIMIT_S)
    except asyncio.TimeoutError:
        why = f"took longer than {_DEMO_LIMIT_S:.0f} s"
    except AnyAgentError as error:
        why = f"failed: {str(error).splitlines()[0]}"
    else:
        if run.issues and run.status == "finished":
            return run
        failed = run.stats()["failed"]
        why = f"could not read {', '.join(failed)}" if failed else "gave no issue that stands in the text"
    screen.tell(f"{model.id} {why}. Going on without a model.")
    return None


# ------------------------------------------------------------------ what is printed


def _print(run: RunRecord, screen: Screen, folder: Path, took_s: float, result: Score | None = None) -> None:
    page = folder / "index.html"
    if screen.is_json:
        told = {**as_json(run), "report": str(page), "duration_s": round(took_s, 3)}
        if result is not None:
            told["score"] = _score_json(result)
        print(json_text.dumps(told, ensure_ascii=False, indent=2))
        return
    width = max((len(record.chapter_id) for record in run.chapters), default=0) + 2
    rows = [(record.chapter_id, _counts(record)) for record in run.chapters]
    stats = run.stats()
    refused = f", {count(stats['rejected'], 'answer')} refused" if stats["rejected"] else ""
    rows.append(("total", f"{count(len(run.issues), 'issue')}{refused}"))
    if result is not None:
        rows.append(("score", _score_text(result)))
    rows.append(("read by", f"{', '.join(run.models)}{f' ({run.model_note})' if run.model_note else ''}"))
    rows.append(("reports", f"{page}, {report_path(folder, 'X.md').parent}/"))
    rows.append(("time", f"{took_s:.1f} s"))
    for name, text in rows:
        tell(f"{name.ljust(max(width, 9))}{text}", to=sys.stdout)


def _counts(record: ChapterRecord) -> str:
    if record.status != "done":
        return record.error or "not read"
    severe = counted((issue.severity for issue in record.issues), SEVERITIES)
    told = ", ".join(f"{number} {name}" for name, number in severe.items() if number)
    return count(len(record.issues), "issue") + (f" ({told})" if told else "")


def _score_json(result: Score) -> dict[str, Any]:
    return {
        "recall": round(result.recall, 4),
        "precision": round(result.precision, 4),
        "planted": len(result.hits) + len(result.misses),
        "found": len(result.hits),
        "false_alarms": len(result.false_alarms),
        "right_fixes": result.right_fixes,
    }


def _score_text(result: Score) -> str:
    planted, found = len(result.hits) + len(result.misses), len(result.hits)
    return (
        f"recall {result.recall:.2f} ({found} of {planted} planted errors), precision {result.precision:.2f} "
        f"({count(len(result.false_alarms), 'false alarm')}), {result.right_fixes} of {found} suggestions exactly right"
    )
