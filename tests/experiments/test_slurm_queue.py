"""What is read from Slurm's queue, with a `squeue` that answers as it is told."""

import dataclasses
import json

import pytest

from experiments.sweep import clusters
from experiments.sweep.__main__ import main
from experiments.sweep.jobs import PlannedRun
from unified_diffusion.errors import UserError


@dataclasses.dataclass
class Ticket:
    job_id: str
    before: str = "queued"


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Sets what squeue prints, or with what it fails."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    monkeypatch.setattr(clusters, "_SECONDS_BETWEEN_QUESTIONS", 0)

    def answer(printed="", complaint=None):
        (folder / "printed").write_text(printed)
        last = f"echo first; echo '{complaint}' >&2; exit 1" if complaint else f"cat {folder / 'printed'}"
        (folder / "squeue").write_text(f"#!/bin/sh\necho $@ >> {folder / 'asked'}\n{last}\n")
        (folder / "squeue").chmod(0o755)
        return folder / "asked"

    return answer


@pytest.fixture
def slurm(tmp_path):
    """A sweep that left jobs 1 and 2 in the queue."""
    (tmp_path / "queue.json").write_text(json.dumps({"a": "1", "b": "2", "of another sweep": "3"}))
    cluster = clusters.Slurm(tmp_path, {}, 9, {})
    with cluster.open():
        yield cluster


RUNS = [PlannedRun(name, {}, {}, {}) for name in "abc"]


def test_states(slurm, squeue):
    over = ["COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "DEADLINE"]
    alive = ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "SIGNALING", "REQUEUED", "CONFIGURING", "STOPPED"]
    squeue("".join(f"{number}|{state}|None|(null)\n" for number, state in enumerate([*over, *alive])))
    tickets = {state: Ticket(str(number)) for number, state in enumerate([*over, *alive])}
    # A record is forgotten some minutes after the job's end.
    tickets["forgotten"] = Ticket("99")
    assert slurm.alive(tickets) == dict.fromkeys([*over, "forgotten"], False) | dict.fromkeys(alive, True)


def test_why_a_job_waits(slurm, squeue):
    reasons = ["PENDING|PartitionNodeLimit", "PENDING|None", "RUNNING|None", "PENDING|Nodes are down, or reserved"]
    squeue("".join(f"{number}|{reason}|(null)\n" for number, reason in enumerate(reasons, 1)))
    tickets = {number: Ticket(number) for number in "1234"}
    slurm.alive(tickets)
    assert [ticket.before for ticket in tickets.values()] == [
        "queued (PartitionNodeLimit)",
        "queued",
        "queued",
        "queued (Nodes are down, or reserved)",
    ]


def test_jobs_of_an_earlier_sweep(slurm, squeue, tmp_path):
    squeue("1|RUNNING|None|(null)\n2|FAILED|NonZeroExitCode|(null)\n3|RUNNING|None|(null)\n")
    adopted = slurm.adopt(RUNS)
    assert list(adopted) == ["a"]
    assert adopted["a"].job_id == "1"
    assert adopted["a"].log == tmp_path / "jobs" / "a" / "1_0_log.out"


def test_a_job_whose_id_was_not_written_down(slurm, squeue, tmp_path):
    folder = (tmp_path / "runs").resolve()
    squeue(f"1|FAILED|None|{folder}/a\n7|RUNNING|None|{folder}/a\n8|FAILED|None|{folder}/b\n9|RUNNING|None|/runs/c\n")
    assert {name: ticket.job_id for name, ticket in slurm.adopt(RUNS).items()} == {"a": "7"}
    assert json.loads((tmp_path / "queue.json").read_text())["a"] == "7"


def test_a_job_is_submitted_with_its_folder_as_its_comment(slurm, squeue, tmp_path):
    squeue()
    for name, line in {"srun": "exit 1", "sbatch": f"cp $1 {tmp_path}/script; echo Submitted batch job 12"}.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    assert slurm.submit(RUNS[2]).job_id == "12"
    assert f"#SBATCH --comment={tmp_path.resolve()}/runs/c\n" in (tmp_path / "script").read_text()
    assert json.loads((tmp_path / "queue.json").read_text()) == {"a": "1", "b": "2", "c": "12", "of another sweep": "3"}
    refusal = "sbatch: error: QOSMaxSubmitJobPerUserLimit"
    (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/sh\necho '{refusal}' >&2; exit 1\n")
    with pytest.raises(clusters.Refused, match=f"Slurm does not take the job: {refusal}"):
        slurm.submit(RUNS[2])


def test_a_queue_that_does_not_answer(slurm, squeue):
    asked = squeue(complaint="slurm_load_jobs error: Unable to contact slurm controller")
    # Nothing is taken for ended, and nothing is started twice.
    assert slurm.alive({"a": Ticket("1")}) == {"a": True}
    with pytest.raises(UserError, match="cannot be read: slurm_load_jobs error: Unable to contact"):
        slurm.adopt(RUNS)
    assert len(asked.read_text().splitlines()) > 2


def test_slurm_is_not_asked_all_the_time(slurm, squeue, monkeypatch):
    monkeypatch.setattr(clusters, "_SECONDS_BETWEEN_QUESTIONS", 1000)
    asked = squeue("1|FAILED|None|(null)\n")
    assert slurm.alive({"a": Ticket("1")}) == {"a": False}
    # A job that was submitted since is not yet known of, which is not that it has ended.
    assert slurm.alive({"a": Ticket("2")}) == {"a": True}
    assert len(asked.read_text().splitlines()) == 1


def test_a_time_that_is_too_short_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--config=ddpm_toy.py", "--workdir=nowhere", "--cluster=slurm", "--time=2"])
    assert ended.value.code == 2
    assert "--time=2: give at least 5" in capsys.readouterr().err
