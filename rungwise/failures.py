"""What is said where one input fails, so that the others go on: the one boundary of every verb.

A user's error (a file that is missing or broken, a wrong option) is said in its own words. Anything else is ours: one
line names the input and the kind of error and asks for a report, and `--debug` prints its traceback.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import av.error

OWN_PACKAGES = ("rungwise", "distill", "teacher", "student")
_show = {"tracebacks": False}


class ToolError(RuntimeError):
    """A program that we run failed; its own words are for the user."""


def show_tracebacks() -> None:
    """From now on `failure` prints tracebacks to stderr: `--debug`."""
    _show["tracebacks"] = True


def is_users_error(error: BaseException) -> bool:
    """Whether an error speaks to the user: ours of an input, a tool's words, or the operating system's.

    torch raises OSError without an error number for faults of its own, and libav's errors are a file's only where we
    have said so (as ValueError). Libraries derive their own errors from ValueError (UnicodeDecodeError): those name no
    file and are no message to a user.
    """
    if isinstance(error, av.error.FFmpegError):
        return False
    system = isinstance(error, OSError) and error.errno is not None
    package = type(error).__module__.partition(".")[0]
    stated = type(error) is ValueError or (isinstance(error, ValueError) and package in OWN_PACKAGES)
    return system or stated or isinstance(error, ToolError)


def failure(name: str, error: Exception) -> str:
    """Why an input failed, as one line or a tool's own lines; the line names the input, unless `name` is empty.

    Raises:
        BrokenPipeError: nobody reads our output any more, which is no input's fault.
    """
    if isinstance(error, BrokenPipeError):
        raise error
    if _show["tracebacks"]:
        traceback.print_exception(error, file=sys.stderr)
    if is_users_error(error):
        text = str(error)
        return text if Path(name).name in text else f"{name}: {text}"
    first_line = (str(error).splitlines() or [""])[0]
    where = "" if _show["tracebacks"] else " (rungwise --debug shows where)"
    prefix = f"{name}: " if name else ""
    return f"{prefix}unexpected {type(error).__name__}: {first_line}; please report this{where}"
