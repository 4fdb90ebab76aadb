"""The one exception that a user's mistake raises."""


class UserError(ValueError):
    """Something the user can mend: the programs print it as one line and exit with code 2.

    The text names the file, what was found, what was expected and what to do.
    """
