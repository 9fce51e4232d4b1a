"""The `diskless` command."""

from diskless.cli.main import main

__all__ = ["main"]
