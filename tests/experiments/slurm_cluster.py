"""A Slurm of one node, started by hand in a folder of its own, without systemd or cgroups, and gone afterwards."""

import contextlib
import dataclasses
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "setpriv")

# cred_expire is also how long a requeued job waits before it starts again, two minutes by default.
_CONFIG = """
ClusterName={name}
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={node_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire={requeue_delay}
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
JobRequeue=1
KillWait=5
MinJobAge=3600
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing():
    """Why no cluster can be started here, in words; None if one can."""
    absent = [name for name in _PROGRAMS if _program(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed: apt-get install --no-install-recommends slurm-wlm munge"
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return f"the user {os.geteuid()} has no name, and Slurm needs one"
    return None


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A running cluster. `environment` is what a process needs to talk to it."""

    folder: Path
    host: str
    environment: dict

    def __call__(self, *command, check=True):
        """What a command prints (sinfo, squeue, scontrol …)."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()}\n{self.logs()}")
        return done.stdout.strip()

    def jobs(self):
        """[{field: value}] of all jobs it remembers, as `scontrol show job` has them."""
        lines = self("scontrol", "--oneliner", "show", "job", check=False).splitlines()
        return [dict(pair.partition("=")[::2] for pair in line.split()) for line in lines if line.startswith("JobId=")]

    def fail_node(self):
        """Takes the node away as if it had crashed: its jobs are killed, and requeued where they may be.

        It is back once slurmd reports again (ReturnToService=2), which is at once.
        """
        self("scontrol", "update", f"nodename={self.host}", "state=down", "reason=test")

    def logs(self, lines=20):
        """The last lines of the daemons' logs."""
        tails = []
        for path in sorted(self.folder.glob("*.log")):
            tails += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-lines:]]
        return "\n".join(tails)


@contextlib.contextmanager
def slurm_cluster(requeue_delay=10):
    """A cluster of one node and two cores that ends with the context.

    Args:
        requeue_delay: seconds that a requeued job waits before it starts again.

    Raises:
        RuntimeError: the node was not idle within a minute; with the daemons' logs.
    """
    # Not pytest's folder: a socket's path may have no more than 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm_"))
    host = socket.gethostname().partition(".")[0]
    cluster = Cluster(folder, host, {**_clean_environment(), "SLURM_CONF": str(folder / "slurm.conf")})
    try:
        with contextlib.ExitStack() as daemons:
            _start(cluster, daemons, requeue_delay)
            daemons.callback(_cancel_all, cluster)
            yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(cluster, daemons, requeue_delay):
    folder = cluster.folder
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    controller_port, node_port = _free_ports(2)
    (folder / "slurm.conf").write_text(
        _CONFIG.format(
            name=folder.name.lower(),
            host=cluster.host,
            user=getpass.getuser(),
            folder=folder,
            controller_port=controller_port,
            node_port=node_port,
            requeue_delay=requeue_delay,
        )
    )
    files = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in ("key-file", "pid-file", "seed-file")]
    munged = ("munged", "--foreground", f"--socket={folder}/munge.socket", f"--log-file={folder}/munged.log", *files)
    _daemon(cluster, daemons, munged)
    _wait(cluster, lambda: (folder / "munge.socket").exists(), "munged has no socket")
    _daemon(cluster, daemons, ("slurmctld", "-D"))
    _daemon(cluster, daemons, ("slurmd", "-D", "-N", cluster.host))
    _wait(cluster, lambda: cluster("sinfo", "--noheader", "--format=%T", check=False) == "idle", "the node is not idle")


def _daemon(cluster, daemons, command):
    """Starts a daemon in the foreground, and sees that it ends with the context."""
    process = subprocess.Popen(
        # Should this process be killed, its daemons end too.
        ["setpriv", "--pdeathsig=TERM", "--", _program(command[0]), *command[1:]],
        env=cluster.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    daemons.callback(_stop, process)


def _stop(process, patience=10):
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _cancel_all(cluster, patience=20):
    """Cancels what still runs, and waits for it: a job's processes are not slurmd's, and would outlive it."""
    everything = ("scancel", f"--user={getpass.getuser()}")
    cluster(*everything, "--signal=KILL", "--full", check=False)
    cluster(*everything, check=False)
    end = time.monotonic() + patience
    while cluster("squeue", "--noheader", check=False) and time.monotonic() < end:
        time.sleep(0.5)


def _wait(cluster, reached, complaint, patience=60):
    end = time.monotonic() + patience
    while not reached():
        if time.monotonic() > end:
            raise RuntimeError(f"{complaint} after {patience} s\n{cluster.logs()}")
        time.sleep(0.2)


def _program(name):
    """A program's path; daemons live in /usr/sbin, which is not always on the path."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def _clean_environment():
    """The environment without another cluster's variables."""
    foreign = ("SLURM_", "SBATCH_", "SUBMITIT_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def _free_ports(count):
    """Ports that nobody listens on now."""
    with contextlib.ExitStack() as sockets:
        bound = [sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in bound:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in bound]
