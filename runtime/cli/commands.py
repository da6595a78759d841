"""All commands: importing a family of them adds them to their group."""

from trouper.runtime.cli import explaining, failures, node, reading, stepping, timeline
from trouper.runtime.cli.group import trouper

__all__ = ["explaining", "failures", "node", "reading", "stepping", "timeline", "trouper"]
