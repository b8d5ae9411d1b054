"""The cells of the page's table, which table.html draws.

The table has a row for each setting, below it one for each seed, and at its foot the measures of real data.
"""

import dataclasses
import json

from experiments.sweep.measures import ARROWS, FEATURES, NO_FEATURES, best, columns, group_mean, show


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of the table, as plain text.

    Attributes:
        text: its first line.
        small: the lines below it.
        bold: whether the first line is drawn in bold.
        value: the number by which its row is sorted, or None.
    """

    text: str = "–"
    small: tuple[str, ...] = ()
    bold: bool = False
    value: float | None = None


@dataclasses.dataclass(frozen=True)
class Head:
    """A column of the table.

    Attributes:
        key: an identifier.
        title: its first line, as plain text.
        family: the word above several columns, which are hidden together.
        groups: the cell of each group.
        runs: {name of a run: its cell}, for the rows of seeds.
        floor: {name of a comparison of real data: its cell}; comparisons that were not made are left out.
        small: a line below the title.
    """

    key: str
    title: str
    family: str
    groups: list[Cell]
    runs: dict
    floor: dict = dataclasses.field(default_factory=dict)
    small: str = ""


@dataclasses.dataclass(frozen=True)
class Family:
    """Neighbouring columns under one word.

    Attributes:
        name: the word.
        note: how all their numbers were measured.
        span: the number of columns.
        switched: whether the page has a box that shows and hides them.
        shown: whether they are shown when the page is opened.
    """

    name: str
    note: str
    span: int
    switched: bool
    shown: bool


def heads(summary) -> list[Head]:
    """The columns of a sweep's table: measures, each followed by its published figures, and then the costs."""
    published = {}
    for row in summary.facts.get("published") or []:
        published.setdefault(str(row["metric"]), []).append(row)
    found = []
    for column in columns(summary):
        found.append(_metric_head(summary, column))
        if column.key in published:
            found.append(_published_head(summary, column.key, column.family, published.pop(column.key)))
    found += [_published_head(summary, metric, "published", rows) for metric, rows in published.items()]
    return [*found, *_cost_heads(summary)]


def families(summary, heads) -> list[Family]:
    """The families of the columns, in their order; the page is opened with one kind of features shown."""
    names = list(dict.fromkeys(head.family for head in heads))
    metrics = [name for name in names if name not in NO_FEATURES]
    first = next((name for name in (*FEATURES, *metrics) if name in metrics), None)
    return [
        Family(
            name,
            _family_note(summary, name),
            sum(head.family == name for head in heads),
            switched=name in metrics and len(metrics) > 1,
            shown=name == first,
        )
        for name in names
    ]


def published_sources(summary):
    """The sources of published figures that stand in the table, each once."""
    rows = summary.facts.get("published") or []
    used = [str(row.get("source") or "") for row in rows if any(_matches(row, group) for group in summary.groups)]
    return list(dict.fromkeys(filter(None, used)))


def real_sizes(measures) -> str:
    """How many examples of real data were compared with how many, `749 against 749`; empty where that differs."""
    sizes = set(map(_sizes, measures.values()))
    return sizes.pop() if len(sizes) == 1 else ""


def duration(seconds):
    """A time as people say it: 48 s, 1.6 min, 25 min, 2.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.{1 if seconds < 600 else 0}f} min"
    return f"{seconds / 3600:.1f} h"


def _metric_head(summary, column):
    means = [group_mean(group.measured(column.key)) for group in summary.groups]
    winner = best(means, column.better) if _comparable(summary, column) else None
    whole_family = len(_ways(summary, column.family + ".")) <= 1
    ways = [] if whole_family else _ways(summary, column.key)

    def of_group(index, group):
        if means[index] is None:
            return Cell()
        about = dict.fromkeys(map(_way, group.measured(column.key))) if len(ways) > 1 else ()
        more = (*_of_seeds(means[index].count, group.runs), *filter(None, about))
        return _mean_cell(means[index], more, bold=index == winner)

    def of_floor(measures):
        own = () if real_sizes(measures) else tuple(filter(None, [_sizes(measures[column.key])]))
        return Cell(show(measures[column.key].value, measures[column.key].error), own)

    return Head(
        column.key,
        f"{column.title} {ARROWS[column.better]}" if column.better else column.title,
        column.family,
        [of_group(index, group) for index, group in enumerate(summary.groups)],
        {run.name: _mean_cell(group_mean(run.measured(column.key))) for run in summary.runs},
        {what: of_floor(measures) for what, measures in summary.floor.items() if column.key in measures},
        ways[0] if len(ways) == 1 else "",
    )


def _mean_cell(mean, more=(), bold=False):
    """Mean and standard deviation over seeds, or the value of a single seed and its interval."""
    if mean is None:
        return Cell()
    scale = None if mean.variance is None else (mean.variance * mean.count) ** 0.5
    if mean.spread is not None:
        more = (f"± {show(mean.spread, mean.spread)}", *more)
    elif mean.low is not None and mean.high is not None:
        more = (f"[{show(mean.low, scale)}, {show(mean.high, scale)}]", *more)
    return Cell(show(mean.mean, scale), more, bold, mean.mean)


def _published_head(summary, metric, family, rows):
    def of_group(group):
        values = [row["value"] for row in rows if _matches(row, group)]
        number = next((value for value in values if isinstance(value, (int, float))), None)
        return Cell(", ".join(map(str, values)) or "–", value=number)

    title = metric.rpartition(".")[2].replace("_", " ") if "." in metric else metric
    groups = [of_group(group) for group in summary.groups]
    runs = {run.name: Cell("") for run in summary.runs}
    return Head(f"published {metric}", f"published {title}", family, groups, runs)


def _matches(row, group):
    return all(group.runs[0].setting(field) == value for field, value in row.get("match", {}).items())


def _cost_heads(summary):
    """The columns of network evaluations, times and speeds, as far as they are known."""

    def whole(value):
        return f"{value:,.0f}"

    def cell(key, get, write, runs):
        values = [value for value in map(get, runs) if value is not None]
        if not values:
            return Cell()
        mean = sum(values) / len(values)
        shared = key == "seconds" and any(run.trained_in for run in runs)
        more = ("with a shared training",) if shared else ()
        return Cell(write(mean), (*_of_seeds(len(values), runs), *more), value=mean)

    quantities = {
        "evaluations": ("evalua\N{SOFT HYPHEN}tions a sample", lambda run: run.num_evaluations, whole),
        "seconds": ("wall time", summary.seconds, duration),
        "speed": ("training images/s", lambda run: run.facts.get("images_per_second"), whole),
    }
    return [
        Head(
            key,
            title,
            "cost",
            [cell(key, get, write, group.runs) for group in summary.groups],
            {run.name: cell(key, get, write, [run]) for run in summary.runs},
        )
        for key, (title, get, write) in quantities.items()
        if any(get(run) is not None for run in summary.runs)
    ]


def _family_note(summary, family):
    """How all numbers of a family were measured: reference and counts, or the chain of the bound."""
    if family == "likelihood":
        bounds = [run.evaluation["bound"] for run in summary.runs if "bound" in run.measures]
        kinds = {(bound.get("num_steps"), bound.get("num_examples")) for bound in bounds}
        steps, examples = kinds.pop() if len(kinds) == 1 else (None, None)
        return f"bound of {steps:,} steps on {examples:,} test examples" if steps and examples else ""
    if family == "neighbours":
        return "½: as test data are, 1: copies"
    ways = _ways(summary, family + ".")
    return "samples and reference below" if len(ways) > 1 else "".join(ways)


def _comparable(summary, column):
    """Whether all numbers of a column were measured in one way: the same counts, and reference or chain."""
    if column.key == "bound":
        return len({json.dumps(measure.about) for run in summary.runs for measure in run.measured("bound")}) <= 1
    return len(_ways(summary, column.key)) <= 1


def _of_seeds(count, runs):
    """A line on how many of the seeds a mean is over, where that is not all of them."""
    return () if count == len(runs) else (f"{count} of {len(runs)} seeds",)


def _ways(summary, start):
    """The different ways in which the metrics whose keys start so were measured, as text.

    A metric that takes no reference is not measured in another way.
    """
    measures = [m for run in summary.runs for key, m in run.measures.items() if key.startswith(start)]
    found = dict.fromkeys(map(_way, measures))
    return [text for text in found if not any(other.startswith(f"{text} against") for other in found)]


def _way(measure):
    """The samples and the reference that a metric was measured with: `100 samples against digits train (1,498)`."""
    samples, reference, size = (measure.about.get(name) for name in ("num_samples", "reference", "num_reference"))
    drawn = f"{samples:,} samples" if isinstance(samples, int) else ""
    against = f"{reference}{f' ({size:,})' if isinstance(size, int) else ''}" if reference and size != 0 else ""
    return " against ".join(filter(None, (drawn, against)))


def _sizes(measure):
    sizes = [measure.about.get(name) for name in ("num_samples", "num_reference")]
    return " against ".join(f"{size:,}" for size in sizes if isinstance(size, int))
