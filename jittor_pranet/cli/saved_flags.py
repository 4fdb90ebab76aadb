"""Settings that a file holds, checked by the flags that give them: others may have written the file."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Callable, NoReturn

import numpy as np

from utils.errors import UserError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message)


def check_saved_flags(add_arguments: Callable[[argparse.ArgumentParser], None],
                      saved: Mapping[str, object]) -> None:
    """Looks at each setting that has a flag: given by it, it must come out as the same value.

    Raises:
        UserError: one does not; what the parser says of it.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    add_arguments(parser)
    for name, value in saved.items():
        action = parser._option_string_actions.get(f"--{name}")
        if action is None:
            continue
        if action.nargs == 0:
            if type(value) is not bool:
                raise UserError(f"argument --{name}: {_shown(value)} is neither true nor false")
            continue
        several = action.nargs is not None and isinstance(value, (list, tuple))
        values = value if several else [value]
        given = [f"--{name}", *map(_text, values)] if several else [f"--{name}={_text(value)}"]
        parsed = getattr(parser.parse_args(given), action.dest)
        if [*map(_typed, parsed if several else [parsed])] != [*map(_typed, values)]:
            raise UserError(f"argument --{name}: {_shown(value)} is not what the flag gives")


def _text(value: object) -> str:
    """The value as it would stand on a command line, where a negative number must have no exponent."""
    text = np.format_float_positional(value, trim="0") if type(value) is float else str(value)
    if "\0" in text:
        raise UserError("a text with a character that no command line has")
    return text


def _typed(value: object) -> tuple[type, object]:
    """Tells 1, 1.0 and True apart."""
    return type(value), value


def _shown(value: object) -> str:
    return repr(value)[:60]
