"""All commands: importing a family of them adds them to their group."""

from trouper.runtime import cli_explaining, cli_failures, cli_reading, cli_stepping
from trouper.runtime.cli_group import trouper

__all__ = ["cli_explaining", "cli_failures", "cli_reading", "cli_stepping", "trouper"]
