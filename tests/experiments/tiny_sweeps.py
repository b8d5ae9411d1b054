"""Sweeps that take seconds, as processes that can be killed."""

import json
import os
import signal
import subprocess
import sys
import time

from tiny_runs import TINY, last_step

TINY_SWEEP = [*TINY]


class Sweep:
    """`python -m experiments.sweep` as a process that leads a group of its own, as in a terminal."""

    def __init__(self, arguments, log, **environment):
        self._log = log
        # A file, since jobs that outlive the sweep would hold a pipe open.
        with log.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "experiments.sweep", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    def wait(self, timeout=600):
        """(exit code, all output)."""
        code = self.process.wait(timeout)
        return code, self._log.read_text()

    def wait_for(self, condition, timeout=600):
        """Returns when `condition()` holds; fails when the process or the time ends before that."""
        end = time.monotonic() + timeout
        while not condition():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < end, self._log.read_text()
            time.sleep(0.05)

    def kill_at(self, folder, step, number=signal.SIGKILL, group=False):
        """Sends a signal, to the whole group if asked to, once a run's metrics.jsonl has reached a step."""
        self.wait_for(lambda: last_step(folder) >= step)
        (os.killpg if group else os.kill)(self.process.pid, number)
        return self.wait()


def run_json(folder):
    """A run's run.json."""
    return json.loads((folder / "run.json").read_text())
