"""All commands: importing them adds them to their groups."""

from trouper.runtime.cli_group import trouper

__all__ = ["trouper"]
