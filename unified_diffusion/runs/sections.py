"""The sections of a config, and the class that each of them stands for.

A section with a `name` chooses a class of a registry, and its fields are that class's arguments; every other section is
the arguments of one class. The fields that can be set are therefore read off the classes' signatures.
"""

import dataclasses
import inspect
import typing

from unified_diffusion.codecs import CODECS, codec_for
from unified_diffusion.data import SOURCES
from unified_diffusion.models import MODELS
from unified_diffusion.objectives import OBJECTIVES, as_objective
from unified_diffusion.perturbations import PERTURBATIONS
from unified_diffusion.registry import lookup
from unified_diffusion.runs.settings import DenoiserSettings, Evaluation, Inpainting, Interpolation, Sampling
from unified_diffusion.samplers import SAMPLERS
from unified_diffusion.training import Optimizer, Training

NAMED = {
    "data": SOURCES,
    "codec": {"auto": codec_for, **CODECS},
    "perturbation": PERTURBATIONS,
    "model": MODELS,
    "objective": OBJECTIVES,
    "sampler": SAMPLERS,
    "under": PERTURBATIONS,
}
# Named sections that may be left out; each then stands for None.
OPTIONAL = {"under"}
# The names that other sections have where a config gives none.
DEFAULT_NAMES = {"codec": "auto"}
UNNAMED = {
    "denoiser": DenoiserSettings,
    "optimizer": Optimizer,
    "training": Training,
    "sampling": Sampling,
    "evaluation": Evaluation,
    "interpolation": Interpolation,
    "inpainting": Inpainting,
}
# Arguments that are not set in a config: `build` is given them.
GIVEN = {"self", "split", "example_shape", "num_classes", "out_channels", "rngs"}


def build(section, fields, *args, **given) -> typing.Any:
    """The object that a resolved section stands for.

    Args:
        section: the section's name.
        fields: its resolved fields.
        args, given: the arguments of the class that are not in a config, see `GIVEN`.

    Returns:
        The section's class, called with its fields and with `args` and `given`; None for an optional section without a
        name. An objective of the user's own, which may be a plain callable, becomes an `Objective` here.
    """
    fields = dict(fields)
    if section in OPTIONAL and fields["name"] is None:
        return None
    target = target_of(section, fields.pop("name", None))
    made = target(*args, **given, **{name: _frozen(value) for name, value in fields.items()})
    return as_objective(made) if section == "objective" else made


def chosen(section, fields):
    """The class that a resolved section stands for."""
    return target_of(section, fields.get("name"))


def target_of(section, name):
    """The class of a section, which in a named section goes by `name`.

    Raises:
        UserError: the registry has no such name.
    """
    return UNNAMED[section] if section in UNNAMED else lookup(NAMED[section], name, section)


def parameters_of(target):
    """{argument: (type, default)} of a class or function, without the arguments in `GIVEN`."""
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


def _frozen(value):
    """The value with tuples in place of lists, at any depth: what a frozen dataclass holds can then be hashed."""
    if isinstance(value, dict):
        return {name: _frozen(item) for name, item in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
