"""The page of a sweep: one HTML file that needs no other file, written anew as runs finish."""

import base64
import collections
import dataclasses
import datetime
import json
from pathlib import Path

import markupsafe
import plotly.offline

from experiments.pages import environment
from experiments.sweep import html_table
from experiments.sweep.figures import figures, style
from experiments.sweep.pictures import Picture, drawn_picture, sample_picture
from experiments.sweep.summary import STATES, collect, short_value, summary_csv
from unified_diffusion.files import write_text
from unified_diffusion.runs.config import flatten


@dataclasses.dataclass(frozen=True)
class Shown:
    """A picture of the page, with its run's place in the plan, a label, and a small line below the label."""

    index: int
    picture: Picture
    label: str
    small: str


def write_page(directory):
    """Writes index.html into a sweep's folder, whole or not at all."""
    write_text(Path(directory) / "index.html", page(collect(directory)))


def page(summary) -> str:
    """Returns the whole HTML document; page.html has its words."""
    filters = {"plural": _plural, "minute": _minute, "short": short_value, "paragraphs": _paragraphs}
    heads, drawn, samples = html_table.heads(summary), figures(summary), _samples(summary)
    counts = collections.Counter(run.state for run in summary.runs)
    template = environment("experiments.sweep", **filters).get_template("page.html")
    return template.render(
        summary=summary,
        title=summary.facts.get("title") or f"Sweep of {summary.facts.get('config') or summary.directory.name}",
        states=", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]),
        now=datetime.datetime.now(datetime.UTC).isoformat(),
        style=style(summary),
        heads=heads,
        families=html_table.families(summary, heads),
        fields=[[short_value(group.runs[0].setting(field)) for field in summary.telling] for group in summary.groups],
        real_sizes=html_table.real_sizes,
        features=_features(summary),
        notes=_notes(summary),
        published_sources=html_table.published_sources(summary),
        figures=drawn,
        samples=samples,
        sample_seeds=list({(summary.runs[shown.index].samples or {}).get("seed") for shown in samples}),
        neighbours=_neighbours(summary),
        settings=_settings(summary),
        origin=_origin(summary),
        csv=base64.b64encode(summary_csv(summary).encode()).decode(),
        data={
            "runs": [run.name for run in summary.runs],
            "figures": {figure.name: figure.views for figure in drawn},
        },
        plotly=markupsafe.Markup(plotly.offline.get_plotlyjs()),
    )


def _plural(number, noun):
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _minute(text):
    """An ISO time to the minute, in UTC; other text as it is."""
    try:
        return datetime.datetime.fromisoformat(text).astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return text


def _paragraphs(text):
    return [part.strip() for part in text.split("\n\n") if part.strip()]


def _features(summary):
    """[(name, facts as text)] of the features that the evaluations used, each once."""
    found = {}
    for run in summary.runs:
        for row in (run.evaluation or {}).get("features") or []:
            parts = [f"{row['dimension']:,} dimensions"] if row.get("dimension") else []
            parts += [f"test accuracy {row['accuracy']:.1%}"] if row.get("accuracy") is not None else []
            parts += [str(row["note"])] if row.get("note") else []
            parts += [f"fingerprint {row['fingerprint']}"] if row.get("fingerprint") else []
            found[str(row["name"]), ", ".join(parts)] = None
    return list(found)


def _notes(summary):
    """[(names of runs, note)] of the evaluations, each note once; without names where all evaluations have the note."""
    measured = [run for run in summary.runs if run.evaluation is not None]
    found = {}
    for run in measured:
        for note in dict.fromkeys(map(str, run.evaluation.get("notes") or [])):
            found.setdefault(note, []).append(run.name)
    return [([] if len(names) == len(measured) else names, note) for note, names in found.items()]


def _samples(summary):
    """The first samples of every run that has some."""
    found = []
    for run in summary.runs:
        if picture := sample_picture(run.directory):
            small = f"{run.num_evaluations:,} evaluations" if run.num_evaluations else ""
            found.append(_shown(summary, run, picture, small))
    return found


def _neighbours(summary):
    """The nearest training examples of samples, of the first seed of each setting that has them."""
    found = []
    for group in summary.groups:
        for run in group.runs:
            facts = (run.evaluation or {}).get("neighbours") or {}
            if facts.get("picture") and (picture := drawn_picture(run.directory / facts["picture"])):
                found.append(_shown(summary, run, picture, _distances(facts)))
                break
    return found


def _distances(facts):
    """The numbers of the neighbours in eval.json, as text."""
    names = {"distance_median": "median distance of samples", "distance_of_test_median": "of test data"}
    known = [f"{title} {facts[name]:.4g}" for name, title in names.items() if isinstance(facts.get(name), (int, float))]
    unit = f", {facts['unit']}" if known and facts.get("unit") else ""
    share = facts.get("share_nearer")
    nearer = f"; nearer than a test example in {share:.0%} of pairs" if isinstance(share, (int, float)) else ""
    return ", ".join(known) + unit + nearer


def _shown(summary, run, picture, small):
    group = next(label for label, group in zip(summary.labels, summary.groups, strict=True) if run in group.runs)
    seed = f", seed {run.overrides['seed']}" if "seed" in run.overrides else ""
    return Shown(run.index, picture, f"{group}{seed}", small)


def _settings(summary):
    """The fields in which the complete configs differ, each group's config, and as text what all runs share.

    None where the configs of fewer than two runs are known, unless there is but one run.
    """
    flat = {run.name: flatten(run.config) for run in summary.runs if run.config}
    if len(flat) < min(2, len(summary.runs)):
        return None
    fields = list(dict.fromkeys(field for config in flat.values() for field in config))
    kinds = {field: {json.dumps(config.get(field, "–")) for config in flat.values()} for field in fields}
    first = [next((flat[run.name] for run in group.runs if run.name in flat), None) for group in summary.groups]
    return {
        "fields": [field for field in fields if len(kinds[field]) > 1 and field != "seed"],
        "rows": [(label, config) for label, config in zip(summary.labels, first, strict=True) if config is not None],
        "common": "\n".join(f"{field} = {min(kinds[field])}" for field in fields if len(kinds[field]) == 1),
    }


def _origin(summary):
    """{what: values of it, each once}: the devices and the versions that the runs were made with."""
    versions = [run.facts["versions"] for run in summary.runs if run.facts.get("versions")]
    return {
        "Device": dict.fromkeys(str(run.facts["device"]) for run in summary.runs if run.facts.get("device")),
        "Versions": dict.fromkeys(", ".join(f"{name} {version}" for name, version in row.items()) for row in versions),
    }
