"""``trouper node`` with limits of sessions that nobody but a test would want.

``python node_process.py LIMITS ARGUMENTS...``; LIMITS are fields of `Limits`, as a JSON object.
"""

import json
import sys
from functools import partial

from trouper.runtime.cli.main import main
from trouper.runtime.cluster import opening
from trouper.wire.limits import Limits

if __name__ == "__main__":
    limits = Limits(**json.loads(sys.argv.pop(1)))
    opening.open_node = partial(opening.open_node, limits=limits)
    sys.argv[0] = "trouper"
    main()
