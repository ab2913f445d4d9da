"""The one exception that means: the user can fix this."""


class UserError(Exception):
    """A mistake in a config, flag, file or environment; its message is one line that says what to do.

    The command-line programs print the message and exit with status 1. Any other exception is a defect of ours and
    keeps its traceback.
    """
