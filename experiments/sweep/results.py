"""The page's table: a row for each setting, with its mean and spread over seeds, and below it a row for each seed."""

import dataclasses
import html
import json

from experiments.sweep.figures import style
from experiments.sweep.measures import ARROWS, FEATURES, NO_FEATURES, Estimate, best, columns, estimate, show
from experiments.sweep.summary import Group, Measure, Run, short_value

SVG_DASHES = {"solid": "none", "dash": "6 3", "dot": "2 2.5", "dashdot": "6 2.5 2 2.5"}


@dataclasses.dataclass(frozen=True)
class Head:
    """A column of the page's table.

    Attributes:
        key: an identifier.
        title: HTML.
        family: what stands above it and can be hidden as one.
        group: Group -> (value to sort by, or None; the cell's HTML).
        run: Run -> the cell's HTML, in a seed's row.
        floor: {key: Measure} -> the cell's HTML, in a row of the floor.
        below: HTML below the title.
    """

    key: str
    title: str
    family: str
    group: object
    run: object
    floor: object
    below: str = ""


def table(summary) -> str:
    """The table, and the switches above it."""
    heads = [*_measured(summary), *_costs(summary)]
    families = list(dict.fromkeys(head.family for head in heads))
    drawn = style(summary)
    bodies = [_body(summary, heads, drawn, index) for index in range(len(summary.groups))]
    floor = "".join(_floor_row(heads, what, measures) for what, measures in summary.floor.items())
    return (
        f"{_bar(summary, families)}\n"
        f'<div class="wide" tabindex="0"><table id="table">\n{_head(summary, heads, families)}\n'
        f"{''.join(bodies)}\n<tfoot>{floor}</tfoot></table></div>"
    )


def dash_legend(summary):
    """What the dashes mean, as HTML; empty if they mean nothing."""
    drawn = style(summary)
    if drawn.dashed is None:
        return ""
    meanings = ", ".join(
        f"{_swatch('#5b6675', dash)} {html.escape(short_value(value))}" for value, dash in drawn.meaning.items()
    )
    return f"Line style, <code>{html.escape(drawn.dashed)}</code>: {meanings}."


def published_sources(summary):
    """The sources of published figures that stand in the table, each once."""
    rows = summary.facts.get("published") or []
    used = [row for row in rows if any(_matches(row, group) for group in summary.groups)]
    return list(dict.fromkeys(str(row.get("source", "")) for row in used))


def _measured(summary):
    """The heads of what was measured, each followed by what was published of it."""
    published = {}
    for row in summary.facts.get("published") or []:
        published.setdefault(str(row["metric"]), []).append(row)
    heads = []
    for column in columns(summary):
        heads.append(_metric_head(summary, column))
        if column.key in published:
            heads.append(_published_head(column.key, column.family, published.pop(column.key)))
    return [*heads, *(_published_head(metric, "published", rows) for metric, rows in published.items())]


def _metric_head(summary, column):
    estimates = [estimate(group.measured(column.key)) for group in summary.groups]
    winner = best(estimates, column.better) if _comparable(summary, column) else None
    place = {id(group): index for index, group in enumerate(summary.groups)}
    whole_family = len(_counts(summary, column.family + ".")) <= 1
    counts = {} if whole_family else _counts(summary, column.key)

    def of_group(group):
        found = estimates[place[id(group)]]
        if found is None:
            return None, "–"
        about = _about(group.measured(column.key)) if len(counts) > 1 else ""
        cell = _estimate_cell(found, place[id(group)] == winner)
        return found.mean, cell + _of_seeds(found.count, group) + about

    def of_run(run):
        measure = run.measures.get(column.key)
        return "–" if measure is None else _estimate_cell(estimate([measure]), False)

    def of_floor(measures):
        measure = measures.get(column.key)
        if measure is None:
            return ""
        own = f"<small>{_sizes(measure)}</small>" if len(set(map(_sizes, measures.values()))) > 1 else ""
        return show(measure.value, measure.error) + own

    arrow = f" {ARROWS[column.better]}" if column.better else ""
    small = f"<small>{html.escape(next(iter(counts)))}</small>" if len(counts) == 1 else ""
    return Head(column.key, html.escape(column.title) + arrow, column.family, of_group, of_run, of_floor, small)


def _published_head(metric, family, rows):
    def of_group(group):
        values = [row["value"] for row in rows if _matches(row, group)]
        if not values:
            return None, "–"
        number = next((value for value in values if isinstance(value, (int, float))), None)
        return number, html.escape(", ".join(str(value) for value in values))

    title = html.escape(metric.rsplit(".", 1)[-1].replace("_", " ") if "." in metric else metric)
    return Head(f"published {metric}", f"published {title}", family, of_group, lambda run: "", lambda measures: "")


def _matches(row, group):
    return all(group.runs[0].setting(field) == value for field, value in row.get("match", {}).items())


def _costs(summary):
    """The heads of what the runs cost."""

    def mean(get, show_value, note=lambda runs: ""):
        def of_group(group):
            values = [value for value in map(get, group.runs) if value is not None]
            if not values:
                return None, "–"
            average = sum(values) / len(values)
            return average, show_value(average) + _of_seeds(len(values), group) + note(group.runs)

        return of_group, lambda run: "–" if get(run) is None else show_value(get(run)) + note([run])

    def shared(runs):
        return "<small>with a shared training</small>" if any(run.trained_in for run in runs) else ""

    def whole(value):
        return f"{value:,.0f}"

    quantities = {
        "evaluations": ("evalua&shy;tions a sample", lambda run: run.num_evaluations, whole),
        "seconds": ("wall time", summary.seconds, duration, shared),
        "speed": ("training images/s", lambda run: run.facts.get("images_per_second"), whole),
    }
    return [
        Head(key, title, "cost", *mean(get, *shown), lambda measures: "")
        for key, (title, get, *shown) in quantities.items()
        if any(get(run) is not None for run in summary.runs)
    ]


def _bar(summary, families):
    """Above the table: what is to be seen of it."""
    metrics = [family for family in families if family not in NO_FEATURES]
    first = next((name for name in FEATURES if name in metrics), metrics[0] if metrics else None)
    boxes = "".join(
        f'<label><input type="checkbox" data-family="{_attribute(name)}"{" checked" if name == first else ""}>'
        f"{html.escape(name)}</label>"
        for name in metrics
    )
    features = f"<span>Features:</span>{boxes}" if len(metrics) > 1 else ""
    everything = " ".join(str(index) for index in range(len(summary.runs)))
    return (
        f'<div class="bar"><label><input type="checkbox" checked data-runs="{everything}">all runs</label>'
        f'{features}<span class="right">A header sorts; a box shows or hides its run in every figure.</span></div>'
    )


def _head(summary, heads, families):
    fields = "".join(
        f'<span class="fields">{_sorter("field", number, html.escape(field))}</span>'
        for number, field in enumerate(summary.telling)
    )
    first = f'<th rowspan="2" scope="col" class="run">{fields or _sorter("plan", "", "run")}</th>'
    above = "".join(
        f'<th class="family" scope="colgroup" data-of="{_attribute(family)}" '
        f'colspan="{sum(head.family == family for head in heads)}"><span>{html.escape(family)} '
        f"<small>{html.escape(_family_note(summary, family))}</small></span></th>"
        for family in families
    )
    titles = "".join(
        f'<th class="n" scope="col" data-of="{_attribute(head.family)}">'
        f"{_sorter('column', head.key, head.title)}{head.below}</th>"
        for head in heads
    )
    return f"<thead><tr>{first}{above}</tr><tr>{titles}</tr></thead>"


def _sorter(by, key, title):
    return f'<button type="button" data-by="{by}" data-key="{_attribute(key)}">{title}</button>'


def _family_note(summary, family):
    """What all numbers of a family were measured with: reference and counts, or the bound's chain."""
    if family == "likelihood":
        bounds = [run.evaluation["bound"] for run in summary.runs if "bound" in run.measures]
        kinds = {(bound.get("num_steps"), bound.get("num_examples")) for bound in bounds}
        if len(kinds) != 1:
            return ""
        steps, examples = kinds.pop()
        return f"bound of {steps:,} steps on {examples:,} test examples" if steps and examples else ""
    if family == "neighbours":
        return "½: as test data are, 1: copies"
    counts = _counts(summary, family + ".")
    return next(iter(counts), "") if len(counts) < 2 else "samples and reference below"


def _comparable(summary, column):
    """Whether a column's numbers were all measured in one way: the same counts, and reference or chain."""
    if column.key == "bound":
        return len({json.dumps(run.measures["bound"].about) for run in summary.runs if "bound" in run.measures}) <= 1
    return len(_counts(summary, column.key)) <= 1


def _of_seeds(count, group):
    """How many of a group's seeds a mean is over, where that is not all of them."""
    return "" if count == len(group.runs) else f"<small>{count} of {len(group.runs)} seeds</small>"


def _counts(summary, start):
    """The different ways in which the metrics whose keys start so were measured, as text.

    To take no reference is not another way.
    """
    measures = [m for run in summary.runs for key, m in run.measures.items() if key.startswith(start)]
    found = dict.fromkeys(describe(measure) for measure in measures)
    return {text: None for text in found if not any(other.startswith(f"{text} against") for other in found)}


def describe(measure: Measure) -> str:
    """The samples and the reference that a metric was measured with."""
    about = measure.about
    samples, reference, size = about.get("num_samples"), about.get("reference"), about.get("num_reference")
    drawn = f"{samples:,} samples" if isinstance(samples, int) else ""
    against = f"{reference}{f' ({size:,})' if isinstance(size, int) else ''}" if reference and size != 0 else ""
    return " against ".join(part for part in (drawn, against) if part)


def _about(measures):
    return "".join(f"<small>{html.escape(text)}</small>" for text in dict.fromkeys(map(describe, measures)) if text)


def _estimate_cell(found: Estimate, bold):
    """Mean and standard deviation over seeds, or a single seed's value and interval."""
    scale = None if found.variance is None else (found.variance * found.count) ** 0.5
    mean = show(found.mean, scale)
    mean = f"<b>{mean}</b>" if bold else mean
    if found.spread is not None:
        return f"{mean}<small>± {show(found.spread, found.spread)}</small>"
    if found.low is None or found.high is None:
        return mean
    return f"{mean}<small>[{show(found.low, scale)}, {show(found.high, scale)}]</small>"


def _body(summary, heads, drawn, index):
    """A group's row, and those of its seeds."""
    group = summary.groups[index]
    places = {run.name: place for place, run in enumerate(summary.runs)}
    swatch = _swatch(drawn.colors[index], drawn.dashes[index])
    runs = " ".join(str(places[run.name]) for run in group.runs)
    fields = [short_value(value) for value in (group.runs[0].setting(field) for field in summary.telling)]
    cells = []
    for head in heads:
        value, cell = head.group(group)
        sortable = "" if value is None else repr(float(value))
        cells.append(
            f'<td class="n" data-column="{_attribute(head.key)}" data-value="{sortable}"{_of(head)}>{cell}</td>'
        )
    seeds = _seed_rows(heads, group, places, swatch) if len(group.runs) > 1 else ""
    return (
        f'<tbody data-group="{index}" data-fields="{_attribute(json.dumps(fields))}"><tr class="group">'
        f'<th scope="row" class="run"><label><input type="checkbox" checked data-runs="{runs}">{swatch}'
        f'<span>{html.escape(summary.labels[index])}</span></label><span class="below">{_below(group)}</span></th>'
        f"{''.join(cells)}</tr>{seeds}</tbody>\n"
    )


def _below(group: Group):
    """Below a group's name: its seeds, and what has not finished."""
    parts = []
    if len(group.runs) > 1:
        parts.append(f'<button type="button" class="expand" aria-expanded="false">{len(group.runs)} seeds</button>')
    elif "seed" in group.runs[0].overrides:
        parts.append(f"seed {html.escape(str(group.runs[0].overrides['seed']))}")
    unfinished = dict.fromkeys(state(run) for run in group.runs if run.state != "finished")
    return ", ".join([*parts, *unfinished])


def _seed_rows(heads, group, places, swatch):
    rows = []
    for run in group.runs:
        cells = "".join(f'<td class="n"{_of(head)}>{head.run(run)}</td>' for head in heads)
        below = "" if run.state == "finished" else f'<span class="below">{state(run)}</span>'
        rows.append(
            f'<tr class="seed" hidden><th scope="row" class="run"><label><input type="checkbox" checked '
            f'data-runs="{places[run.name]}">{swatch}<span>{html.escape(run.seed)}</span>'
            f"</label>{below}</th>{cells}</tr>"
        )
    return "".join(rows)


def state(run: Run) -> str:
    """A run's state as HTML, with how far its training has come."""
    step, steps = run.progress
    far = f" {step:,} / {steps:,}" if run.state == "running" and step and steps else ""
    return f'<span class="state {_attribute(run.state)}">{html.escape(run.state)}{far}</span>'


def _floor_row(heads, what, measures):
    cells = "".join(f'<td class="n"{_of(head)}>{head.floor(measures)}</td>' for head in heads)
    sizes = set(map(_sizes, measures.values()))
    below = f"real, {sizes.pop()}" if len(sizes) == 1 else "real"
    return f'<tr><th scope="row" class="run">{html.escape(what)}<span class="below">{below}</span></th>{cells}</tr>\n'


def _sizes(measure):
    """How many examples of real data were compared with how many: `749 against 749`."""
    sizes = [measure.about.get(name) for name in ("num_samples", "num_reference")]
    return " against ".join(f"{size:,}" for size in sizes if isinstance(size, int))


def _of(head):
    return f' data-of="{_attribute(head.family)}"'


def _swatch(color, dash):
    """A piece of a group's line."""
    return (
        '<svg width="22" height="8" aria-hidden="true"><line x1="0" y1="4" x2="22" y2="4" '
        f'stroke="{color}" stroke-width="2.5" stroke-dasharray="{SVG_DASHES[dash]}"/></svg>'
    )


def duration(seconds):
    """A time as people say it: 48 s, 1.6 min, 25 min, 2.4 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.{1 if seconds < 600 else 0}f} min"
    return f"{seconds / 3600:.1f} h"


def _attribute(text):
    return html.escape(str(text), quote=True)
