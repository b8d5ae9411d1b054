"""The plan of a sweep: overrides from grids and a file become named runs, which are checked before any starts."""

import collections
import collections.abc
import dataclasses
import hashlib
import itertools
import json
import re
import sys
from pathlib import Path

import jax
from tqdm import tqdm

from experiments.sweep.jobs import PlannedRun
from experiments.sweep.record import is_trained, trains
from unified_diffusion.errors import UserError
from unified_diffusion.registry import choose, suggest
from unified_diffusion.runs import config as configs
from unified_diffusion.runs.build import create, data_facts, load_data, outline
from unified_diffusion.runs.folder import check_claim, has_checkpoints, training_folder
from unified_diffusion.runs.sections import build

_SWEEPS = Path(__file__).parents[1] / "sweeps"
# Characters of a folder's name; most file systems take 255 bytes, and some files in it are named after it.
_LONGEST_NAME = 120
# The names that a sweep file may set beside its runs, and the keys of a published figure, with their defaults.
_ABOUT = {"TITLE": "", "NOTE": "", "CONFIG": {}, "PUBLISHED": []}
_FIGURE = {"match": {}, "metric": None, "value": None, "source": ""}


@dataclasses.dataclass(frozen=True)
class Plan:
    """All runs of a sweep, in order, and what its file says of it.

    `merged` has a line for each run that is left out because another one is equal.
    """

    runs: tuple[PlannedRun, ...]
    title: str
    note: str
    published: list
    merged: tuple[str, ...] = ()


def make_plan(config_name, overrides, grids=(), sweep_name=None, only=(), directory=None):
    """The plan of a command line.

    Args:
        config_name: the config file of all runs.
        overrides: pairs of a field and its value as text, for all runs.
        grids: "FIELD=a,b" each; every combination is a run.
        sweep_name: a file with `get_sweep()`, whose every entry is combined with every one of the grids'. Its `CONFIG`
            holds overrides of all runs, which are in no name and yield to `overrides`.
        only: "FIELD=a,b" each; runs whose field the sweep or a grid sets to something else are left out.
        directory: the folder with the runs' folders, where some may be trained already; None if there is none.

    Raises:
        UserError: an unknown file, field or value, or a field that is set twice.
    """
    file = configs.read_config(config_name)
    entries, about = _read_sweep(sweep_name) if sweep_name else ([{}], _ABOUT)
    axes = [parse_grid(grid) for grid in grids]
    _check_set_once(overrides, entries, [field for field, _ in axes])
    common = [*about["CONFIG"].items(), *overrides]
    chosen = [_choice(text, entries, axes) for text in only]
    runs, merged, names, known = [], [], set(), {}
    for entry, *values in itertools.product(entries, *(values for _, values in axes)):
        own = {**entry, **{field: value for (field, _), value in zip(axes, values, strict=True)}}
        if not all(_spelled(own[field]) in values for field, values in chosen if field in own):
            continue
        pairs = [*common, *own.items()]
        try:
            config = configs.resolve(file, pairs)
        except UserError as error:
            raise UserError(f"run {run_name(own)}: {error}") from None
        key = json.dumps(config, sort_keys=True)
        if key in known:
            merged.append(f"{run_name(own)} is the same run as {known[key]}: it is done once")
            continue
        name = run_name(own, names)
        names.add(name.casefold())
        known[key] = name
        source = {"config": config_name, "settings": file, "overrides": [list(pair) for pair in pairs]}
        own = json.loads(json.dumps({field: configs.literal(value) for field, value in own.items()}))
        runs.append(PlannedRun(name, own, config, json.loads(json.dumps(source))))
    if not runs:
        raise UserError(f"no run is left by --only={' --only='.join(only)}")
    title = about["TITLE"] or f"Sweep of {config_name}"
    return Plan(share_trainings(runs, directory), title, about["NOTE"], about["PUBLISHED"], tuple(merged))


def _choice(text, entries, axes):
    """(field, the spellings of its values) of an --only; each must be one that some run has."""
    field, values = parse_grid(text, "only")
    there = {_spelled(entry[field]) for entry in entries if field in entry}
    there |= {_spelled(value) for axis, listed in axes if axis == field for value in listed}
    if not there:
        fields = {name for entry in entries for name in entry} | {axis for axis, _ in axes}
        raise UserError(f"--only={text}: no run sets {field}; {suggest(field, fields)}")
    for value in values:
        choose(_spelled(value), there, f"value of {field} in --only")
    return field, {_spelled(value) for value in values}


def parse_grid(text, option="grid"):
    """("FIELD", [values as text]) of "FIELD=a,b"; a value in brackets or quotes may hold commas.

    Raises:
        UserError: no field, no value, or a bracket that is not closed; the message names the option.
    """
    field, equals, values = text.partition("=")
    field = field.strip().removeprefix("config.")
    values = [value.strip() for value in _split(values, f"--{option}={text!r}")]
    if not field or not equals or not all(values):
        raise UserError(f"--{option}={text!r}: write it as --{option}='FIELD=a,b'")
    if len(set(values)) < len(values):
        raise UserError(f"--{option}={text!r} has a value twice: leave one out")
    return field, values


def run_name(overrides, taken=()):
    """A folder's name made of overrides: "objective.weighting=vlb,seed=0"; "base" if there are none.

    Characters that some file systems do not take become "-". A name that is too long, or taken but for its case, ends
    in a hash.
    """
    text = ",".join(f"{field}={_spelled(value)}" for field, value in overrides.items()) or "base"
    name = re.sub(r"[^A-Za-z0-9._=,+()\-]+", "-", text)
    if len(name) > _LONGEST_NAME or name.casefold() in taken:
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        name = f"{name[: _LONGEST_NAME - 9]}~{digest}"
    return name


def share_trainings(runs, directory=None):
    """Lets one of the runs that would train the same network do it, and marks the others with its name.

    The one that trains is the first of them, or one whose training is in its folder in `directory` already.
    """
    groups = collections.defaultdict(list)
    for run in runs:
        groups[json.dumps(trains(run.config), sort_keys=True)].append(run)
    trained_in = {}
    for group in groups.values():
        trainer = group[0] if directory is None else max(group, key=lambda run: _head_start(run, directory))
        trained_in |= {run.name: None if run is trainer else trainer.name for run in group}
    return tuple(dataclasses.replace(run, trained_in=trained_in[run.name]) for run in runs)


def _head_start(run, directory):
    """How much of a run's training is there, to be compared: all of it here, all in another folder, some of it here."""
    folder = directory / run.name
    own, trained = has_checkpoints(folder), is_trained(folder, run.config)
    return own and trained, trained and has_checkpoints(training_folder(folder)), own


def check_folders(runs, directory):
    """Refuses runs whose folders belong to other configs.

    Returns:
        {field: number of runs that go on with another value of it}; such fields come after training.

    Raises:
        UserError: a folder belongs to another config.
    """
    changed = collections.Counter()
    for run in runs:
        changed.update(list(check_claim(directory / run.name, run.config)))
    return dict(changed)


def check_runs(runs):
    """Builds and traces every run, equal parts once. Nothing is computed.

    Returns:
        lines that say in which of data order, network, steps and network evaluations the runs differ.

    Raises:
        UserError: a run that cannot work; the message names it.
    """
    facts, checked, features = {}, {}, []
    for run in tqdm(runs, desc="checking", unit="run", disable=not sys.stderr.isatty(), leave=False):
        try:
            data = _key(run.config, "data")
            if data not in facts:
                load_data(run.config, "test")
                facts[data] = data_facts(load_data(run.config))
            # Seeds and numbers of samples change nothing that is traced.
            build("sampling", run.config["sampling"])
            key = _key(run.config, *(set(run.config) - {"seed", "sampling"}))
            if key not in checked:
                checked[key] = _traced(create(run.config, facts[data], outline))
        except UserError as error:
            raise UserError(f"run {run.name}: {error}") from None
        training = run.config["training"]
        order = (data, training["batch_size"], training["flip"])
        features.append((order, run.config["seed"], checked[key]["network"], training["steps"], checked[key]["calls"]))
    return _differences(*zip(*features, strict=True))


def _differences(orders, seeds, networks, steps, calls):
    """One line on what is the same in all runs, and one on what is not."""
    several = len(set(seeds)) > 1
    columns = {
        "data order" + (" (for each seed)" if several else ""): orders,
        "network": networks,
        "number of steps": steps,
        "network evaluations per sample": calls,
    }
    same = [name for name, values in columns.items() if len(set(values)) == 1]
    lines = [f"the same in all runs: {', '.join(same)}"] if same else []
    different = [
        name + (f" ({', '.join(f'{value:,}' for value in sorted(set(values)))})" if values in (steps, calls) else "")
        for name, values in columns.items()
        if name not in same
    ]
    return [*lines, *([f"not the same in all runs: {', '.join(different)}"] if different else [])]


def _traced(experiment):
    """The facts that are compared between runs: the network's arrays, and its evaluations for a sample."""
    leaves = jax.tree_util.tree_leaves_with_path(experiment.params)
    network = tuple((jax.tree_util.keystr(path), leaf.shape) for path, leaf in leaves)
    return {"network": network, "calls": 0 if experiment.classifies else experiment.num_evaluations}


def _read_sweep(name):
    """Reads a sweep file: (overrides of each run, {name of _ABOUT: its value}).

    Raises:
        UserError: no such file, no list of overrides in it, or something of another form than it must have.
    """
    module = configs.read_module("sweep", name, _SWEEPS, "get_sweep")
    entries = module.get_sweep()
    if not isinstance(entries, collections.abc.Iterable) or not (entries := list(entries)):
        raise UserError(f"--sweep={name}: get_sweep() must return a list of overrides, each a dict of field and value")
    entries = [_fields(entry, f"--sweep={name}: each entry of get_sweep()") for entry in entries]
    about = {key: getattr(module, key, default) for key, default in _ABOUT.items()}
    for key, default in _ABOUT.items():
        if not isinstance(about[key], type(default)):
            kind = {str: "text", dict: "a dict of field and value", list: "a list"}[type(default)]
            raise UserError(f"--sweep={name}: {key} must be {kind}, not {about[key]!r}")
    about["CONFIG"] = _fields(about["CONFIG"], f"--sweep={name}: CONFIG")
    about["PUBLISHED"] = [_figure(row, f"--sweep={name}: PUBLISHED[{n}]") for n, row in enumerate(about["PUBLISHED"])]
    return entries, about


def _fields(overrides, where):
    """Overrides of a sweep file, their fields without "config."."""
    if not isinstance(overrides, dict) or not all(isinstance(field, str) for field in overrides):
        raise UserError(f"{where} must be a dict of field and value, not {overrides!r}")
    fields = {field.removeprefix("config."): value for field, value in overrides.items()}
    for field, value in fields.items():
        _check_plain(value, f"{where}, {field}")
    return fields


def _figure(row, where):
    """A published figure of a sweep file, complete: {"match", "metric", "value", "source"}."""
    if not isinstance(row, dict):
        raise UserError(f"{where} must be a dict with 'metric' and 'value', not {row!r}")
    for key in row:
        choose(key, _FIGURE, f"key in {where}:")
    missing = [key for key in ("metric", "value") if row.get(key) is None]
    if missing:
        raise UserError(f"{where} has no {missing[0]!r}: give it {{'match': …, 'metric': …, 'value': …, 'source': …}}")
    figure = {**_FIGURE, **row}
    for key in ("metric", "value", "source"):
        _check_plain(figure[key], f"{where}, {key}")
    return {**figure, "match": _fields(figure["match"], f"{where}, match")}


def _check_plain(value, where):
    """Raises UserError for a value that JSON does not know."""
    try:
        json.dumps(value)
    except TypeError:
        raise UserError(f"{where} = {value!r}: write it as numbers, text, lists or None") from None


def _check_set_once(overrides, entries, axes):
    """Raises UserError if a field is set in two places."""
    given = {field for field, _ in overrides}
    listed = {field for entry in entries for field in entry}
    twice = [field for field, number in collections.Counter(axes).items() if number > 1]
    for fields, places in (
        (twice, "two --grid"),
        (given & set(axes), "both --config and --grid"),
        (given & listed, "both --config and the --sweep file"),
        (listed & set(axes), "both --grid and the --sweep file"),
    ):
        if fields:
            raise UserError(f"{min(fields)} is set by {places}: leave one out")


def _split(values, option):
    """Splits at the commas that are in no bracket and no quotes."""
    pieces = []
    for part in values.split(","):
        if pieces and not _is_closed(pieces[-1]):
            pieces[-1] += f",{part}"
        else:
            pieces.append(part)
    if not _is_closed(pieces[-1]):
        raise UserError(f"{option}: a bracket or quote is not closed")
    return pieces


def _is_closed(text):
    bare = re.sub(r"'[^']*'|\"[^\"]*\"", "", text)
    return not re.search("['\"]", bare) and len(re.findall(r"[(\[{]", bare)) == len(re.findall(r"[)\]}]", bare))


def _spelled(value):
    """A value as it stands in a name."""
    value = configs.literal(value)
    if isinstance(value, (list, tuple)):
        return "(" + ",".join(map(_spelled, value)) + ")"
    return str(value)


def _key(config, *sections):
    return json.dumps([config[section] for section in sorted(sections)], sort_keys=True)
