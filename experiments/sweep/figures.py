"""The page's figures, as Plotly takes them: dicts of traces and a layout, mostly one trace for each run.

page.html has their titles and captions, and page.js the layout that all of them share.

The page shows one of a figure's views at a time. A trace's `meta` is its run's place in the plan, by which the page
shows and hides the trace; or a list of places, where the trace is a line through several runs. Plotly reads text as
HTML, so every text that it is given is escaped here.
"""

import dataclasses
import html
import math

from experiments.sweep.measures import ARROWS, columns, group_mean, show
from experiments.sweep.summary import Summary, distinguishing

# The colours of Okabe & Ito without their yellow, and as many again: most eyes tell them apart, on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#7a5195", "#e69f00", "#3aa0d8", "#7f5539", "#4d4d4d", "#9a031e")
COLORS = (*COLORS, "#5f8a00", "#1b2a6b", "#b5838d", "#2f6f6f", "#a3a300", "#ff6b6b")
DASHES = ("solid", "dash", "dot", "dashdot")
POINTS = 240
# Settings that only say how many network evaluations a sampler takes: along a line only these change.
COUNTS = ("sampler.num_steps", "sampler.num_levels", "under.num_steps", "sampler.rtol", "sampler.atol")


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of the page.

    Attributes:
        name: an identifier.
        views: {label: {"data": traces, "layout": layout}}.
        note: plain text that follows the caption.
    """

    name: str
    views: dict
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Style:
    """How each group's lines are drawn.

    Attributes:
        colors, dashes: the colour and the dash of each group.
        dashed: the field that the dash stands for, or None.
        meaning: {value of that field as text: dash}.
    """

    colors: tuple[str, ...]
    dashes: tuple[str, ...]
    dashed: str | None
    meaning: dict


def style(summary: Summary) -> Style:
    """Gives each group a colour; where several fields differ, the dash stands for the one with the fewest values."""
    fields = summary.telling

    def values(field):
        return dict.fromkeys(str(group.overrides.get(field)) for group in summary.groups)

    few = [field for field in fields if 2 <= len(values(field)) <= len(DASHES)]
    dashed = min(few, key=lambda field: len(values(field))) if len(fields) > 1 and few else None
    meaning = dict(zip(values(dashed), DASHES, strict=False)) if dashed else {}
    rests = [tuple(str(group.overrides.get(field)) for field in fields if field != dashed) for group in summary.groups]
    place = {rest: index for index, rest in enumerate(dict.fromkeys(rests))}
    return Style(
        colors=tuple(COLORS[place[rest] % len(COLORS)] for rest in rests),
        dashes=tuple(meaning.get(str(group.overrides.get(dashed)), "solid") for group in summary.groups),
        dashed=dashed,
        meaning=meaning,
    )


def figures(summary: Summary) -> list[Figure]:
    """The figures of a sweep, without those for which no run has numbers."""
    lines = _Lines(summary, style(summary))
    made = [_training(lines), _levels(lines), _effective_weight(lines), _metrics(lines), _evaluations(lines)]
    return [figure for figure in made if figure.views]


class _Lines:
    """The traces of all runs, one for each that has points."""

    def __init__(self, summary, drawn):
        self.summary, self.style = summary, drawn
        # (run, index of its group, its place among the group's seeds)
        self.runs = [(run, n, seed) for n, group in enumerate(summary.groups) for seed, run in enumerate(group.runs)]

    def name(self, run, group):
        """The run's name for the hover."""
        seed = f", {run.seed}" if len(self.summary.groups[group].runs) > 1 else ""
        return f"{self.summary.labels[group]}{seed}"

    def view(self, points, x, y, mode="lines"):
        """{"data", "layout"}, or None where no run has points; on a logarithmic axis if all are positive.

        `points` gives a run's (xs, ys).
        """
        data = []
        for run, group, seed in self.runs:
            xs, ys = thinned(*points(run))
            if any(value is not None for value in ys):
                hover = f"{html.escape(x)} %{{x:.4~g}}<br>{html.escape(y)} %{{y:.4~g}}"
                color, dash = self.style.colors[group], self.style.dashes[group]
                made = trace(run.index, self.name(run, group), xs, ys, hover, color, dash, mode)
                data.append(made | {"opacity": 1 if seed == 0 else 0.6})
        if not data:
            return None
        drawn = layout(x, y)
        set_scale(drawn["yaxis"], [value for made in data for value in made["y"] if value is not None])
        return {"data": data, "layout": drawn}


def trace(meta, name, x, y, hover, color, dash="solid", mode="lines"):
    """A trace of Plotly's, drawn in one colour; `hover` is Plotly's template of what stands below the name."""
    runs = meta if isinstance(meta, list) else [meta]
    return {
        "type": "scatter",
        "mode": mode,
        "uid": "".join(f"run{index}-" for index in runs),
        "meta": meta,
        "name": html.escape(name),
        "x": x,
        "y": y,
        "line": {"color": color, "dash": dash, "width": 1.75},
        "marker": {"color": color, "size": 4},
        "hovertemplate": f"<b>{html.escape(name)}</b><br>{hover}<extra></extra>",
    }


def _training(lines):
    quantities = dict.fromkeys(key for run in lines.summary.runs for line in run.curve for key in line)
    names = [key for key in ("loss", *quantities) if key in quantities and key not in ("step", "time")]

    def points(name):
        return lambda run: ([line["step"] for line in run.curve], [number(line.get(name)) for line in run.curve])

    views = {_spaced(name): lines.view(points(name), "step", _spaced(name)) for name in dict.fromkeys(names)}
    return Figure("training", _present(views))


def _levels(lines):
    def points(name):
        return lambda run: (_column(_level_rows(run), "log_snr"), _column(_level_rows(run), name))

    def costs(run):
        rows = ((run.evaluation or {}).get("bound") or {}).get("diffusion_per_level") or []
        return _column(rows, "log_snr"), _column(rows, "cost")

    mode = "lines+markers"
    views = {
        "error in ε": lines.view(points("error"), "log-SNR", "mean squared error in ε", mode),
        "weighted loss": lines.view(points("loss"), "log-SNR", "weight × error", mode),
        "Fisher divergence × σ²": lines.view(points("fisher_scaled"), "log-SNR", "Fisher divergence × σ²", mode),
        "cost in the bound": lines.view(costs, "log-SNR", "cost of a step in the bound", mode),
    }
    return Figure("levels", _present(views))


def _effective_weight(lines):
    def points(run):
        return _column(_level_rows(run), "log_snr"), _column(_level_rows(run), "effective_weight")

    def shape(run):
        xs, ys = points(run)
        largest = max((y for y in ys if y is not None), default=None)
        return xs, [None if y is None or not largest else y / largest for y in ys]

    views = {
        "as trained": lines.view(points, "log-SNR", "effective weight"),
        "largest at 1": lines.view(shape, "log-SNR", "effective weight / its maximum"),
    }
    return Figure("weights", _present(views))


def _metrics(lines):
    """A dot for each run with its own interval, a row for each group."""
    views, floors = {}, []
    for column in columns(lines.summary):
        traces = [_dot(lines, column, run, group) for run, group, _ in lines.runs if column.key in run.measures]
        if len(traces) < 2:
            continue
        title = column.title if column.family == "likelihood" else f"{column.family}: {column.title}"
        arrow = f" {ARROWS[column.better]}" if column.better else ""
        drawn = layout(title + arrow, "")
        values = [made["x"][0] for made in traces]
        if max(values) > 30 * min(values):
            set_scale(drawn["xaxis"], values)
        rows = list(dict.fromkeys(made["y"][0] for made in traces))
        drawn["yaxis"] |= {"type": "category", "categoryarray": rows[::-1], "categoryorder": "array", "ticklen": 4}
        drawn["height"] = max(90 + 22 * len(rows), 320)  # no less than .plot has in page.css
        if (reached := _floor(lines.summary, column)) is not None:
            drawn["shapes"] = [_dotted(reached.value)]
            floors.append((reached, column))
        views[title] = {"data": traces, "layout": drawn}
    return Figure("metrics", views, _of_floors(lines.summary, floors))


def _evaluations(lines):
    """A line for each setting whose groups differ in the number of network evaluations alone."""
    views = {}
    for column in columns(lines.summary):
        if not column.key.endswith(".frechet_distance"):
            continue
        traces = _over_evaluations(lines.summary, column)
        counts = sorted({x for made in traces for x in made["x"]})
        if len(counts) < 2:
            continue
        drawn = layout("network evaluations a sample", f"{column.title} {ARROWS[column.better]}")
        drawn["xaxis"] |= {"type": "log", "tickvals": _apart(counts), "tickformat": ",d"}
        set_scale(drawn["yaxis"], [y for made in traces for y in made["y"]])
        drawn |= {"showlegend": True, "legend": {"font": {"size": 11}, "tracegroupgap": 0}, "height": 460}
        if (reached := _floor(lines.summary, column)) is not None:
            drawn["shapes"] = [_dotted(reached.value, horizontal=True)]
        views[column.family] = {"data": traces, "layout": drawn}
    return Figure("evaluations", views)


def _over_evaluations(summary, column):
    """The traces, in the order of the plan."""
    found = {}
    for group in summary.groups:
        rest = {field: value for field, value in group.overrides.items() if field not in COUNTS}
        _, members = found.setdefault(str(sorted(rest.items())), (rest, []))
        measured, count = group_mean(group.measured(column.key)), group.runs[0].num_evaluations
        if measured is not None and count:
            members.append((count, measured, [run.index for run in group.runs]))
    found = [(rest, sorted(members, key=lambda member: member[0])) for rest, members in found.values() if members]
    fields = distinguishing([rest for rest, _ in found])
    traces = []
    for number, (rest, members) in enumerate(found):
        name = ", ".join(_said(field, rest[field]) for field in fields if field in rest) or "all runs"
        runs = [index for *_, indices in members for index in indices]
        xs, ys = [count for count, *_ in members], [rounded(measured.mean) for _, measured, _ in members]
        color, dash = COLORS[number % len(COLORS)], DASHES[number // len(COLORS) % len(DASHES)]
        hover = f"%{{x}} evaluations<br>{html.escape(column.title)} %{{text}}"
        made = trace(runs, name, xs, ys, hover, color, dash, "lines+markers")
        made["marker"] |= {"size": 6, "symbol": number % 8}
        traces.append(made | {"text": [_spread(measured) for _, measured, _ in members]})
    return traces


def _said(field, value):
    """A setting as text: the name of a sampler or perturbation stands alone, other values after their field's name."""
    section, _, name = field.rpartition(".")
    if name == "name":
        return str(value) if section != "under" else f"under {value}"
    return f"{name} {value}"


def _spread(measured):
    """A mean with its spread over seeds, or the value of a single seed with its interval."""
    if measured.spread is not None:
        return f"{show(measured.mean, measured.spread)} ± {show(measured.spread, measured.spread)}"
    ends = "" if measured.low is None else f" [{show(measured.low)}, {show(measured.high)}]"
    return show(measured.mean) + ends


def _apart(counts):
    """The numbers of evaluations, without those less than a tenth below the next one: ticks that can be read."""
    kept = []
    for count in counts[::-1]:
        if not kept or count * 1.1 < kept[-1]:
            kept.append(count)
    return kept[::-1]


def _dot(lines, column, run, group):
    measure, color = run.measures[column.key], lines.style.colors[group]
    low = measure.value - (measure.value if measure.low is None else measure.low)
    high = (measure.value if measure.high is None else measure.high) - measure.value
    x, y = [rounded(measure.value)], [html.escape(lines.summary.labels[group])]
    made = trace(run.index, lines.name(run, group), x, y, "%{x:.5~g}", color, mode="markers")
    made["marker"] |= {
        "size": 8,
        "symbol": "circle" if lines.style.dashes[group] == "solid" else "circle-open",
        "line": {"width": 1.75, "color": color},
    }
    ends = {"array": [rounded(max(high, 0.0))], "arrayminus": [rounded(max(low, 0.0))], "symmetric": False}
    return made | {"error_x": {"type": "data", **ends, "thickness": 1, "width": 3, "color": color}}


def _floor(summary, column):
    """The measurement of the test data against the training data, if the runs were measured against the same data."""
    measure = summary.floor.get("test against train", {}).get(column.key)
    if measure is None or not measure.value > 0:
        return None
    references = {run.measures[column.key].about.get("reference") for run in summary.runs if column.key in run.measures}
    return measure if references == {measure.about.get("reference")} else None


def _of_floors(summary, floors):
    """A sentence on the dotted lines; `floors` are the (Measurement, Column) of each."""
    if not floors:
        return ""
    texts = {}
    for floor, column in floors:
        about = floor.about
        drawn = {run.measures[column.key].about["num_samples"] for run in summary.runs if column.key in run.measures}
        sizes = " or ".join(f"{size:,}" for size in sorted(drawn))
        text = f"{about['num_samples']:,} of them against {about['num_reference']:,} of {about['reference']}"
        texts[f"{text}, where a run has {sizes} samples"] = None
    return (
        f"The dotted line is what the real test data reach: {'; '.join(texts)}. "
        "Of fewer samples the Fréchet distance is larger."
    )


def _dotted(value, horizontal=False):
    """A line across a figure."""
    along, across = ("x", "y") if horizontal else ("y", "x")
    at = {f"{across}0": value, f"{across}1": value, f"{along}0": 0, f"{along}1": 1, f"{along}ref": "paper"}
    return {"type": "line", **at, "line": {"color": "#5b6675", "width": 1, "dash": "dot"}}


def set_scale(axis, values):
    """Makes an axis logarithmic if all its values are positive: ticks at 0.1, 0.2, 0.5, …, or at some powers of ten."""
    if min(values) > 0:
        decades = math.log10(max(values) / min(values))
        ticks = {"dtick": "D2", "tickformat": "~g"} if decades < 2.5 else {"dtick": math.ceil(decades / 7)}
        axis |= {"type": "log", **ticks}


def layout(x, y):
    """A layout with the axes' titles."""
    return {"xaxis": {"title": {"text": html.escape(x)}}, "yaxis": {"title": {"text": html.escape(y), "standoff": 10}}}


def thinned(xs, ys, limit=POINTS):
    """At most `limit` points, evenly taken, the first and the last among them; numbers to five digits."""
    if len(xs) > limit:
        taken = [round(index * (len(xs) - 1) / (limit - 1)) for index in range(limit)]
        xs, ys = [xs[index] for index in taken], [ys[index] for index in taken]
    return [rounded(x) for x in xs], [rounded(y) for y in ys]


def rounded(value):
    """Five significant digits; whole numbers and None as they are."""
    return value if value is None or isinstance(value, int) else float(f"{value:.5g}")


def number(value):
    """A finite number, else None."""
    return value if isinstance(value, (int, float)) and math.isfinite(value) else None


def _level_rows(run):
    return (run.evaluation or {}).get("levels") or []


def _column(rows, name):
    return [number(row.get(name)) for row in rows]


def _present(views):
    return {label: view for label, view in views.items() if view is not None}


def _spaced(name):
    return {"images_per_second": "images/s"}.get(name, name.replace("_", " "))
