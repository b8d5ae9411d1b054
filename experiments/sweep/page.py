"""The page of a sweep: one HTML file that needs nothing else, written anew as runs finish."""

import base64
import datetime
import html
import json
import string
from importlib import resources
from pathlib import Path

import plotly.offline

from experiments.sweep.figures import figures
from experiments.sweep.pictures import drawn_picture, sample_picture
from experiments.sweep.results import dash_legend, published_sources, state, table
from experiments.sweep.summary import collect, short_value, summary_csv, write_text
from unified_diffusion.runs.config import flatten

STATES = ("finished", "running", "waiting", "interrupted", "failed")
RULES = (
    "A number is the mean over seeds, ± their standard deviation; of a single seed it is the value, with the 95 % "
    "interval over the samples or examples measured, which knows nothing of other seeds.",
    "<b>Bold</b> is the best mean, where it leads each other one by more than Student's 97.5 % point times the "
    "standard error of the difference (Welch's: 4.3 standard errors for two seeds against two, 2.0 for many). A "
    "standard error over seeds is not taken smaller than the intervals of the runs say. Where nothing is bold, nothing "
    "is known to be best, or not all were measured in one way. Of runs with a single seed, bold says that this network "
    "is better, not that its setting is.",
    "The test error is never bold: the mean over one ladder's noise levels is not that over another's.",
)


def write_page(directory):
    """Writes index.html into a sweep's folder, whole or not at all."""
    write_text(Path(directory) / "index.html", page(collect(directory)))


def page(summary) -> str:
    """The whole document."""
    drawn = figures(summary)
    data = {
        "runs": [run.name for run in summary.runs],
        "figures": {figure.name: figure.views for figure in drawn},
    }
    sections = [
        _alarm(summary),
        _results(summary),
        _figures(drawn),
        _samples(summary),
        _neighbours(summary),
        _settings(summary),
        _unfinished(summary),
        _origin(summary),
    ]
    return string.Template(_asset("page.html")).substitute(
        title=html.escape(_title(summary)),
        note=_paragraphs(summary.facts.get("note") or ""),
        facts=_facts(summary),
        sections="\n".join(section for section in sections if section),
        style=_asset("page.css"),
        script=_asset("page.js"),
        plotly=plotly.offline.get_plotlyjs(),
        data=json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _asset(name):
    return resources.files("experiments.sweep").joinpath(name).read_text(encoding="utf-8")


def _title(summary):
    return str(summary.facts.get("title") or f"Sweep of {summary.facts.get('config') or summary.directory.name}")


def _paragraphs(text):
    parts = [part.strip() for part in str(text).split("\n\n")]
    return "\n".join(f"<p>{html.escape(part)}</p>" for part in parts if part)


def _facts(summary):
    counts = {name: sum(run.state == name for run in summary.runs) for name in STATES}
    states = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none yet"
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    parts = [f"{_plural(len(summary.runs), 'run')} of {_plural(len(summary.groups), 'setting')}: {states}"]
    parts += [html.escape(f"started {_minute(summary.facts['started'])}")] if summary.facts.get("started") else []
    parts += [f"this page is of {now}"]
    return " · ".join(parts)


def _minute(text):
    """An ISO time to the minute, in UTC; other text as it is."""
    try:
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def _plural(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _alarm(summary):
    broken = [run for run in summary.runs if run.state in ("failed", "interrupted")]
    if not broken:
        return ""
    return f'<p class="alarm">{_plural(len(broken), "run")} did not finish: <a href="#unfinished">see below</a>.</p>'


def _results(summary):
    if not summary.runs:
        return "<p>There are no runs yet.</p>"
    rules = RULES if any(run.measures for run in summary.runs) else ()
    notes = [*rules, dash_legend(summary), *_feature_notes(summary)]
    notes += [f"Published: {html.escape(source)}." for source in published_sources(summary) if source]
    items = "".join(f"<li>{note}</li>" for note in notes if note)
    return f'{table(summary)}\n<div class="notes"><ul>{items}</ul></div>'


def _feature_notes(summary):
    """What the features are, and what the evaluations had to say, each once."""
    found = {}
    for run in summary.runs:
        for row in (run.evaluation or {}).get("features") or []:
            parts = [f"{row['dimension']:,} dimensions"] if row.get("dimension") else []
            parts += [f"test accuracy {row['accuracy']:.1%}"] if row.get("accuracy") is not None else []
            parts += [str(row["note"])] if row.get("note") else []
            parts += [f"fingerprint {row['fingerprint']}"] if row.get("fingerprint") else []
            found[f"Features <i>{html.escape(str(row['name']))}</i>: {html.escape(', '.join(parts))}."] = None
    return [*found, *_evaluation_notes(summary)]


def _evaluation_notes(summary):
    """What the evaluations had to say, each line once; after the names of its runs, if it is not of all."""
    measured = [run for run in summary.runs if run.evaluation is not None]
    said = {}
    for run in measured:
        for note in dict.fromkeys(map(str, run.evaluation.get("notes") or [])):
            said.setdefault(note, []).append(f"<code>{html.escape(run.name)}</code>")
    return [
        html.escape(note) if len(names) == len(measured) else f"{', '.join(names)}: {html.escape(note)}"
        for note, names in said.items()
    ]


def _figures(drawn):
    if not drawn:
        return ""
    parts = []
    for figure in drawn:
        options = "".join(f"<option>{html.escape(label)}</option>" for label in figure.views)
        select = f'<select aria-label="what {html.escape(figure.title)} shows">{options}</select>'
        parts.append(
            f'<section class="figure" data-figure="{figure.name}"><div class="head">'
            f"<h3>{html.escape(figure.title)}</h3>{select}</div>"
            f'<div class="plot"></div><p class="caption">{html.escape(figure.caption)}</p></section>'
        )
    return f'<h2 id="figures">Curves</h2>\n<div class="figures">{"".join(parts)}</div>'


def _samples(summary):
    """Every run's first samples."""
    shown = [(index, run, sample_picture(run.directory)) for index, run in enumerate(summary.runs)]
    parts = [_picture(summary, index, run, picture) for index, run, picture in shown if picture is not None]
    if not parts:
        return ""
    seeds = {(run.samples or {}).get("seed") for _, run, picture in shown if picture is not None}
    same = (
        f"The same noise for every run (sampling.seed = {html.escape(str(seeds.pop()))}): pictures in one place "
        "are to be compared."
        if len(seeds) == 1
        else "Not from the same noise: sampling.seed differs."
    )
    return f'<h2 id="samples">Samples</h2>\n<p class="caption">The first of each run. {same}</p>\n{_gallery(parts)}'


def _neighbours(summary):
    """The nearest training examples of samples, of each setting's first seed."""
    parts = []
    for group in summary.groups:
        for run in group.runs:
            found = (run.evaluation or {}).get("neighbours") or {}
            picture = drawn_picture(run.directory / found["picture"]) if found.get("picture") else None
            if picture is not None:
                parts.append(_picture(summary, summary.runs.index(run), run, picture, _distances(found)))
                break
    if not parts:
        return ""
    unfolded = " open" if len(parts) <= 4 else ""
    return (
        '<h2 id="neighbours">Nearest training examples</h2>\n<p class="caption">Samples beside the training examples '
        "nearest to them, of one seed for each setting. Samples that lie much nearer to the training data than test "
        f"data do have been memorised.</p>\n<details{unfolded}><summary>{_plural(len(parts), 'setting')}</summary>"
        f"{_gallery(parts, 'large')}</details>"
    )


def _distances(found):
    """The numbers of eval.json's neighbours, as text."""
    names = {"distance_median": "median distance of samples", "distance_of_test_median": "of test data"}
    known = [f"{title} {found[name]:.4g}" for name, title in names.items() if isinstance(found.get(name), (int, float))]
    unit = f", {found['unit']}" if known and found.get("unit") else ""
    share = found.get("share_nearer")
    nearer = f"; nearer than a test example in {share:.0%} of pairs" if isinstance(share, (int, float)) else ""
    return ", ".join(known) + unit + nearer


def _picture(summary, index, run, picture, more=""):
    group = next(number for number, group in enumerate(summary.groups) if run in group.runs)
    label = html.escape(summary.labels[group], quote=True)
    seed = f", seed {html.escape(str(run.overrides['seed']))}" if "seed" in run.overrides else ""
    count = f"{run.num_evaluations:,} evaluations" if run.num_evaluations else ""
    small = f"<small>{html.escape(more or count)}</small>" if more or count else ""
    kind = ' class="pixelated"' if picture.pixelated else ""
    return (
        f'<figure data-run="{index}"><img{kind} width="{picture.width}" height="{picture.height}" '
        f'src="{picture.uri}" alt="{label}{seed}"><figcaption>{label}{seed}{small}</figcaption></figure>'
    )


def _gallery(parts, kind=""):
    return f'<div class="pictures {kind}">{"".join(parts)}</div>'


def _settings(summary):
    """The fields in which the runs' complete configs differ, and folded below them those that they share."""
    flat = {run.name: flatten(run.config) for run in summary.runs if run.config}
    if len(flat) < min(2, len(summary.runs)):
        return ""
    fields = list(dict.fromkeys(field for config in flat.values() for field in config))
    kinds = {field: {json.dumps(config.get(field, "–")) for config in flat.values()} for field in fields}
    differing = [field for field in fields if len(kinds[field]) > 1 and field != "seed"]
    common = "\n".join(
        f"{field} = {json.dumps(next(iter(flat.values()))[field])}" for field in fields if len(kinds[field]) == 1
    )
    return (
        f'<h2 id="settings">Settings</h2>\n{_difference_table(summary, flat, differing)}'
        f"<details><summary>What all runs have in common</summary><pre>{html.escape(common)}</pre></details>"
    )


def _difference_table(summary, flat, fields):
    if not fields:
        return "<p>The runs differ in nothing but their seeds.</p>" if len(summary.runs) > 1 else ""
    head = "".join(f'<th scope="col"><code>{html.escape(field)}</code></th>' for field in fields)
    rows = []
    for label, group in zip(summary.labels, summary.groups, strict=True):
        config = next((flat[run.name] for run in group.runs if run.name in flat), None)
        if config is None:
            continue
        cells = "".join(f"<td>{html.escape(short_value(config[f])) if f in config else '–'}</td>" for f in fields)
        rows.append(f'<tr><th scope="row" class="run">{html.escape(label)}</th>{cells}</tr>')
    return (
        '<div class="wide"><table class="settings"><thead><tr><th scope="col" class="run">setting</th>'
        f"{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def _unfinished(summary):
    """The runs that have started and not finished, and the last lines that the failed ones said."""
    parts = []
    for run in summary.runs:
        if run.state in ("finished", "waiting"):
            continue
        attempts = run.facts.get("attempts")
        tried = f", {_plural(attempts, 'attempt')}" if isinstance(attempts, int) and attempts else ""
        log = run.facts.get("error")
        log = "\n".join(map(str, log)) if isinstance(log, list) else log
        tail = f"<pre>{html.escape(str(log))}</pre>" if log else ""
        parts.append(f"<li><code>{html.escape(run.name)}</code>: {state(run)}{tried}{tail}</li>")
    waiting = sum(run.state == "waiting" for run in summary.runs)
    parts += [f"<li>{_plural(waiting, 'run')} waiting</li>"] if waiting else []
    return f'<h2 id="unfinished">Not finished</h2>\n<ul>{"".join(parts)}</ul>' if parts else ""


def _origin(summary):
    """How the page was made, and its numbers as a file."""
    text = base64.b64encode(summary_csv(summary).encode()).decode()
    link = f'<a download="summary.csv" href="data:text/csv;charset=utf-8;base64,{text}">Download summary.csv</a>'
    command = summary.facts.get("command") or ""
    command = " ".join(map(str, command)) if isinstance(command, list) else str(command)
    devices = dict.fromkeys(str(run.facts["device"]) for run in summary.runs if run.facts.get("device"))
    versions = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in run.facts["versions"].items())
        for run in summary.runs
        if run.facts.get("versions")
    )
    facts = "".join(
        f"<p>{title}: {html.escape('; '.join(values))}</p>"
        for title, values in (("Device", devices), ("Versions", versions))
        if values
    )
    shared = any(run.trained_in for run in summary.runs)
    note = "<p>Runs that differ only in sampling and evaluation share one training.</p>" if shared else ""
    return (
        f'<h2 id="origin">How it was made</h2>\n<pre>{html.escape(command)}</pre>\n'
        f'<div class="notes">{note}{facts}<p>{link}, one row for each run.</p></div>'
    )
