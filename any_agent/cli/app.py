"""The typer app: which commands there are, and how their failures end."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from ..errors import AnyAgentError
from .approvals import allow, deny, list_approvals
from .common import CHANGED_VARIABLES, Common, takes_common
from .config_command import path, show
from .copy_edit import copy_edit, demo
from .doctor import doctor
from .kept import ListsByDefault
from .models import models
from .run import run
from .sessions import delete, export, list_sessions, search
from .sessions import show as show_session
from .stats import stats
from .terminal import prepare_streams, put, unwritten


class Commands(TyperGroup):
    """Ends every failure with a few lines and its exit code, with a traceback only under --debug."""

    def main(self, *args: Any, **more: Any) -> Any:
        prepare_streams()
        try:
            return super().main(*args, **more)
        except OSError as error:  # help and version, which are printed before any command begins
            from .problems import report

            raise SystemExit(report(unwritten(error), Common())) from error

    def invoke(self, ctx: Any) -> Any:
        before = {name: os.environ.get(name) for name in CHANGED_VARIABLES}
        try:
            try:
                return super().invoke(ctx)
            finally:
                put("")  # what is still on its way: a full disk must not be found out after the end
        except KeyboardInterrupt as interrupt:
            from .problems import report_interrupt

            report_interrupt(ctx.obj or Common())
            raise typer.Exit(130) from interrupt
        except AnyAgentError as error:
            from .problems import report

            raise typer.Exit(report(error, ctx.obj or Common())) from error
        except Exception as error:
            if _is_for_typer(error):
                _clean(error)
                raise
            from .problems import report

            raise typer.Exit(report(error, ctx.obj or Common())) from error
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


class Prompting(TyperCommand):
    """A command whose one argument is a text: several words want quotes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return list(super().parse_args(ctx, args))
        except Exception as error:
            message = getattr(error, "message", "")
            if "unexpected extra argument" in message:
                error.message = f"{message.rstrip('.')}. {_quoted(given)}"  # type: ignore[attr-defined]
            raise


def _quoted(given: list[str]) -> str:
    words = [word for word in given if not word.startswith("-")]
    return f'A prompt of several words wants quotes: any-agent run "{words[0]} …"' if words else ""


def _clean(error: Exception) -> None:
    """Usage errors without the words of the library that read the value."""
    message = getattr(error, "message", None)
    if isinstance(message, str):
        error.message = message.replace("Value error, ", "")  # type: ignore[attr-defined]


def _is_for_typer(error: Exception) -> bool:
    """Usage errors, exits and a reader that went away (`| head`)."""
    return isinstance(error, (typer.Exit, typer.Abort, BrokenPipeError)) or hasattr(error, "exit_code")


app = typer.Typer(
    name="any-agent",
    cls=Commands,
    help="Agents on any model, local first. Try `any-agent demo`: it needs no model and no key.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_config = typer.Typer(help="Where settings come from.", no_args_is_help=True, rich_markup_mode=None)
_config.command("show")(takes_common(show))
_config.command("path")(takes_common(path))
_sessions = typer.Typer(cls=ListsByDefault, help="Kept conversations; alone it lists them.", rich_markup_mode=None)
_sessions.command("list")(takes_common(list_sessions))
_sessions.command("show")(takes_common(show_session))
_sessions.command("export")(takes_common(export))
_sessions.command("delete")(takes_common(delete))
_sessions.command("search")(takes_common(search))
_approvals = typer.Typer(cls=ListsByDefault, help="Tool calls that wait; alone it lists them.", rich_markup_mode=None)
_approvals.command("list")(takes_common(list_approvals))
_approvals.command("allow")(takes_common(allow))
_approvals.command("deny")(takes_common(deny))


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import DISTRIBUTION, __version__

        typer.echo(f"any-agent {__version__} ({DISTRIBUTION})")
        raise typer.Exit()


def _any_agent(
    common: Common,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def version(common: Common) -> None:
    """Print the version."""
    from .. import DISTRIBUTION, __version__

    if common.json:
        from .terminal import say_json

        say_json({"version": __version__, "distribution": DISTRIBUTION})
    else:
        _print_version(True)


app.callback()(takes_common(_any_agent))
app.command("run", cls=Prompting)(takes_common(run))
app.command("copy-edit")(takes_common(copy_edit))
app.command("demo")(takes_common(demo))
app.command("models")(takes_common(models))
app.command("doctor")(takes_common(doctor))
app.command("stats")(takes_common(stats))
app.add_typer(_sessions, name="sessions")
app.add_typer(_approvals, name="approvals")
app.add_typer(_config, name="config")
app.command("version")(takes_common(version))
