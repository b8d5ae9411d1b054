"""Registries: the classes and functions that names in a config stand for."""

import difflib
import importlib

from unified_diffusion.errors import UserError


def suggest(name, valid):
    """The end of an error message: the valid names nearest to `name`, or all valid names if none is near."""
    near = difflib.get_close_matches(str(name), list(valid), n=3, cutoff=0.5)
    if near:
        return "did you mean " + " or ".join(repr(match) for match in near) + "?"
    return "valid: " + ", ".join(sorted(valid))


def choose(name, valid, kind):
    """Returns `name` if it is one of the names in `valid`; `kind` says in the error what is chosen.

    Raises:
        UserError: the name is not valid; the message lists the nearest valid names.
    """
    if name not in valid:
        raise UserError(f"unknown {kind} {name!r}: {suggest(name, valid)}")
    return name


def lookup(registry, name, kind):
    """The entry of `registry` called `name`, or the user's own object that `"module:attribute"` names.

        sampler_class = lookup(SAMPLERS, "my_package.samplers:MySampler", "sampler")

    Args:
        registry: dict from name to class or function.
        name: a key of the registry, or "package.module:Attribute" for anything that Python can import.
        kind: the kind of thing that is looked up, for the error message ("weighting", "sampler", …).

    Raises:
        UserError: an unknown name (the message lists the nearest valid names), or a module or attribute that cannot be
            imported.
    """
    if not isinstance(name, str):
        raise UserError(f"{kind} is named by a string, not by {name!r}")
    if ":" not in name:
        return registry[choose(name, registry, kind)]
    module_name, attribute = name.split(":", 1)
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise UserError(f"{kind} {name!r}: write it as 'package.module:attribute'")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not (error.name and (module_name + ".").startswith(error.name + ".")):
            raise
        raise UserError(f"{kind} {name!r}: no module {error.name!r} on the Python path") from None
    if not hasattr(module, attribute):
        raise UserError(f"{kind} {name!r}: {module_name} has no {attribute!r}; {suggest(attribute, public(module))}")
    return getattr(module, attribute)


def public(module):
    """The names of a module that do not start with an underscore."""
    return [name for name in vars(module) if not name.startswith("_")]
