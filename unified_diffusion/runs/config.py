"""Configs: from a file and a command line to a dict of settings, complete and checked.

A config is one section per part of an experiment. A section with a `name` chooses a class of that part, and its fields
are that class's arguments; the others are arguments of a class of their own. So what can be set is read off the
signatures, and a mistake is refused before anything starts.
"""

import ast
import collections.abc
import copy
import dataclasses
import importlib.util
import inspect
import json
import types
import typing
from pathlib import Path

import ml_collections
import numpy as np

from unified_diffusion.runs.settings import Evaluation, Reading, Sampling
from unified_diffusion.data import SOURCES
from unified_diffusion.errors import UserError
from unified_diffusion.models import MODELS
from unified_diffusion.objectives import OBJECTIVES
from unified_diffusion.perturbations import PERTURBATIONS
from unified_diffusion.registry import lookup, suggest
from unified_diffusion.samplers import SAMPLERS
from unified_diffusion.training import Optimizer, Training

NAMED = {
    "data": SOURCES,
    "perturbation": PERTURBATIONS,
    "model": MODELS,
    "objective": OBJECTIVES,
    "sampler": SAMPLERS,
    "under": PERTURBATIONS,
}
# Named sections that may be left out: what they stand for is then None.
OPTIONAL = {"under"}
UNNAMED = {
    "denoiser": Reading,
    "optimizer": Optimizer,
    "training": Training,
    "sampling": Sampling,
    "evaluation": Evaluation,
}
# Fields that configs of an older version lack, with what its runs did.
_LATER = {"model.noise_embedding": "sinusoidal", "training.label_dropout": 0.0}
# Arguments that the experiment itself gives.
GIVEN = {"self", "split", "example_shape", "num_classes", "out_channels", "rngs"}


def read_config(name):
    """The dict that a config file's `get_config()` returns.

    Args:
        name: "ddpm_digits.py" is looked up in `experiments/configs/`; anything with a folder in it is a path.

    Raises:
        UserError: no such file, or no `get_config` in it.
    """
    config = read_module("config", name, shipped_configs(), "get_config").get_config()
    return _plain(config.to_dict() if isinstance(config, ml_collections.ConfigDict) else dict(config))


def shipped_configs():
    """The folder `experiments/configs`, whose files a config's bare name is looked up in.

    The package `experiments` is found without importing it; where it is not installed the folder does not exist.
    """
    spec = importlib.util.find_spec("experiments")
    return Path(spec.submodule_search_locations[0] if spec else "experiments") / "configs"


def read_module(option, name, folder, function):
    """The Python file that `--option=name` names, in `folder` or by its path, as a module.

    Raises:
        UserError: no such file, or no `function` in it.
    """
    path = Path(name)
    if path.parent == Path() and not path.exists():
        path = folder / path.with_suffix(".py")
    if not path.is_file():
        known = [file.name for file in folder.glob("*.py") if not file.name.startswith("_")]
        raise UserError(f"--{option}={name}: no such file; {suggest(name, known)}")
    spec = importlib.util.spec_from_file_location(f"{option}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, function):
        raise UserError(f"--{option}={name}: the file has no function {function}()")
    return module


def resolve(config, overrides=()):
    """The complete config: the file's settings, then the overrides, then every argument's own default.

    Args:
        config: a dict of sections. A named section may hold settings under each name it may be given,
            `perturbation = dict(name="ddpm", ddpm=dict(num_steps=1000), ncsn=dict(num_steps=50))`, of which those of
            the chosen name hold. Fields beside the name are settings for the name in the file alone. The section
            `under`, a perturbation to sample under in place of the one trained with, starts from the settings that
            `perturbation` has for its name; without a name it is left out.
        overrides: pairs of a dotted field and its value as text, `("perturbation.name", "ncsn")`.

    Returns:
        {"seed": int, section: {"name": …, field: value}}, with plain JSON values.

    Raises:
        UserError: an unknown section, name or field, or a value of the wrong type.
    """
    settings = copy.deepcopy(config)
    for section in settings:
        if section != "seed" and section not in NAMED and section not in UNNAMED:
            raise UserError(f"unknown field config.{section}: {suggest(section, ['seed', *NAMED, *UNNAMED])}")
    changes = _group(overrides)
    resolved = {"seed": _convert("seed", changes.pop("seed", settings.get("seed", 0)), int)}
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


def build(section, fields, *args, **given):
    """The object a resolved section stands for: its class, called with its fields and with what is given."""
    fields = dict(fields)
    if section in OPTIONAL and fields["name"] is None:
        return None
    target = _target(section, fields.pop("name", None))
    return target(*args, **given, **{name: _frozen(value) for name, value in fields.items()})


def chosen(section, fields):
    """The class that a resolved section stands for."""
    return _target(section, fields.get("name"))


def later(overrides, more):
    """Overrides followed by more of them; a section whose name is set anew forgets what was set for the old one."""
    renamed = {field.split(".")[0] for field, _ in more if field.endswith(".name")}
    return [*(pair for pair in overrides if pair[0].split(".")[0] not in renamed), *more]


def differences(old, new):
    """The dotted fields in which two resolved configs differ: {field: (old, new)}."""
    flat_old, flat_new = {**_LATER, **flatten(old)}, {**_LATER, **flatten(new)}
    return {
        field: (flat_old.get(field), flat_new.get(field))
        for field in {**flat_old, **flat_new}
        if flat_old.get(field) != flat_new.get(field)
    }


def _resolve_section(section, file, said):
    """One section: the signature's defaults, then the file's settings for the chosen name, then what was said."""
    if not isinstance(file, dict):
        raise UserError(f"config.{section} = {file!r} in the file: it is a section, a dict of its fields")
    if section in UNNAMED:
        return _complete(section, None, dict(file), said)
    alternatives = {key: value for key, value in file.items() if isinstance(value, dict) and key in NAMED[section]}
    own = {key: value for key, value in file.items() if key not in alternatives}
    own_name = own.pop("name", None)
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
    parameters = _parameters(_target(section, name))
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
        merged[field] = _convert(f"{section}.{field}", value, hint)
    for field, value in merged.items():
        if value is inspect.Parameter.empty:
            raise UserError(f"config.{section}.{field} has no default: set it")
    return {field: _plain(value) for field, value in merged.items()}


def _target(section, name):
    return UNNAMED[section] if section in UNNAMED else lookup(NAMED[section], name, section)


def _parameters(target):
    """{argument: (type, default)} of a class or function, without what the experiment gives."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function)
    fields = dataclasses.fields(target) if dataclasses.is_dataclass(target) else ()
    factories = {
        field.name: field.default_factory for field in fields if field.default_factory is not dataclasses.MISSING
    }
    found = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in GIVEN or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = factories[parameter.name]() if parameter.name in factories else parameter.default
        guess = typing.Any if default is None or default is inspect.Parameter.empty else type(default)
        found[parameter.name] = (hints.get(parameter.name, guess), default)
    return found


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


def _convert(field, value, hint):
    """`value`, or what a command line's text stands for, as the type `hint`."""
    for candidate in [value, literal(value)] if isinstance(value, str) else [value]:
        matched, converted = _match(candidate, hint)
        if matched:
            return converted
    raise UserError(f"config.{field} = {value!r}: it must be {_describe(hint)}")


def literal(text):
    """The Python value that a command line's text spells, or the text itself."""
    if not isinstance(text, str):
        return text
    if text.lower() in ("true", "false", "none"):
        return {"true": True, "false": False, "none": None}[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _match(value, hint):
    """(whether `value` is of type `hint`, the value as that type)."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return next((match for match in (_match(value, option) for option in arguments) if match[0]), (False, None))
    if hint is typing.Any:
        return True, value
    if hint is types.NoneType:
        return value is None, None
    if hint is bool or isinstance(value, bool):
        return isinstance(value, bool) and hint is bool, value
    if hint is float:
        return isinstance(value, (int, float)), float(value) if isinstance(value, (int, float)) else None
    if hint is int:
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return whole, int(value) if whole else None
    if hint in (tuple, list):
        return isinstance(value, (tuple, list)), value
    if origin is tuple:
        items = value if isinstance(value, (tuple, list)) else [value]
        matches = [_match(item, arguments[0]) for item in items]
        return all(match[0] for match in matches), tuple(match[1] for match in matches)
    if (origin or hint) in (collections.abc.Callable, typing.Callable):
        return callable(value), value
    plain = origin or hint
    return (isinstance(value, plain), value) if inspect.isclass(plain) else (True, value)


def _describe(hint):
    """A type in a person's words."""
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", types.NoneType: "none"}
    if hint is np.ndarray:
        return "an array"
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(option) for option in arguments)
    if origin is tuple:
        return "a list like (1, 2, 2)" if arguments[0] is int else "a list of numbers"
    if (origin or hint) is collections.abc.Mapping:
        return "fields, each set by --config.SECTION.OPTIONS.NAME=VALUE"
    return names.get(hint, str(hint))


def _plain(value):
    """A value as JSON would give it back; functions and classes by their names."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    return json.loads(json.dumps(value))


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value


def flatten(config, prefix=""):
    """A config's sections as one dict of dotted fields."""
    flat = {}
    for field, value in config.items():
        flat |= flatten(value, f"{prefix}{field}.") if isinstance(value, dict) and value else {prefix + field: value}
    return flat
