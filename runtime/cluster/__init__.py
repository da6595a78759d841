"""A node of a cluster: a first-class worker of a real Dask scheduler. Needs ``trouper[dask]``."""

from trouper.runtime.cluster.node import Ending, ExitCode, Node
from trouper.runtime.cluster.opening import open_node

__all__ = ["Ending", "ExitCode", "Node", "open_node"]
