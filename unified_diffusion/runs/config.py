"""Configs: from a file and a command line to a dict of settings, complete and checked.

A config has one section for each part of a run; `sections` says which class each section stands for. A mistake is
refused before anything starts.
"""

import copy
import importlib.util
import inspect
from pathlib import Path

import ml_collections

from unified_diffusion.errors import UserError
from unified_diffusion.registry import suggest
from unified_diffusion.runs.convert import convert, literal, plain
from unified_diffusion.runs.older import LATER, moved_overrides, moved_sections
from unified_diffusion.runs.sections import DEFAULT_NAMES, NAMED, OPTIONAL, UNNAMED, parameters_of, target_of


def read_config(config):
    """The settings of a config, as a dict with plain JSON values.

    Args:
        config: a file with `get_config()`, or the settings themselves, a dict or a `ConfigDict`. "ddpm_digits.py" is
            looked up in `experiments/configs/`; a name with a folder in it is a path.

    Raises:
        UserError: no such file, or no `get_config` in it.
    """
    if isinstance(config, (str, Path)):
        config = read_module("config", config, shipped_configs(), "get_config").get_config()
    return plain(config.to_dict() if isinstance(config, ml_collections.ConfigDict) else dict(config))


def shipped_configs():
    """The folder `experiments/configs`, whose files a config's bare name is looked up in.

    A folder `experiments` without such configs that stands earlier on the Python path does not hide it. Where the
    programs are not installed the folder does not exist.
    """
    try:
        spec = importlib.util.find_spec("experiments.configs")
    except ModuleNotFoundError:
        spec = None
    folders = spec.submodule_search_locations if spec else None
    return Path(folders[0] if folders else "experiments/configs")


def read_module(option, name, folder, function):
    """The Python file that `--option=name` names, in `folder` or by its path, as a module.

    Raises:
        UserError: no such file, a file whose name does not end in .py, or no `function` in it.
    """
    path = Path(name)
    if path.parent == Path() and not path.exists():
        path = folder / path.with_suffix(".py")
    if not path.is_file():
        known = [file.name for file in folder.glob("*.py") if not file.name.startswith("_")]
        raise UserError(f"--{option}={name}: no such file; {suggest(name, known)}")
    spec = importlib.util.spec_from_file_location(f"{option}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"--{option}={name}: the name of a Python file ends in .py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, function):
        raise UserError(f"--{option}={name}: the file has no function {function}()")
    return module


def resolve(config, overrides=()):
    """The complete config: the overrides, above the file's settings, above every argument's own default.

    Args:
        config: a dict of sections. A named section may hold settings for each name that it may be given,
            `perturbation = dict(name="ddpm", ddpm=dict(num_steps=1000), ncsn=dict(num_steps=50))`; the settings for the
            chosen name are taken. Fields beside the name are settings for the name in the file alone. The section
            `under`, a perturbation to sample under in place of the one trained with, starts from the settings that
            `perturbation` has for its name; without a name it is left out.
        overrides: pairs of a dotted field and its value, as text or as it is: `("perturbation.name", "ncsn")`.

    Fields that an older version had in another section (`older.MOVED`) are taken by their old names, too.

    Returns:
        {"seed": int, section: {"name": …, field: value}}, with plain JSON values.

    Raises:
        UserError: an unknown section, name or field, or a value of the wrong type.
    """
    settings = moved_sections(copy.deepcopy(config))
    for section in settings:
        if section != "seed" and section not in NAMED and section not in UNNAMED:
            raise UserError(f"unknown field config.{section}: {suggest(section, ['seed', *NAMED, *UNNAMED])}")
    changes = _group(moved_overrides(overrides))
    resolved = {"seed": convert("seed", changes.pop("seed", settings.get("seed", 0)), int)}
    for section in (*NAMED, *UNNAMED):
        said = changes.pop(section, {})
        if not isinstance(said, dict):
            raise UserError(f"config.{section} is a section: set one of its fields, --config.{section}.FIELD=VALUE")
        file = settings.get(section, {})
        if section == "under":
            file = _under_file(file, said, settings.get("perturbation", {}), resolved["perturbation"])
        resolved[section] = _resolve_section(section, file, said)
    if changes:
        section = next(iter(changes))
        raise UserError(f"unknown field config.{section}: {suggest(section, ['seed', *NAMED, *UNNAMED])}")
    return resolved


def later(overrides, more):
    """Overrides followed by more of them; a section that `more` gives another name loses its earlier overrides."""
    renamed = {field.split(".")[0] for field, _ in more if field.endswith(".name")}
    return [*(pair for pair in overrides if pair[0].split(".")[0] not in renamed), *more]


def differences(old, new):
    """The dotted fields in which two resolved configs differ: {field: (old, new)}; either may be an older version's."""
    flat_old, flat_new = ({**LATER, **flatten(moved_sections(config))} for config in (old, new))
    return {
        field: (flat_old.get(field), flat_new.get(field))
        for field in {**flat_old, **flat_new}
        if flat_old.get(field) != flat_new.get(field)
    }


def _resolve_section(section, file, said):
    """One section, complete: `said`, above the file's settings for the chosen name, above the signature's defaults."""
    if not isinstance(file, dict):
        raise UserError(f"config.{section} = {file!r} in the file: it is a section, a dict of its fields")
    if section in UNNAMED:
        return _complete(section, None, dict(file), said)
    alternatives = {key: value for key, value in file.items() if isinstance(value, dict) and key in NAMED[section]}
    own = {key: value for key, value in file.items() if key not in alternatives}
    own_name = own.pop("name", DEFAULT_NAMES.get(section))
    name = literal(said.pop("name", own_name))
    if name is None and section in OPTIONAL:
        if own or said:
            raise UserError(f"config.{section}.{next(iter({**own, **said}))} is set, but config.{section}.name is not")
        return {"name": None}
    if name is None:
        raise UserError(f"config.{section} has no name; {suggest('', NAMED[section])}")
    said_of_name = said.pop(name, {})
    if not isinstance(said_of_name, dict):
        raise UserError(f"config.{section}.{name} = {said_of_name!r}: set one of its fields, config.{section}.FIELD")
    chosen = {**alternatives.get(name, {}), **(own if name == own_name else {}), **said_of_name}
    return {"name": name, **_complete(section, name, chosen, said)}


def _under_file(file, said, perturbation, trained):
    """The settings of `under` in the file, above those of `perturbation` for the same name."""
    name = literal(said.get("name", file.get("name") if isinstance(file, dict) else None))
    if name is None or not isinstance(file, dict) or not isinstance(perturbation, dict):
        return file
    beneath = trained if name == trained["name"] else _settings_for(name, perturbation)
    return {**beneath, **_settings_for(name, file), "name": name}


def _settings_for(name, file):
    """A section's settings for a name: those kept under it, and those beside the section's name if it is this one."""
    beside = {field: value for field, value in file.items() if not isinstance(value, dict)}
    kept = file.get(name)
    return {**(kept if isinstance(kept, dict) else {}), **(beside if file.get("name") == name else {})}


def _complete(section, name, file, said):
    """Every argument's value as plain JSON; fields that are no argument, and values of the wrong type, are refused."""
    parameters = parameters_of(target_of(section, name))
    for field in {**file, **said}:
        if field not in parameters:
            owner = f"config.{section}" + (f" ({name})" if name else "")
            raise UserError(f"unknown field {field!r} of {owner}: {suggest(field, parameters)}")
    merged = {field: default for field, (_, default) in parameters.items()}
    for field, value in (*file.items(), *said.items()):
        hint = parameters[field][0]
        if isinstance(value, dict):
            kept = merged[field] if isinstance(merged[field], dict) else {}
            value = {**kept, **{key: literal(item) for key, item in value.items()}}
        merged[field] = convert(f"{section}.{field}", value, hint)
    for field, value in merged.items():
        if value is inspect.Parameter.empty:
            raise UserError(f"config.{section}.{field} has no default: set it")
    return {field: plain(value) for field, value in merged.items()}


def _group(overrides):
    """Dotted overrides as a nested dict."""
    grouped = {}
    for field, text in overrides:
        *path, last = field.split(".")
        place = grouped
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise UserError(f"config.{field}: {part} is a value, it has no fields")
        place[last] = text
    return grouped


def flatten(config, prefix=""):
    """A config's sections as one dict of dotted fields."""
    flat = {}
    for field, value in config.items():
        flat |= flatten(value, f"{prefix}{field}.") if isinstance(value, dict) and value else {prefix + field: value}
    return flat
