"""Signals as requests to stop soon: Ctrl-C, SIGTERM, and SIGUSR2, which Slurm sends before the time of a job is up."""

import signal


class Interrupted(Exception):
    """Work between steps was given up because the run is to stop."""


class Interrupt:
    """A context in which the first signal only sets `requested`; a second signal acts as it does outside.

    with Interrupt() as interrupt:
        while not interrupt.requested:
            ...
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)

    def __init__(self):
        self.requested = None
        self._previous = {}

    def __enter__(self):
        self._previous = {number: signal.signal(number, self._request) for number in self.SIGNALS}
        return self

    def __exit__(self, *error):
        self._restore()

    def check(self, *progress):
        """Raises Interrupted if a stop was requested: a progress function for long work between steps."""
        if self.requested:
            raise Interrupted

    def _request(self, number, frame):
        del frame
        self.requested = signal.Signals(number)
        self._restore()

    def _restore(self):
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
