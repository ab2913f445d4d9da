"""The exceptions that mean: the caller can fix this. The words of their messages."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from typing import Any


class UserError(Exception):
    """A mistake in a config, flag, file or environment; its message is one line that says what to do.

    The commands print the message and exit with status 2. Any other exception is a fault of ours and keeps its
    traceback.

    Examples:
      >>> try:
      ...     air_jax.load("nowhere")
      ... except air_jax.UserError as error:
      ...     print(error)
      nowhere/config.json: not found; is nowhere the workdir of a run?
    """


class StoppedError(Exception):
    """A signal ended a run after its state was saved; its message is one line.

    The commands print the message and exit with status 75: the same command goes on.
    """


class OptionError(ValueError):
    """An option of a module, dataclass or function that has a value it cannot take.

    Python callers see a `ValueError` that names the option. The config turns it into a `UserError` that names the
    key, so both meet the same checks.

    Attributes:
      option: the option's name, as in the signature.
      value: the value it had.
      what: what is wrong and what to do, as the end of one line.

    Examples:
      >>> try:
      ...     air_jax.optimize.DenseField(update_sigma=-1.0)
      ... except air_jax.OptionError as error:
      ...     print(error)
      update_sigma=-1.0: must be finite and 0 or more
    """

    def __init__(self, option: str, value: Any, what: str):
        super().__init__(f"{option}={_in_one_line(value)}: {what}")
        self.option = option
        self.value = value
        self.what = what


def _in_one_line(value: Any, *, length: int = 200) -> str:
    """Returns how Python shows a value, cut to a length: arrays are shown in several lines."""
    text = " ".join(repr(value).splitlines())
    return text if len(text) <= length else f"{text[:length]}..."


@contextlib.contextmanager
def naming_flag() -> Iterator[None]:
    """Turns an `OptionError` into a `UserError` that names the command's flag."""
    try:
        yield
    except OptionError as error:
        raise UserError(f"--{error.option}={error.value}: {error.what}") from error


def first_line(error: Exception, *, length: int = 120) -> str:
    """Returns the first line of another library's message, cut to a length; the exception's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:length]


def nearest(word: str, words: Iterable[str]) -> str | None:
    """Returns the word of the list that is most like the given one; None where none is like it."""
    return next(iter(difflib.get_close_matches(word, list(words), n=1)), None)
