"""The command line: arguments in, calls out. Torch is imported only by the commands that train."""

from laconic.cli.main import main

__all__ = ["main"]
