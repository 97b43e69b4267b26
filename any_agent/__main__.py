"""`python -m any_agent` is `any-agent`."""

from .cli import main

if __name__ == "__main__":
    main()
