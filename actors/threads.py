"""The threads that run plain functions: fed by one queue, drained in batches.

A job goes in through a `SimpleQueue` and comes back through a deque; a thread that finishes a job
wakes the event loop only if nobody has since the last time it looked. So a thousand jobs in flight
cost a few wake-ups, where a hop into a thread and back for each would cost two apiece.

The threads belong to the supervisor, not to the actor that feeds them: a function that runs
cannot be stopped, so it outlives a crash of the actor and keeps its slot.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue

import trio

from trouper.actors.job import Job, Outcome, terminal_stimulus
from trouper.actors.store import Store
from trouper.wire.stimuli import ExecuteSuccess, Secede


class ThreadPool:
    """A fixed number of threads, and one more for each job that has given its slot back.

    Args:
        size: How many jobs may run at once.
        name: Of the worker; the threads' names begin with it.
        store: Where values and exceptions are put before anybody is told.
        deliver: Called in the event loop with the terminal stimuli of the jobs that have ended, and
            with `Secede` for those that give their slot back, in the order in which it happened.
        token: Of the event loop.
    """

    def __init__(
        self,
        size: int,
        name: str,
        store: Store,
        deliver: Callable[[list[Outcome | Secede]], None],
        token: trio.lowlevel.TrioToken,
    ) -> None:
        self._name = name
        self._store = store
        self._deliver = deliver
        self._token = token
        self._inbox: SimpleQueue[Job | None] = SimpleQueue()
        self._outbox: deque[Job | Secede] = deque()
        self._awake = False
        """Somebody has asked the loop to drain since it last began to."""
        self.owed: dict[int, Job] = {}
        """The jobs that have not come back, by attempt."""
        self._threads: set[threading.Thread] = set()
        self._started = 0
        try:
            for _ in range(size):
                self._start_thread()
        except RuntimeError:  # there can be no more threads
            self.close()
            raise

    def submit(self, job: Job) -> None:
        """Run a job in the next thread that is free."""
        self.owed[job.attempt] = job
        self._inbox.put(job)

    def secede(self, job: Job) -> None:
        """Give the slot of a job back and go on without. Called in the thread that runs it."""
        if not job.seceded:
            self._start_thread()  # in place of this one, which ends with the job
            job.seceded = True
            self._post(Secede(job.key, job.attempt))

    def close(self) -> None:
        """End the threads; once more for those that were busy.

        Those that run a job end after it, and nobody waits for them.
        """
        busy = bool(self.owed)
        for _ in list(self._threads):  # which shrinks meanwhile
            self._inbox.put(None)
        if not busy:
            for thread in list(self._threads):
                thread.join()  # it is idle and about to end: this takes microseconds

    def _start_thread(self) -> None:
        self._started += 1
        # Daemons: whoever leaves without waiting for a function that hangs shall be able to.
        thread = threading.Thread(
            target=self._work, name=f"{self._name}-thread-{self._started}", daemon=True
        )
        thread.start()
        self._threads.add(thread)

    def _work(self) -> None:
        inbox, outbox = self._inbox, self._outbox
        while (job := inbox.get()) is not None:
            job.run()
            seceded = job.seceded
            outbox.append(job)  # `_post`, in plain
            if not self._awake:
                self._wake()
            del job  # an idle thread keeps nothing alive
            if seceded:
                break
        self._threads.discard(threading.current_thread())

    def _post(self, item: Job | Secede) -> None:
        # Order matters: `_drain` lowers the flag before it empties the deque, so that an item
        # added while the flag is up is always seen.
        self._outbox.append(item)
        if not self._awake:
            self._wake()

    def _wake(self) -> None:
        self._awake = True
        with suppress(trio.RunFinishedError):  # left without waiting for jobs: nobody wants them
            self._token.run_sync_soon(self._drain)

    def _drain(self) -> None:
        self._awake = False
        outbox, owed, values = self._outbox, self.owed, self._store.values
        batch: list[Outcome | Secede] = []
        while outbox:
            item = outbox.popleft()
            if isinstance(item, Secede):
                batch.append(item)
                continue
            attempt, outcome = item.attempt, item.outcome
            del owed[attempt]
            if type(outcome) is ExecuteSuccess:  # `terminal_stimulus`, in plain
                values[item.key, attempt] = item.value
                item.value = None
                batch.append(outcome)
            else:
                batch.append(terminal_stimulus(item, self._store))
        if batch:
            self._deliver(batch)
