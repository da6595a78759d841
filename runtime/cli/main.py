"""The `trouper` command.

The commands stand beside this module, each family in one of its own; they only print what others
find out. They need click and rich, which a worker does not: hence this way in.
"""

import sys
from importlib.util import find_spec

NEEDED = ("click", "rich")


def main() -> None:
    """Run the command; ends the process."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"trouper: the command line needs {' and '.join(missing)}, and they are not installed; "
            "pip install 'trouper[cli]' brings them",
            file=sys.stderr,
        )
        sys.exit(2)
    from trouper.runtime.cli.commands import trouper

    trouper(prog_name="trouper")


if __name__ == "__main__":
    main()
