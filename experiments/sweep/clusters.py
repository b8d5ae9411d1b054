"""Where jobs run: on this machine, in Slurm's queue, or in this very process."""

import abc
import contextlib
import dataclasses
import fcntl
import itertools
import json
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import submitit
from submitit.core.utils import FailedJobError

from experiments.sweep.jobs import Job
from unified_diffusion.errors import UserError
from unified_diffusion.files import write_json

# Slurm's states of a job that will not run again; in any other state it goes on, or is put back into the queue.
_OVER = {
    *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "DEADLINE", "OUT_OF_MEMORY"),
    *("BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED"),
}
_SECONDS_BETWEEN_QUESTIONS = 5  # all of a cluster's users ask the same controller
_A_YEAR = 365 * 24 * 60  # minutes, since a job on this machine has no time limit


class Refused(UserError):
    """A cluster does not take a job, at least not now."""


class Cluster(abc.ABC):
    """A place where the jobs of a sweep run.

    Attributes:
        directory: the sweep's folder.
        capacity: the number of jobs at a time.
    """

    def __init__(self, directory, capacity):
        self.directory, self.capacity = directory, capacity

    @contextlib.contextmanager
    def open(self):
        """A context around all other calls."""
        yield

    def adopt(self, runs):
        """{name: ticket} of runs whose jobs an earlier sweep left here."""
        del runs
        return {}

    @abc.abstractmethod
    def submit(self, run):
        """Starts the job of a run, or puts it into the queue; returns its ticket.

        Raises:
            Refused: the cluster does not take it now.
        """

    @abc.abstractmethod
    def alive(self, tickets):
        """{name: whether its job has not ended}, as far as is known."""

    def stop(self):
        """Asks the jobs that end with the sweep to save and stop."""
        return

    def left_behind(self, tickets):
        """A sentence on the jobs that go on when the sweep stops, or None."""
        del tickets


class Local(Cluster):
    """Processes on this machine, each with its share of the cores, or with GPUs of its own.

    They stop when the sweep does, however it ends: each waits for a lock that the sweep holds.

    Raises:
        UserError: there are fewer GPUs than the jobs are to have.
    """

    def __init__(self, directory, environment, jobs, gpus):
        super().__init__(directory, jobs)
        self.environment = environment
        self._shares = _shares_of_gpus(visible_gpus(), jobs, gpus)
        cores = usable_cores()
        size = max(len(cores) // jobs, 1)
        self._cores = [cores[start % len(cores) :][:size] for start in range(0, jobs * size, size)]
        self._running = {}
        self._alive = None

    @contextlib.contextmanager
    def open(self):
        """A context around all other calls; the jobs end with it."""
        for old in self.directory.glob(".alive.*"):
            old.unlink()
        path = self.directory / f".alive.{uuid.uuid4().hex}"
        with path.open("w") as self._alive:
            fcntl.lockf(self._alive, fcntl.LOCK_EX)
            yield
        path.unlink(missing_ok=True)

    def submit(self, run):
        slot = next(n for n in range(self.capacity) if n not in self._running.values())
        alive = Path(self._alive.name)
        job = Job(run, self.directory / "runs", {**self.environment, **self._shares[slot]}, alive)
        with _inherited(self._cores[slot]):
            self._running[run.name] = slot
            started = _executor(self.directory, run, "local", timeout_min=_A_YEAR).submit(job)
        return _Ticket(started.job_id, started.paths.stdout, "starting", started)

    def alive(self, tickets):
        state = {name: not ticket.job.done() for name, ticket in tickets.items()}
        self._running = {name: slot for name, slot in self._running.items() if state.get(name)}
        return state

    def stop(self):
        self._alive.close()


class Slurm(Cluster):
    """Slurm's queue. Jobs go on without the sweep, which finds them again by their ids in queue.json.

    A sweep that was killed before it could write an id down finds the job by its comment, the run's folder.
    """

    def __init__(self, directory, environment, jobs, parameters, requeue=True):
        super().__init__(directory, jobs)
        self.environment = environment
        again = {"requeue": True} if requeue else {"no-requeue": True}
        self._parameters, self._requeue = {**parameters, "slurm_additional_parameters": again}, requeue
        self._ids, self._next_look = {}, 0.0

    @contextlib.contextmanager
    def open(self):
        path = self.directory / "queue.json"
        self._ids = json.loads(path.read_text()) if path.exists() else {}
        yield

    def adopt(self, runs):
        queued = self._patient_queue()
        by_comment = {job.comment: number for number, job in queued.items()}
        tickets = {}
        for run in runs:
            number = self._ids.get(run.name)
            number = number if number in queued else by_comment.get(self._comment(run))
            if number is not None:
                log = self.directory / "jobs" / run.name / f"{number}_0_log.out"
                tickets[run.name] = _Ticket(number, log, "queued")
        self._write_ids({name: ticket.job_id for name, ticket in tickets.items()})
        return tickets

    def submit(self, run):
        job = Job(run, self.directory / "runs", self.environment, requeue=self._requeue)
        executor = _executor(self.directory, run, "slurm", slurm_max_num_timeout=1000)
        executor.update_parameters(name=run.name[:60], slurm_comment=self._comment(run), **self._parameters)
        try:
            started = executor.submit(job)
        except FailedJobError as error:
            raise Refused(f"Slurm does not take the job: {_last_line(str(error))}") from None
        self._write_ids({run.name: started.job_id})
        return _Ticket(started.job_id, started.paths.stdout, "queued")

    def alive(self, tickets):
        """{name: whether its job has not ended}, by Slurm's answer of the last few seconds.

        A queue that does not answer is taken for one that is busy.
        """
        if time.monotonic() < self._next_look:
            return dict.fromkeys(tickets, True)
        self._next_look = time.monotonic() + _SECONDS_BETWEEN_QUESTIONS
        queued, _ = _squeue()
        if queued is None:
            return dict.fromkeys(tickets, True)
        for ticket in tickets.values():
            if ticket.job_id in queued:
                ticket.before = queued[ticket.job_id].before
        return {name: ticket.job_id in queued for name, ticket in tickets.items()}

    def left_behind(self, tickets):
        ids = " ".join(ticket.job_id for ticket in tickets.values())
        return ids and f"jobs go on in the queue ({ids}; scancel ends them); the same command picks them up again"

    def _comment(self, run):
        """The job's comment in the queue, by which a later sweep knows it."""
        return str((self.directory / "runs" / run.name).resolve())

    def _write_ids(self, ids):
        if ids:
            self._ids |= ids
            write_json(self.directory / "queue.json", self._ids)

    def _patient_queue(self, tries=5):
        """Asks _squeue until there is an answer: a job that is in the queue must not be started twice."""
        for _ in range(tries):
            queued, complaint = _squeue()
            if queued is not None:
                return queued
            time.sleep(_SECONDS_BETWEEN_QUESTIONS)
        raise UserError(f"Slurm's queue cannot be read: {complaint}")


class Debug(Cluster):
    """This process, one run after the other, with the debugger where one fails."""

    def __init__(self, directory):
        super().__init__(directory, capacity=1)

    def submit(self, run):
        """Does the whole run before it returns."""
        job = _executor(self.directory, run, "debug").submit(Job(run, self.directory / "runs", {}, own_process=False))
        with contextlib.suppress(Exception):
            if job.result() == "interrupted":  # what stopped the run is meant for the sweep, too
                signal.raise_signal(signal.SIGINT)
        return _Ticket(job.job_id, job.paths.stdout, "starting")

    def alive(self, tickets):
        return dict.fromkeys(tickets, False)


@dataclasses.dataclass(frozen=True)
class _Queued:
    """A job in the queue: the word for it until it begins, and its comment."""

    before: str
    comment: str


def _squeue():
    """({job id: _Queued}, None) of this user's jobs that have not ended; (None, why not) without an answer.

    The queue is asked and not the accounting, which not every cluster keeps.
    """
    command = ["squeue", "--me", "--noheader", "--states=all", "--format=%A|%T|%r|%k"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return None, _last_line(done.stderr)
    rows = [line.split("|", 3) for line in done.stdout.splitlines()]
    queued = {
        number: _Queued(f"queued ({reason})" if state == "PENDING" and reason != "None" else "queued", comment)
        for number, state, reason, comment in rows
        if state not in _OVER
    }
    return queued, None


def _last_line(text):
    return (text.strip().splitlines() or ["it says nothing"])[-1]


def visible_gpus():
    """The names that CUDA has for the GPUs that can be used here; none where there is no driver."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        names = (name.strip() for name in named.split(","))
        return [name for name in itertools.takewhile(lambda name: name != "-1", names) if name]  # as CUDA reads it
    try:
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True)
    except FileNotFoundError:
        return []
    return [str(number) for number in range(len(done.stdout.splitlines()))] if not done.returncode else []


def _shares_of_gpus(devices, jobs, gpus):
    """The environment of each job: GPUs of its own or, where there are more jobs than GPUs, a part of one's memory.

    Raises:
        UserError: there are not enough for a job.
    """
    if not gpus:
        return [{} for _ in range(jobs)]
    if len(devices) < gpus:
        raise UserError(f"--gpus={gpus}, and there are {len(devices)} on this machine")
    groups = [devices[first : first + gpus] for first in range(0, len(devices) - gpus + 1, gpus)]
    on_each = -(-jobs // len(groups))
    memory = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 / on_each:.3f}"} if on_each > 1 else {}
    return [{"CUDA_VISIBLE_DEVICES": ",".join(groups[job % len(groups)]), **memory} for job in range(jobs)]


def usable_cores():
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count()))


@dataclasses.dataclass
class _Ticket:
    """A job's id, its log, the word for it until it begins, and submitit's own object where it is needed."""

    job_id: str
    log: Path
    before: str
    job: object = None


def _executor(directory, run, cluster, **options):
    """submitit's executor for one run, on the cluster called so; its files are in a folder of the run's own."""
    timeout = {name: options.pop(name) for name in list(options) if name == "timeout_min"}
    executor = submitit.AutoExecutor(directory / "jobs" / run.name, cluster=cluster, **options)
    executor.update_parameters(stderr_to_stdout=True, **timeout)
    return executor


@contextlib.contextmanager
def _inherited(cores):
    """A context in which a started process inherits these cores, and ignores Ctrl-C."""
    before = usable_cores()
    ctrl_c = signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, before)
        signal.signal(signal.SIGINT, ctrl_c)
