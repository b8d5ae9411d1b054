"""Values of a config: from a command line's text to the type that an argument declares, and to plain JSON."""

import ast
import collections.abc
import inspect
import json
import types
import typing

import numpy as np

from unified_diffusion.errors import UserError


def convert(field, value, hint):
    """`value`, or the value that a command line's text spells, as the type `hint`.

    Args:
        field: the dotted name of the field, for the message.
        value: a Python value, or text.
        hint: a type, as an annotation has it: `int`, `float | None`, `tuple[int, ...]`, …

    Raises:
        UserError: the value is of another type.
    """
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


def plain(value):
    """A value as JSON would give it back; a function or a class becomes its name, "module:name"."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if callable(value):
        return f"{value.__module__}:{value.__qualname__}"
    return json.loads(json.dumps(value))


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
    bare = origin or hint
    return (isinstance(value, bare), value) if inspect.isclass(bare) else (True, value)


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
