"""The options that every command takes, before or after its name."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any

import typer

_PANEL = "Model and output (also before the command)"


@dataclass(frozen=True, slots=True)
class Common:
    """What the common options said; None and False: nothing."""

    model: tuple[str, ...] | None = None
    provider: str | None = None
    base_url: str | None = None
    api_key: str | None = None
    config: str | None = None
    debug: bool = False
    quiet: bool = False
    json: bool = False
    no_color: bool = False

    def over(self, weaker: Common) -> Common:
        """These, and what only the weaker ones say."""
        said = {f.name: value for f in fields(self) if (value := getattr(self, f.name))}
        return replace(weaker, **said)

    def address(self) -> dict[str, str]:
        """What was given of the model's address, as arguments of Agent and `config.resolve`."""
        given = {
            "model": self.model[0] if self.model else None,
            "provider": self.provider,
            "base_url": self.base_url,
            "api_key": self.api_key,
        }
        return {name: value for name, value in given.items() if value}

    @property
    def fallback_models(self) -> list[str]:
        """The second and further --model."""
        return list(self.model[1:]) if self.model else []

    def apply(self) -> None:
        """Hand on to this process what its environment carries."""
        if self.config:
            os.environ["ANY_AGENT_CONFIG_PATH"] = self.config
        if self.no_color:
            os.environ["NO_COLOR"] = "1"
        if self.json:
            from .terminal import speak_json

            speak_json()
        import logging

        log = logging.getLogger("any_agent")
        if self.debug:
            logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
            log.setLevel(logging.DEBUG)
        elif not log.handlers:  # what it would say is shown by the command itself
            log.addHandler(logging.NullHandler())


CHANGED_VARIABLES = ("ANY_AGENT_CONFIG_PATH", "NO_COLOR")


def _option(annotation: Any, *names: str, shown: str, metavar: str | None = None) -> Any:
    return Annotated[annotation, typer.Option(*names, help=shown, metavar=metavar, rich_help_panel=_PANEL)]


OPTIONS: dict[str, tuple[Any, Any]] = {
    "model": (
        _option(
            list[str] | None,
            "--model",
            "-m",
            shown="Model, e.g. ollama/qwen3. Given again: the next one to try when the first fails.",
            metavar="NAME",
        ),
        None,
    ),
    "provider": (
        _option(
            str | None,
            "--provider",
            shown="lm_studio, ollama, llamacpp, vllm, or a provider LiteLLM knows.",
            metavar="NAME",
        ),
        None,
    ),
    "base_url": (
        _option(str | None, "--base-url", shown="Address of an OpenAI-compatible server.", metavar="URL"),
        None,
    ),
    "api_key": (
        _option(
            str | None,
            "--api-key",
            shown="Key for it. Better the provider's environment variable: others can see arguments.",
            metavar="KEY",
        ),
        None,
    ),
    "config": (
        _option(str | None, "--config", shown="Settings file instead of .agent/config.yml.", metavar="FILE"),
        None,
    ),
    "json": (_option(bool, "--json", shown="Machine-readable output on standard output."), False),
    "quiet": (_option(bool, "--quiet", "-q", shown="Nothing on standard error but errors."), False),
    "debug": (_option(bool, "--debug", shown="Show log and tracebacks."), False),
    "no_color": (_option(bool, "--no-color", shown="No colours."), False),
}


def takes_common(function: Callable[..., Any]) -> Callable[..., None]:
    """A typer command from a function whose first parameter is the `Common`; it gains the common options."""
    # not get_type_hints: Python 3.10 wraps an annotation in Optional when the default is None
    _, *own = inspect.signature(function, eval_str=True).parameters.values()

    def command(ctx: typer.Context, **given: Any) -> None:
        said = {name: given.pop(name) for name in OPTIONS}
        said["model"] = tuple(said["model"]) if said["model"] else None
        root = ctx.find_root()
        common = Common(**said).over(root.obj or Common())
        root.obj = common
        common.apply()
        function(common, **given)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *(one.replace(kind=keyword) for one in own),
        *(
            inspect.Parameter(name, keyword, annotation=annotation, default=default)
            for name, (annotation, default) in OPTIONS.items()
        ),
    ]
    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command
