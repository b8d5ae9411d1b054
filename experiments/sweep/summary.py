"""The results of a sweep, read from its folder: sweep.json, and each run's own files, as far as they are there."""

import csv
import dataclasses
import functools
import io
import json
import math
from pathlib import Path

from experiments.sweep.record import PHASES, read_if_there
from unified_diffusion.files import write_text

STATES = ("finished", "running", "waiting", "interrupted", "failed")
LOSSES = ("test_loss", "test_loss_standard_error", "test_error", "test_error_standard_error")
NORMAL = 1.959964  # standard errors to each side of a 95 % interval


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A number that a run was measured to have.

    Attributes:
        value: the number.
        low, high: the ends of its 95 % interval over the examples that it was measured on, or None.
        about: {"reference", "num_reference", "num_samples", "better"} of a metric, as far as known; of the bound its
            unit and chain.
    """

    value: float
    low: float | None = None
    high: float | None = None
    about: dict = dataclasses.field(default_factory=dict)

    @classmethod
    def of_row(cls, row):
        """The measurement of a row of "metrics" or "floor" in eval.json."""
        about = {name: row.get(name) for name in ("reference", "num_reference", "num_samples", "better")}
        return cls(row["value"], row.get("low"), row.get("high"), about)

    @classmethod
    def with_error(cls, value, standard_error, about=None):
        """A measurement whose interval is NORMAL standard errors to each side; it has none without that error."""
        if standard_error is None:
            return cls(value, about=about or {})
        return cls(value, value - NORMAL * standard_error, value + NORMAL * standard_error, about or {})

    @property
    def error(self):
        """The standard error that the interval stands for, by its wider side: the other may have been cut to a range.

        It is None without an interval, or if the interval has no width: a share of exactly 0 or 1 does not show how far
        it would move.
        """
        if self.low is None or self.high is None:
            return None
        return max(self.high - self.value, self.value - self.low) / NORMAL or None


@dataclasses.dataclass(frozen=True)
class RunResult:
    """One run as its folder shows it. None stands for a file that is not there, or not yet.

    Attributes:
        name, overrides: as planned; overrides are {field: value}.
        index: the run's place in the plan.
        directory: the run's folder.
        trained_in: the name of the run whose checkpoint it samples, or None.
        state: one of STATES.
        seconds: {phase: seconds, summed over attempts}.
        facts: the whole of run.json: attempts, images_per_second, error, device, versions and what is named above.
        config: config.json, complete.
        curve: the lines of metrics.jsonl.
        samples: samples.json.
        evaluation: eval.json.
    """

    name: str
    overrides: dict = dataclasses.field(default_factory=dict)
    index: int = 0
    directory: Path | None = None
    trained_in: str | None = None
    state: str = "waiting"
    seconds: dict = dataclasses.field(default_factory=dict)
    facts: dict = dataclasses.field(default_factory=dict)
    config: dict | None = None
    curve: list = dataclasses.field(default_factory=list)
    samples: dict | None = None
    evaluation: dict | None = None

    @functools.cached_property
    def measures(self):
        """{key: Measurement}; the key of a metric is features.name, of others "bound", "test_error", "test_loss".

        "neighbours.share_nearer" is how often a sample is nearer to training data than a test example is.
        """
        found = {}
        evaluation = self.evaluation or {}
        for row in evaluation.get("metrics") or []:
            found.setdefault(metric_key(row), Measurement.of_row(row))
        near = evaluation.get("neighbours") or {}
        if near.get("share_nearer") is not None:
            ends = near.get("share_nearer_low"), near.get("share_nearer_high")
            found["neighbours.share_nearer"] = Measurement(near["share_nearer"], *ends)
        if bound := evaluation.get("bound"):
            about = {name: bound.get(name) for name in ("unit", "num_steps", "clip_x0", "num_examples")}
            found["bound"] = Measurement.with_error(bound["total"], bound["standard_error"], about)
        for key in ("test_error", "test_loss"):
            if key in evaluation:
                found[key] = Measurement.with_error(evaluation[key], evaluation.get(f"{key}_standard_error"))
        return {key: measure for key, measure in found.items() if _finite(measure.value)}

    def measured(self, key):
        """A list with the run's measurement called `key`, empty if it has none."""
        return [self.measures[key]] if key in self.measures else []

    @property
    def seed(self):
        """The seed as people say it, `seed 1`: that of the overrides, else that of the config."""
        found = self.setting("seed")
        return "seed of the config" if found is None else f"seed {found}"

    @property
    def num_evaluations(self):
        """Network evaluations a sample, or None."""
        return self._of_samples("num_evaluations")

    @property
    def num_samples(self):
        """Number of samples that were drawn or measured, or None."""
        return self._of_samples("num_samples") or self._of_samples("num_images")

    @property
    def total_seconds(self):
        """Seconds of its own training, sampling and evaluation together, or None."""
        known = [self.seconds[phase] for phase in PHASES if _finite(self.seconds.get(phase))]
        return sum(known) or None

    @property
    def progress(self):
        """(step, steps) of its training, each None where it is not known."""
        steps = (self.config or {}).get("training", {}).get("steps")
        return (self.curve[-1]["step"] if self.curve else None), steps

    @property
    def standing(self):
        """The state as text, with how far the training of a running run has come."""
        step, steps = self.progress
        return f"running {step:,} / {steps:,}" if self.state == "running" and step and steps else self.state

    def setting(self, field):
        """The value of a dotted field: by the run's overrides, else by its config, or None."""
        if field in self.overrides:
            return self.overrides[field]
        value = self.config or {}
        for part in field.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def _of_samples(self, name):
        measured = (self.evaluation or {}).get("samples") or {}
        return measured.get(name, (self.samples or {}).get(name))


@dataclasses.dataclass(frozen=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        overrides: the overrides that they have in common.
        runs: the runs, in the order of the plan.
    """

    overrides: dict
    runs: tuple[RunResult, ...]

    def measured(self, key):
        """The measurements called `key` of those runs that have it."""
        return [measure for run in self.runs for measure in run.measured(key)]


@dataclasses.dataclass(frozen=True)
class Summary:
    """The results of a sweep.

    Attributes:
        directory: the sweep's folder.
        facts: the rest of sweep.json: command, config, grid, sweep, title, note, published, started.
        runs: the runs, in the order of the plan.
    """

    directory: Path
    facts: dict
    runs: tuple[RunResult, ...]

    def seconds(self, run):
        """The wall time of a run, or None; the time of a shared training counts for each run that shares it."""
        trainer = next((other for other in self.runs if other.name == run.trained_in), None)
        more = trainer.seconds.get("training") if trainer else None
        return run.total_seconds + more if run.total_seconds and _finite(more) else run.total_seconds

    @functools.cached_property
    def groups(self):
        """The runs, gathered over seeds, in the order of the plan."""
        gathered = {}
        for run in self.runs:
            overrides = {field: value for field, value in run.overrides.items() if field != "seed"}
            gathered.setdefault(json.dumps(overrides, sort_keys=True, default=str), (overrides, []))[1].append(run)
        return tuple(Group(overrides, tuple(runs)) for overrides, runs in gathered.values())

    @functools.cached_property
    def differing(self):
        """The fields whose overrides are not the same in all runs, in the order in which they are first set."""
        fields = dict.fromkeys(field for run in self.runs for field in run.overrides)
        values = {field: {json.dumps(run.overrides.get(field), default=str) for run in self.runs} for field in fields}
        return [field for field in fields if len(values[field]) > 1]

    @functools.cached_property
    def telling(self):
        """The differing fields, without the seed, that tell apart groups which the fields before them do not."""
        fields = [field for field in self.differing if field != "seed"]
        return distinguishing([group.overrides for group in self.groups], fields)

    @functools.cached_property
    def labels(self):
        """The name of each group for people: its values of the telling fields, `min_snr · ddpm`.

        It is the config's name if no field tells, and `FIELD=VALUE · FIELD=VALUE` where two groups share their values.
        """
        if not self.telling:
            return [str(self.facts.get("config") or "run")] * len(self.groups)
        found = [[(field, group.runs[0].setting(field)) for field in self.telling] for group in self.groups]
        short = [" · ".join(short_value(value) for _, value in pairs if value is not None) for pairs in found]
        if len(set(short)) == len(short) and all(short):
            return short
        return [" · ".join(f"{field}={value}" for field, value in pairs) for pairs in found]

    @functools.cached_property
    def keys(self):
        """The keys of all measures that some run has, in the order in which they are first met."""
        return list(dict.fromkeys(key for run in self.runs for key in run.measures))

    @functools.cached_property
    def floor(self):
        """The metrics of real data: {what was compared: {key: Measurement}}, by the first run that has them."""
        found = {}
        for run in self.runs:
            for row in (run.evaluation or {}).get("floor") or []:
                found.setdefault(row["what"], {}).setdefault(metric_key(row), Measurement.of_row(row))
        return found


def distinguishing(overrides, fields=None):
    """The fields that tell apart some overrides which the fields before them do not; None stands for all fields."""
    told, kinds = [], 1
    for field in dict.fromkeys(field for row in overrides for field in row) if fields is None else fields:
        tried = [*told, field]
        found = len({json.dumps([row.get(f) for f in tried], default=str) for row in overrides})
        if found > kinds:
            told, kinds = tried, found
    return told


def collect(directory) -> Summary:
    """Reads a sweep's folder; a file that is not there yet is left out."""
    directory = Path(directory)
    facts = read_if_there(directory / "sweep.json") or {}
    plans = facts.pop("runs", [])
    runs = (_result(directory / "runs" / plan["name"], plan, index) for index, plan in enumerate(plans))
    return Summary(directory, facts, tuple(runs))


def write_summary(directory):
    """Writes summary.csv, a row for each run in the order of the plan, whole or not at all."""
    write_text(Path(directory) / "summary.csv", summary_csv(collect(directory)))


def summary_csv(summary) -> str:
    """The text of summary.csv. Its last four columns are times; all others follow from the sweep's settings alone."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _row(RunResult(""), summary), lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(run, summary) for run in summary.runs)
    return text.getvalue()


def metric_key(row):
    """The name of a metric's column: features.name."""
    return f"{row['features']}.{row['name']}"


def short_value(value):
    """A setting as people say it: `function` for `package.module:function`."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.rsplit(":", 1)[-1] if isinstance(value, str) and ":" in text else text


def _row(run, summary):
    """{column: cell} of summary.csv: text as it is, nothing for None, anything else as JSON writes it."""
    evaluation = run.evaluation or {}
    bound = evaluation.get("bound") or {}
    row = {
        "name": run.name,
        **{field: run.overrides.get(field) for field in summary.differing},
        "trained_in": run.trained_in,
        "state": run.state,
    }
    for key in summary.keys:
        if "." in key:
            measure = run.measures.get(key, Measurement(None))
            row |= {key: measure.value, f"{key}_low": measure.low, f"{key}_high": measure.high}
    row |= {
        "reference": _common(run, "reference"),
        "num_reference": _common(run, "num_reference"),
        "num_samples": _common(run, "num_samples") or run.num_samples,
        "num_evaluations": run.num_evaluations,
        **{name: evaluation.get(name) for name in LOSSES},
        "bound": bound.get("total"),
        "bound_unit": bound.get("unit"),
        "bound_bits_per_dim": bound.get("bits_per_dim"),
        "bound_standard_error": bound.get("standard_error"),
        "bound_steps": bound.get("num_steps"),
        "bound_examples": bound.get("num_examples"),
        "num_parameters": evaluation.get("num_parameters"),
        **{f"seconds_{phase}": run.seconds.get(phase) for phase in PHASES},
        "images_per_second": run.facts.get("images_per_second"),
    }
    return {
        name: cell if cell is None or isinstance(cell, str) else json.dumps(cell, default=str)
        for name, cell in row.items()
    }


def _common(run, name):
    """The different values of a fact of the run's metrics, as `a; b`; metrics that take no reference count as none."""
    values = dict.fromkeys(row.get(name) for row in (run.evaluation or {}).get("metrics") or [])
    known = [value for value in values if value not in (None, 0, "none")]
    return known[0] if len(known) == 1 else "; ".join(map(str, known))


def _result(directory, plan, index):
    facts = read_if_there(directory / "run.json") or {}
    return RunResult(
        name=plan["name"],
        overrides=plan.get("overrides") or {},
        index=index,
        directory=directory,
        trained_in=plan.get("trained_in"),
        state=facts.get("state") or "waiting",
        seconds=facts.get("seconds") or {},
        facts=facts,
        config=read_if_there(directory / "config.json"),
        curve=_read_lines(directory / "metrics.jsonl"),
        samples=read_if_there(directory / "samples.json"),
        evaluation=read_if_there(directory / "eval.json"),
    )


def _read_lines(path):
    """The dicts of a .jsonl file, one for each step; a line that is being written is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = {}
    for line in lines:
        try:
            row = json.loads(line)
            found[row["step"]] = row
        except (ValueError, KeyError, TypeError):
            continue
    return [found[step] for step in sorted(found)]


def _finite(value):
    return isinstance(value, (int, float)) and math.isfinite(value)
