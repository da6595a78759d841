"""The memory actor: watches how much this process takes, and says when it is too much."""

import logging
from collections.abc import Callable

import trio

logger = logging.getLogger(__name__)

PAUSE = 0.8
"""From this part of its limit on, a node starts nothing new; a stock worker does so too."""

RESUME = 0.75
"""Below this part it goes on: a little less, so that it does not waver."""

INTERVAL_S = 0.2


async def watch_memory(
    limit_nbytes: int, resident_nbytes: Callable[[], int], pause: Callable[[bool], None]
) -> None:
    """Look, and look again, until cancelled.

    Args:
        limit_nbytes: What the process may take.
        resident_nbytes: What it takes.
        pause: Told True when there is too much of it, and False when there no longer is.
    """
    paused = False
    while True:
        nbytes = resident_nbytes()
        if nbytes >= (RESUME if paused else PAUSE) * limit_nbytes:
            if not paused:
                logger.warning(
                    "paused: the process takes %s of %s MB", nbytes >> 20, limit_nbytes >> 20
                )
                pause(True)
            paused = True
        elif paused:
            logger.warning("unpaused: %s of %s MB", nbytes >> 20, limit_nbytes >> 20)
            pause(False)
            paused = False
        await trio.sleep(INTERVAL_S)
