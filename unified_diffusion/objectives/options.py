"""Options of what an objective names: checked before anything is trained."""

import inspect
import math
import numbers

from unified_diffusion.errors import UserError
from unified_diffusion.registry import suggest


def check_options(function, options, kind, name, given=0):
    """Refuses options that `function`, called with `given` arguments and then these by name, would not take.

    Raises:
        UserError: an option that it does not have, with the nearest it has, or one that it needs and did not get.
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
    """Refuses a value that is no finite number above `above`.

    Raises:
        UserError: it is not one.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not above < value < math.inf:
        bound = "" if above == -math.inf else f" above {above:g}"
        raise UserError(f"{owner}: {option} = {value!r}, and it must be a finite number{bound}")
