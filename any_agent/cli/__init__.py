"""The command line `any-agent`. Its commands import what they need when they run; `--help` loads no model code."""


def main() -> None:
    """Entry point of `any-agent` and `python -m any_agent`; ends the process with the exit code."""
    try:
        from .app import app

        app()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
