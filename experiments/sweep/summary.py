"""What a sweep has found, read from its folder: sweep.json, and each run's own files, as far as they are there."""

import csv
import dataclasses
import functools
import io
import json
import math
from pathlib import Path
from typing import Any

SECONDS = ("training", "sampling", "evaluation")
LOSSES = ("test_loss", "test_loss_standard_error", "test_error", "test_error_standard_error")


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number that a run was measured to have.

    Attributes:
        value: the number.
        low, high: its 95 % interval, over the examples that it was measured on; None where there is none.
        about: what it was measured with, {"reference", "num_reference", "num_samples", "better"}, as far as known; of
            the bound its unit and chain.
    """

    value: float
    low: float | None = None
    high: float | None = None
    about: dict = dataclasses.field(default_factory=dict)

    @property
    def error(self):
        """The standard error that the interval stands for, by its wider side: the other may have been cut to a range.

        None without one, or if it has no width: shares of exactly 0 or 1 do not show how far they would move.
        """
        if self.low is None or self.high is None:
            return None
        return max(self.high - self.value, self.value - self.low) / 1.959964 or None


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: its `run.json`, with what its folder holds; None stands for a file that is not there, or not yet.

    Attributes:
        name, overrides: as planned; overrides are {field: value}.
        directory: its folder.
        trained_in: the name of the run whose checkpoint it samples, or None.
        state: "waiting", "running", "finished", "failed" or "interrupted".
        seconds: {"training", "sampling", "evaluation"}, each summed over attempts.
        facts: the rest of run.json: attempts, images_per_second, error, device, versions.
        config: config.json, complete.
        curve: the lines of metrics.jsonl.
        samples: samples.json.
        evaluation: eval.json.
    """

    name: str
    overrides: dict
    directory: Path
    trained_in: str | None
    state: str
    seconds: dict
    facts: dict
    config: dict | None
    curve: list
    samples: dict | None
    evaluation: dict | None

    @functools.cached_property
    def measures(self):
        """{key: Measure}; the key of a metric is features.name, of others "bound", "test_error", "test_loss".

        "neighbours.share_nearer" is how often a sample is nearer to training data than a test example is.
        """
        found = {}
        evaluation = self.evaluation or {}
        for row in evaluation.get("metrics") or []:
            about = {name: row.get(name) for name in ("reference", "num_reference", "num_samples", "better")}
            found.setdefault(metric_key(row), Measure(row["value"], row.get("low"), row.get("high"), about))
        near = evaluation.get("neighbours") or {}
        if near.get("share_nearer") is not None:
            ends = near.get("share_nearer_low"), near.get("share_nearer_high")
            found["neighbours.share_nearer"] = Measure(near["share_nearer"], *ends)
        bound = evaluation.get("bound")
        if bound:
            about = {name: bound.get(name) for name in ("unit", "num_steps", "clip_x0", "num_examples")}
            found["bound"] = Measure(bound["total"], *_ends(bound["total"], bound["standard_error"]), about)
        for key in ("test_error", "test_loss"):
            if key in evaluation:
                ends = _ends(evaluation[key], evaluation.get(f"{key}_standard_error"))
                found[key] = Measure(evaluation[key], *ends)
        return {key: measure for key, measure in found.items() if _finite(measure.value)}

    @property
    def seed(self):
        """As people say it: `seed 1`; the config's own where the overrides do not set it."""
        found = self.setting("seed")
        return "seed of the config" if found is None else f"seed {found}"

    @property
    def num_evaluations(self):
        """Network evaluations a sample, or None."""
        return self._of_samples("num_evaluations")

    @property
    def num_samples(self):
        return self._of_samples("num_samples") or self._of_samples("num_images")

    @property
    def total_seconds(self):
        """Of its own training, sampling and evaluation together, or None."""
        known = [self.seconds[part] for part in SECONDS if _finite(self.seconds.get(part))]
        return sum(known) or None

    @property
    def progress(self):
        """(step, steps) of its training, each None where it is not known."""
        steps = (self.config or {}).get("training", {}).get("steps")
        return (self.curve[-1]["step"] if self.curve else None), steps

    def setting(self, field):
        """What a dotted field is set to, by the run's overrides, else by its config; None where there is no such."""
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
        overrides: what they have in common.
        runs: in the order of the plan.
    """

    overrides: dict
    runs: tuple[Run, ...]

    def measured(self, key):
        """The measures called `key` of those runs that have it."""
        return [run.measures[key] for run in self.runs if key in run.measures]


@dataclasses.dataclass(frozen=True)
class Summary:
    """A sweep.

    Attributes:
        directory: its folder.
        facts: the rest of sweep.json: command, config, grid, sweep, title, note, published, started.
        runs: in the order of the plan.
    """

    directory: Path
    facts: dict
    runs: tuple[Run, ...]

    def seconds(self, run):
        """A run's wall time, or None; of one that took another's training with the time of that."""
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
        """Of the differing fields but the seed, those that tell the groups apart which the ones before them do not."""
        fields = [field for field in self.differing if field != "seed"]
        return distinguishing([group.overrides for group in self.groups], fields)

    @functools.cached_property
    def labels(self):
        """Each group's name for people: its values of the telling fields, `min_snr · ddpm`.

        The config's name if there is nothing to tell, and `FIELD=VALUE · FIELD=VALUE` where values alone would not do.
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
        """What real data reach: {what: {key: Measure}}, of the first run that was measured with it."""
        found = {}
        for run in self.runs:
            for row in (run.evaluation or {}).get("floor") or []:
                about = {name: row.get(name) for name in ("reference", "num_reference", "num_samples", "better")}
                measure = Measure(row["value"], row.get("low"), row.get("high"), about)
                found.setdefault(row["what"], {}).setdefault(metric_key(row), measure)
        return found


def distinguishing(overrides, fields=None):
    """Of the fields, those that tell some of the overrides apart which the ones before them do not; of all if None."""
    told, kinds = [], 1
    for field in dict.fromkeys(field for said in overrides for field in said) if fields is None else fields:
        tried = [*told, field]
        found = len({json.dumps([said.get(f) for f in tried], default=str) for said in overrides})
        if found > kinds:
            told, kinds = tried, found
    return told


def collect(directory) -> Summary:
    """Reads a sweep's folder: what is not there yet is left out."""
    directory = Path(directory)
    facts = _read(directory / "sweep.json") or {}
    runs = tuple(_run(directory / "runs" / plan["name"], plan) for plan in facts.pop("runs", []))
    return Summary(directory, facts, runs)


def write_summary(directory):
    """Writes summary.csv, a row for each run in the order of the plan, whole or not at all."""
    write_text(Path(directory) / "summary.csv", summary_csv(collect(directory)))


def summary_csv(summary) -> str:
    """The text of summary.csv. Its last four columns are times; all others follow from the sweep's settings alone."""
    header, rows = _columns(summary)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def metric_key(row):
    """The name of a metric's column: features.name."""
    return f"{row['features']}.{row['name']}"


def short_value(value):
    """A setting as people say it: of `package.module:function` the function."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text.rsplit(":", 1)[-1] if isinstance(value, str) and ":" in text else text


def write_text(path, text):
    """Writes a file, whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)


def _columns(summary):
    """(header, rows) of summary.csv."""
    metrics = [key for key in summary.keys if "." in key]
    header = ["name", *summary.differing, "trained_in", "state"]
    for key in metrics:
        header += [key, f"{key}_low", f"{key}_high"]
    header += ["reference", "num_reference", "num_samples", "num_evaluations"]
    header += [*LOSSES, "bound", "bound_unit", "bound_bits_per_dim", "bound_standard_error"]
    header += ["bound_steps", "bound_examples", "num_parameters"]
    header += [*(f"seconds_{part}" for part in SECONDS), "images_per_second"]
    return header, [_row(run, summary.differing, metrics) for run in summary.runs]


def _row(run, fields, metrics):
    evaluation = run.evaluation or {}
    bound = evaluation.get("bound") or {}
    row = [run.name, *(run.overrides.get(field) for field in fields), run.trained_in, run.state]
    for key in metrics:
        measure = run.measures.get(key)
        row += [None] * 3 if measure is None else [measure.value, measure.low, measure.high]
    counts = [_common(run, name) for name in ("reference", "num_reference", "num_samples")]
    row += [*counts[:2], counts[2] or run.num_samples, run.num_evaluations]
    row += [evaluation.get(name) for name in LOSSES]
    row += [bound.get(name) for name in ("total", "unit", "bits_per_dim", "standard_error", "num_steps")]
    row += [bound.get("num_examples"), evaluation.get("num_parameters")]
    return [*row, *(run.seconds.get(part) for part in SECONDS), run.facts.get("images_per_second")]


def _common(run, name):
    """What its metrics were measured with: each different value once, `a; b`; that some take no reference is none."""
    values = dict.fromkeys(row.get(name) for row in (run.evaluation or {}).get("metrics") or [])
    known = [value for value in values if value not in (None, 0, "none")]
    return known[0] if len(known) == 1 else "; ".join(map(str, known))


def _cell(value):
    """A value in summary.csv: text as it is, nothing for None, anything else as JSON writes it."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, default=str)


def _run(directory, plan):
    facts = _read(directory / "run.json") or {}
    return Run(
        name=plan["name"],
        overrides=plan.get("overrides") or {},
        directory=directory,
        trained_in=plan.get("trained_in"),
        state=facts.get("state") or "waiting",
        seconds=facts.get("seconds") or {},
        facts=facts,
        config=_read(directory / "config.json"),
        curve=_read_lines(directory / "metrics.jsonl"),
        samples=_read(directory / "samples.json"),
        evaluation=_read(directory / "eval.json"),
    )


def _read(path):
    """A JSON file's value; None where there is none, or it cannot be read as JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


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


def _ends(value, standard_error):
    """(low, high) of its 95 % interval, Nones without a standard error."""
    if standard_error is None:
        return None, None
    return value - 1.959964 * standard_error, value + 1.959964 * standard_error


def _finite(value: Any):
    return isinstance(value, (int, float)) and math.isfinite(value)
