"""What is said where one input fails, so that the others go on: the one boundary of every verb.

A user's error (a file that is missing or broken, a wrong option) is said in its own words. Anything else is ours: one
line names the input and the kind of error and asks for a report, and `--debug` prints its traceback.
"""

from __future__ import annotations

import sys
import traceback

import av.error

_show = {"tracebacks": False}


class ToolError(RuntimeError):
    """A program that we run failed; its own words are for the user."""


def show_tracebacks() -> None:
    """From now on `failure` prints tracebacks to stderr: `--debug`."""
    _show["tracebacks"] = True


def is_users_error(error: BaseException) -> bool:
    """Whether an error speaks to the user: ours of an input, a tool's words, or the operating system's.

    torch raises OSError without an error number for faults of its own, and libav's errors are a file's only where we
    have said so (as ValueError).
    """
    if isinstance(error, av.error.FFmpegError):
        return False
    system = isinstance(error, OSError) and error.errno is not None
    return system or isinstance(error, ValueError | ToolError)


def failure(name: str, error: Exception) -> str:
    """Why an input failed, as one line or a tool's own lines.

    Raises:
        BrokenPipeError: nobody reads our output any more, which is no input's fault.
    """
    if isinstance(error, BrokenPipeError):
        raise error
    if _show["tracebacks"]:
        traceback.print_exception(error, file=sys.stderr)
    if is_users_error(error):
        return str(error)
    first_line = (str(error).splitlines() or [""])[0]
    where = "" if _show["tracebacks"] else " (rungwise --debug shows where)"
    return f"{name}: unexpected {type(error).__name__}: {first_line}; please report this{where}"
