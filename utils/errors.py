"""What a user's mistake raises."""

from __future__ import annotations

import re

LONG_WORD = re.compile(r"\S{4097,}")  # longer than any path


class UserError(ValueError):
    """Something the user can mend: the programs print it as one line and exit with code 2.

    The text names the file, what was found, what was expected and what to do.
    """

    def __str__(self) -> str:
        return LONG_WORD.sub(lambda word: f"{word[0][:100]}...", printable(super().__str__()))


class BadFile(UserError):
    """One file of many cannot be used; a program may name it and go on with the others."""


def printable(text: object) -> str:
    """``text`` in one line for any terminal, control characters and undecodable bytes escaped."""
    return "".join(character if character.isprintable() else character.encode("unicode_escape").decode()
                   for character in str(text))
