"""Train, sample and evaluate many configs, and compare them on a page.

python -m experiments.sweep --config=NAME.py --workdir=DIR [--grid='FIELD=a,b' …] [--sweep=NAME.py]
    [--only='FIELD=a,b' …] [--config.FIELD=VALUE …] [--cluster=local|slurm|debug]
"""

import argparse
import datetime
import logging
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

# First of all: it configures logging when it is imported, and closes the streams of handlers that are there by then.
import submitit  # noqa: F401

from unified_diffusion.errors import UserError


def main(arguments=None):
    """Runs the command line; returns the exit code: 1 if a run failed, 2 for a mistake, 128 plus a signal's number."""
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns through it of options that it sets itself
    arguments = sys.argv[1:] if arguments is None else arguments
    options, overrides = parse(arguments)
    try:
        return run(options, overrides, shlex.join(["python", "-m", "experiments.sweep", *arguments]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "\nstopped without waiting; jobs on this machine save and stop by themselves, those in Slurm's queue go on",
            file=sys.stderr,
        )
        return 130


def parse(arguments):
    """(options, overrides): what argparse knows, and the pairs of --config.FIELD=VALUE."""
    from experiments.main import split_overrides

    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep",
        description="Train, sample and evaluate many configs, and compare them on a page.",
        epilog="--config.FIELD=VALUE sets a field of all runs. The same command again goes on where it was stopped.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, help="a file in experiments/configs, or a path")
    parser.add_argument("--workdir", type=Path, required=True, help="the sweep's folder")
    parser.add_argument(
        "--grid", action="append", default=[], metavar="FIELD=a,b", help="values to combine; repeatable"
    )
    parser.add_argument("--sweep", help="a file with get_sweep(), in experiments/sweeps, or a path")
    parser.add_argument(
        "--only", action="append", default=[], metavar="FIELD=a,b", help="leave out runs with other values; repeatable"
    )
    parser.add_argument("--cluster", default="local", choices=("local", "slurm", "debug"))
    parser.add_argument("--jobs", type=_whole(1), help="runs at a time (default: one a core or GPU; in Slurm, all)")
    parser.add_argument("--gpus", type=_whole(0), help="GPUs of each run (default: 1 where there are any, in Slurm 0)")
    slurm = parser.add_argument_group("in Slurm")
    slurm.add_argument("--partition", help="the partition (default: the cluster's)")
    slurm.add_argument("--time", type=_whole(1), help="minutes before a run saves and goes back into the queue (240)")
    slurm.add_argument("--cpus", type=_whole(1), help="cores of each run")
    slurm.add_argument("--mem", type=_gigabytes, help="memory of each run in GB")
    slurm.add_argument(
        "--requeue", action=argparse.BooleanOptionalAction, help="go on in the queue when time is up (yes)"
    )
    overrides, rest = split_overrides(arguments, parser)
    options = parser.parse_args(rest)
    for name in ("partition", "time", "cpus", "mem", "requeue"):
        if options.cluster != "slurm" and getattr(options, name) is not None:
            parser.error(f"--{name} is for --cluster=slurm")
    if options.time is not None and options.time < 5:
        parser.error(f"--time={options.time}: give at least 5, Slurm warns of the end up to 150 seconds before it")
    if options.cluster == "slurm" and shutil.which("sbatch") is None:
        parser.error("--cluster=slurm: there is no sbatch on the path")
    return options, overrides


def run(options, overrides, command):
    """Plans and checks the sweep, and carries it out; returns the exit code."""
    # Here, so that --help and a mistyped option answer at once.
    import jax

    from experiments.sweep import plan
    from unified_diffusion.runs.folder import locked

    if options.cluster != "debug":
        jax.config.update("jax_platforms", "cpu")  # this process only looks; the accelerators are the jobs'
    directory = options.workdir.absolute()
    if (directory / "config.json").exists():
        raise UserError(f"--workdir={options.workdir} holds a single run: take another folder for a sweep")
    made = plan.make_plan(options.config, overrides, options.grid, options.sweep, options.only, directory / "runs")
    differences = plan.check_runs(made.runs)
    with locked(directory, who="sweep"):
        changed = plan.check_folders(made.runs, directory / "runs")
        print("\n".join([*made.merged, *differences, *_remarks(made.runs, changed, directory)]), flush=True)
        _write_sweep(directory, made, options, command)
        return _carry_out(made, options, directory)


def _carry_out(made, options, directory):
    """Carries out the runs; returns the exit code."""
    from experiments.sweep.page import write_page
    from experiments.sweep.schedule import Schedule
    from experiments.sweep.summary import write_summary
    from experiments.sweep.terminal import Lines, make_display

    def publish():
        write_summary(directory)
        write_page(directory)

    cluster = _cluster(options, directory, len([run for run in made.runs if run.trained_in is None]))
    # In the debugger's process what a run prints would be drawn over.
    with Lines(sys.stdout) if options.cluster == "debug" else make_display(sys.stdout) as display:
        schedule = Schedule(made.runs, directory, cluster, publish, display)
        stopped = schedule.run()
    tasks = schedule.tasks.values()
    failed = [task for task in tasks if task.state == "failed" or (task.state == "interrupted" and not stopped)]
    for task in failed:
        print(_obituary(task), file=sys.stderr)
    finished = sum(task.state == "finished" for task in tasks)
    print(f"{finished} of {len(tasks)} runs finished: {directory / 'index.html'}")
    if stopped:
        left = schedule.left_behind() or "what was trained is saved, and the same command goes on from here"
        print(f"{stopped.name}: stopped; {left}")
        return 128 + stopped
    return 1 if failed else 0


def _cluster(options, directory, trainings):
    """The cluster that the options name."""
    from experiments.sweep import clusters

    environment = {
        name: value
        for name, value in {
            "JAX_COMPILATION_CACHE_DIR": str(directory / ".compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        }.items()
        if name not in os.environ
    }
    if options.cluster == "debug":
        return clusters.Debug(directory)
    if options.cluster == "slurm":
        parameters = {
            "slurm_partition": options.partition,
            "slurm_time": options.time or 240,
            "gpus_per_node": options.gpus,
            "cpus_per_task": options.cpus,
            "mem_gb": options.mem,
        }
        parameters = {name: value for name, value in parameters.items() if value is not None}
        return clusters.Slurm(
            directory, environment, options.jobs or sys.maxsize, parameters, requeue=options.requeue is not False
        )
    devices = clusters.visible_gpus()
    gpus = options.gpus if options.gpus is not None else min(len(devices), 1)
    room = len(devices) // gpus if gpus else len(clusters.usable_cores())
    return clusters.Local(directory, environment, options.jobs or max(min(room, trainings), 1), gpus)


def _write_sweep(directory, made, options, command):
    """Writes sweep.json, in which the page and the summary find the sweep's runs, title and command."""
    from unified_diffusion.files import write_json
    from unified_diffusion.runs.folder import read_json

    path = directory / "sweep.json"
    now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
    write_json(
        path,
        {
            "command": command,
            "config": options.config,
            "grid": options.grid,
            "sweep": options.sweep,
            "title": made.title,
            "note": made.note,
            "published": made.published,
            "runs": [{name: getattr(run, name) for name in ("name", "overrides", "trained_in")} for run in made.runs],
            "started": read_json(directory, "sweep.json")["started"] if path.exists() else now,
        },
    )


def _remarks(runs, changed, directory):
    """Lines on shared trainings, on settings that have changed, and on other folders beside the runs."""
    lines = []
    shared = sum(run.trained_in is not None for run in runs)
    if shared:
        lines.append(f"trainings: {len(runs) - shared}, for {len(runs)} runs; those that differ after it share one")
    lines += [f"config.{field} has changed; runs that go on with the new one: {n}" for field, n in changed.items()]
    folders = {path.name for path in (directory / "runs").glob("*") if path.is_dir()}
    beside = sorted(folders - {run.name for run in runs})
    if beside:
        lines.append(f"in the folder, but not in this sweep: {', '.join(beside)}")
    return lines


def _obituary(task):
    """Says why a run failed, and where to read more."""
    lines = "\n".join(f"    {line}" for line in (task.error or "").splitlines())
    log = f"\n  log: {task.ticket.log}" if task.ticket else ""
    return f"{task.run.name} {task.state} after {task.attempts} attempts:\n{lines}{log}"


def _whole(least):
    """An option's type: a whole number of at least `least`."""

    def parse(text):
        if not re.fullmatch(r"-?\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return parse


def _gigabytes(text):
    """An option's type: a number above 0."""
    if not re.fullmatch(r"\d+\.?\d*|\.\d+", text) or not float(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of GB above 0")
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
