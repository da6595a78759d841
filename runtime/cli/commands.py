"""All commands: importing a family of them adds them to their group."""

from trouper.runtime.cli import explaining, failures, reading, stepping, timeline
from trouper.runtime.cli.group import trouper

__all__ = ["explaining", "failures", "reading", "stepping", "timeline", "trouper"]
