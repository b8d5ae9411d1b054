"""The loop of a sweep: it starts runs and looks after them until all are done or it is told to stop."""

import dataclasses
import time

from experiments.sweep import record as records
from experiments.sweep.clusters import Refused
from experiments.sweep.jobs import PlannedRun
from unified_diffusion.errors import UserError
from unified_diffusion.runs.folder import locked
from unified_diffusion.training.interrupt import Interrupt

ATTEMPTS = 2
_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_AFTER_A_REFUSAL = 60


@dataclasses.dataclass
class Task:
    """A run, and how it stands: "waiting", "running", "finished", "failed" or "interrupted"."""

    run: PlannedRun
    state: str = "waiting"
    attempts: int = 0
    ticket: object = None
    error: str | None = None


class Schedule:
    """Brings all runs of a plan to their end on a cluster.

    A run that fails is tried once more. A run that shares a training waits for it.

    Args:
        runs: the runs of the plan.
        directory: the sweep's folder.
        cluster: a `clusters.Cluster`.
        publish: called without arguments after every change of state.
        display: the `terminal.Display` that shows the tasks at every look.
    """

    def __init__(self, runs, directory, cluster, publish, display):
        self._directory, self._cluster = directory / "runs", cluster
        self._publish, self._display = publish, display
        self.tasks = {run.name: Task(run) for run in runs}
        self._not_before, self._refused = 0.0, None

    def run(self):
        """Runs the loop; returns the signal that stopped it, or None when nothing is left to do."""
        with self._cluster.open(), Interrupt() as interrupt:
            self._begin()
            while not self._over() and not interrupt.requested:
                ended = self._look(interrupt)
                started = not interrupt.requested and self._start()
                if ended or started:
                    self._publish()
                self._display.show(self.tasks.values(), self._directory)
                if not self._over():
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
            stopped = interrupt.requested if not self._over() else None
            if stopped:
                self._wind_down(interrupt)
        return stopped

    def left_behind(self):
        """A sentence on the jobs that go on without the sweep, or None."""
        return self._cluster.left_behind({name: task.ticket for name, task in self._running().items()})

    def _begin(self):
        """Finds out how each run stands."""
        adopted = self._cluster.adopt([task.run for task in self.tasks.values()])
        for name, task in self.tasks.items():
            folder = self._directory / name
            if records.is_finished(folder, task.run.config):
                task.state = "finished"
            elif name in adopted:
                task.state, task.ticket, task.attempts = "running", adopted[name], 1
            else:
                _write_waiting(folder, task.run)
        self._publish()

    def _look(self, interrupt):
        """Closes the tasks whose jobs have ended since the last look; returns whether there are any."""
        running = self._running()
        alive = self._cluster.alive({name: task.ticket for name, task in running.items()}) if running else {}
        ended = [task for name, task in running.items() if not alive[name]]
        for task in ended:
            self._close(task, interrupt.requested)
        return bool(ended)

    def _close(self, task, stopping):
        """Sets a task's state by what its job has left behind."""
        folder = self._directory / task.run.name
        record = records.read_record(folder) or records.new_record(task.run)
        if records.is_finished(folder, task.run.config):
            task.state, task.error = "finished", None
            return
        if stopping and record["state"] != "failed":
            task.state = "interrupted"
            return
        if record["state"] in ("running", "waiting", "finished"):
            # It had no time to say anything; or something took away what it had finished.
            gone = f"it has finished, and not all that it left is there: {', '.join(records.LEAVES)}, config.json"
            error = gone if record["state"] == "finished" else records.tail(task.ticket.log)
            record |= {"state": "failed", "error": error}
            record = records.with_lost_time(record, folder)
            records.write_record(folder, record)
        task.error = record["error"] or f"it was {record['state']}"
        task.state = "waiting" if task.attempts < ATTEMPTS else record["state"]
        if task.state == "waiting":
            _write_waiting(folder, task.run)

    def _start(self):
        """Starts as many runs as there is room for; returns whether any run has started or was found impossible.

        Raises:
            UserError: the cluster takes no job, and there is none of this sweep whose end could change that.
        """
        changed = False
        for task in self.tasks.values():
            if task.state != "waiting":
                continue
            ready = self._is_ready(task)
            if ready is None:
                task.state, task.error = "failed", f"its training, in {task.run.trained_in}, failed"
                failed = {**records.new_record(task.run), "state": "failed", "error": task.error}
                records.write_record(self._directory / task.run.name, failed)
                changed = True
            elif ready and len(self._running()) < self._cluster.capacity and time.monotonic() >= self._not_before:
                try:
                    task.ticket = self._cluster.submit(task.run)
                except Refused as refusal:
                    self._put_off(refusal)
                    continue
                task.attempts += 1
                task.state = changed = "running"
        return bool(changed)

    def _put_off(self, refusal):
        """Leaves what waits for later, when the cluster does not take it now."""
        if not self._running():
            left = [name for name, task in self.tasks.items() if task.state == "waiting"]
            more = f" and {len(left) - 5} more" if len(left) > 5 else ""
            raise UserError(
                f"{refusal}. Not started: {', '.join(left[:5])}{more}; the same command goes on with them. "
                "If there is a limit to jobs in the queue, --jobs=N keeps no more than N there"
            )
        self._not_before = time.monotonic() + _SECONDS_AFTER_A_REFUSAL
        if str(refusal) != self._refused:
            self._refused = str(refusal)
            self._display.note(f"{refusal}; tried again while other runs are going on")

    def _is_ready(self, task):
        """Whether a run can start; None if it never will."""
        if task.run.trained_in is None:
            return True
        trainer = self.tasks[task.run.trained_in]
        if trainer.state != "waiting" and records.is_trained(self._directory / trainer.run.name, trainer.run.config):
            return True
        return None if trainer.state in ("failed", "interrupted") else False

    def _wind_down(self, interrupt):
        """Has the cluster's jobs save and stop, and waits for those that do; another Ctrl-C does not wait."""
        self._cluster.stop()
        if self.left_behind() or not self._running():
            return
        self._display.note("waiting for the runs to save; Ctrl-C again does not wait")
        while self._running():
            if self._look(interrupt):
                self._publish()
            self._display.show(self.tasks.values(), self._directory)
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    def _running(self):
        return {name: task for name, task in self.tasks.items() if task.state == "running"}

    def _over(self):
        return all(task.state not in ("waiting", "running") for task in self.tasks.values())


def _write_waiting(folder, run):
    """Says in run.json that the run waits, unless the job of a sweep that was killed is still in there."""
    old = records.read_record(folder)
    try:
        with locked(folder):
            kept = {} if old is None else records.with_lost_time(old, folder)
            fresh = records.new_record(run)
            names = ["attempts", "seconds", "out_of_time", "device", "versions"]
            if kept.get("trained_in") == run.trained_in:  # else it is another folder's training that was there
                names.append("trained")
            records.write_record(folder, {**fresh, **{name: kept[name] for name in names if name in kept}})
    except UserError:
        return
