"""Checks of the options of weightings and time samplers, made before anything is trained."""

import inspect
import math
import numbers

from unified_diffusion.errors import UserError
from unified_diffusion.registry import suggest


def check_options(function, options, kind, name, given=0):
    """Refuses options that `function` does not take after its first `given` arguments.

    Raises:
        UserError: an option that the function does not have, with the nearest ones that it has; or a missing option.
    """
    parameters = list(inspect.signature(function).parameters.values())[given:]
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return
    valid = [parameter.name for parameter in parameters]
    for option in options:
        if option not in valid:
            raise UserError(f"{kind} {name!r} has no option {option!r}; {suggest(option, valid) if valid else 'none'}")
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise UserError(f"{kind} {name!r} needs the option {parameter.name!r}")


def check_number(owner, option, value, above=-math.inf):
    """Refuses a value that is not a finite number above `above`.

    Raises:
        UserError: the value is not such a number.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and value < math.inf
    if not is_number or value <= above:
        bound = "" if above == -math.inf else f" above {above:g}"
        raise UserError(f"{owner}: {option} = {value!r}, and it must be a finite number{bound}")
