"""One run of a sweep as a job of submitit's: in a process of its own, on this machine or in a queue."""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import logging
import os
import platform
import re
import signal
import statistics
import threading
import time
import traceback
from pathlib import Path

from submitit.helpers import Checkpointable

# Seconds that a job waits for its folder: a job of a sweep that was killed may still be saving in there.
PATIENCE = 900
# The notice that JAX appends to an exception whose traceback it has shortened.
_JAX_NOTICE = re.compile(r"^-+\nFor simplicity, JAX has removed.*\n", re.MULTILINE)
_SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


@dataclasses.dataclass(frozen=True)
class PlannedRun:
    """A run of a plan.

    Attributes:
        name: the name of its folder.
        overrides: {field: value} that the run sets.
        config: its resolved config.
        source: the sources of that config: file, settings and overrides.
        trained_in: the name of the run whose training it shares; None if it trains by itself.
    """

    name: str
    overrides: dict
    config: dict
    source: dict
    trained_in: str | None = None


class Stopped(KeyboardInterrupt):
    """A signal asked the job to stop, outside of the training loop, which sees to that itself."""

    def __init__(self, number):
        super().__init__(signal.Signals(number).name)
        self.number = number


@dataclasses.dataclass(frozen=True)
class Job(Checkpointable):
    """Trains, samples and evaluates one run, from where an earlier attempt stopped, and says in run.json how it went.

    SIGTERM saves and ends the job; SIGUSR2 saves and puts it back into the queue, where submitit starts it again.
    Sampling and evaluation are not saved on the way and begin again, so the job fails when its time is up for a second
    time in one of them.

    Args:
        run: the `PlannedRun`.
        folder: the folder with the folders of the sweep's runs.
        environment: variables of the process, set before JAX starts.
        alive: a file that the sweep holds a lock on for as long as the job is to go on; None for a job that does not
            need its sweep.
        own_process: whether the process is the job's alone, not that of the sweep itself.
        requeue: whether SIGUSR2 puts it back into the queue; otherwise it only ends it.
    """

    run: PlannedRun
    folder: Path
    environment: dict
    alive: Path | None = None
    own_process: bool = True
    requeue: bool = True

    def __call__(self):
        """Returns the state that the run is left in, "finished" or "interrupted"."""
        submitits = signal.getsignal(signal.SIGUSR2)
        number = None
        with _signals(Stopped):
            try:
                self._settle_in()
                number = self._attempt(submitits)
            except Stopped as stop:
                number = stop.number
            except KeyboardInterrupt:
                number = signal.SIGINT
        if number == signal.SIGUSR2 and self.requeue and callable(submitits):
            submitits(signal.SIGUSR2, None)
        return "interrupted" if number else "finished"

    def _settle_in(self):
        """Makes the process the job's own: out of reach of the terminal's Ctrl-C, and ending with its sweep."""
        if not self.own_process:
            return
        logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
        logging.getLogger("absl").setLevel(logging.ERROR)
        logging.getLogger("submitit").propagate = False  # it prints by itself
        os.environ.update(self.environment)
        if self.alive is not None:
            with contextlib.suppress(PermissionError):  # it leads a session already
                os.setsid()
            threading.Thread(target=_stop_with, args=(self.alive,), daemon=True).start()

    def _attempt(self, submitits):
        """Does the run and writes its end into run.json; returns the signal that stopped it, or None."""
        # Here, since JAX reads the environment when it is imported.
        from experiments.sweep import record
        from unified_diffusion.runs import commands
        from unified_diffusion.runs.folder import locked

        folder = self.folder / self.run.name
        with locked(folder, PATIENCE):
            if record.is_finished(folder, self.run.config):
                return None
            attempt = Attempt(folder, self.run)
            trained_in = self.run.trained_in and self.folder / self.run.trained_in
            try:
                attempt.begin()
                code = commands.train(self.run.config, self.run.source, folder, trained_in, attempt.phase)
            except KeyboardInterrupt as stop:
                number = getattr(stop, "number", signal.SIGINT)
                if number == signal.SIGUSR2 and _is_time_up(submitits):
                    attempt.run_out()
                attempt.end("interrupted")
                print("stopped; the same sweep goes on from here", flush=True)
                return number
            except Exception as error:
                attempt.end("failed", _last_words(error))
                raise
            attempt.end("interrupted" if code else "finished")
            return signal.Signals(code - 128) if code else None


class Attempt:
    """Keeps a run's run.json up to date while a job works on the run."""

    def __init__(self, folder, run):
        from experiments.sweep import record

        self._folder, self._files = folder, record
        old = record.read_record(folder)
        fresh = record.new_record(run)
        kept = {} if old is None else record.with_lost_time(old, folder)
        names = ("attempts", "seconds", "out_of_time")
        self._record = {**fresh, **{name: kept[name] for name in names if name in kept}}
        self._phase = None

    def begin(self):
        """Writes down that the attempt starts, and on which device."""
        import jax

        self._record["attempts"] += 1
        self._record["device"] = f"{jax.device_count()} x {jax.devices()[0].device_kind}"
        self._record["versions"] = {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("jax", "flax", "optax", "numpy")},
        }
        self._write(state="running")

    @contextlib.contextmanager
    def phase(self, name):
        """A context around one of `record.PHASES`, whose seconds are counted."""
        start, self._phase = time.time(), name
        self._write(phase=name, phase_started=start, trained=name != "training")
        try:
            yield
        finally:
            self._record["seconds"][name] += time.time() - start
            self._write(phase=None, phase_started=None)

    def run_out(self):
        """Writes down that the job's time was up.

        Raises:
            UserError: the time was up in the same phase before, so that the run would never end.
        """
        from unified_diffusion.errors import UserError

        if self._phase in ("sampling", "evaluation") and self._phase == self._record["out_of_time"]:
            message = (
                f"the job's time was up during the {self._phase} twice, and what comes after training begins again "
                "whenever the job does: give --time more minutes than sampling and evaluation take together"
            )
            self.end("failed", f"error: {message}")
            raise UserError(message) from None
        self._write(out_of_time=self._phase)

    def end(self, state, error=None):
        """Writes down that the attempt is over."""
        if state == "finished":
            self._record["out_of_time"] = None
        self._write(state=state, error=error, images_per_second=_median_speed(self._folder / "metrics.jsonl"))

    def _write(self, **changes):
        self._record |= changes
        self._files.write_record(self._folder, self._record)


@contextlib.contextmanager
def _signals(error):
    """A context in which the signals raise `error`, unless code inside it handles them itself."""

    def handle(number, frame):
        del frame
        raise error(number)

    previous = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _is_time_up(submitits):
    """Whether SIGUSR2 means the end of the job's time and not a preemption, by submitit's own handler of it."""
    handler = getattr(submitits, "__self__", None)
    return hasattr(handler, "has_timed_out") and handler.has_timed_out()


def _stop_with(alive):
    """Waits until nobody holds the file any more, and asks this process to stop."""
    with contextlib.suppress(FileNotFoundError), alive.open() as file:
        fcntl.lockf(file, fcntl.LOCK_SH)
    os.kill(os.getpid(), signal.SIGTERM)


def _last_words(error):
    """A mistake's sentence, or the end of a traceback."""
    from unified_diffusion.errors import UserError

    if isinstance(error, UserError):
        return f"error: {error}"
    text = _JAX_NOTICE.sub("", "".join(traceback.format_exception(error)))
    return "\n".join(text.strip().splitlines()[-12:])


def _median_speed(path):
    """The median of metrics.jsonl's images per second; None where there is no such file."""
    if not path.exists():
        return None
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return statistics.median(line["images_per_second"] for line in lines) if lines else None
