"""Error messages for one failed input of a batch, used by every command.

A user's error, such as a missing or broken file or a wrong option, is reported with its own message. Any other error is
a bug: one line names the input and the exception and asks for a report, and `--debug` prints the traceback.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import av.error

OWN_PACKAGES = ("rungwise", "distill", "teacher", "student")
_show = {"tracebacks": False}


class ToolError(RuntimeError):
    """An external program failed; the message is for the user."""


def show_tracebacks() -> None:
    """Make `failure` print tracebacks to stderr (`--debug`)."""
    _show["tracebacks"] = True


def is_users_error(error: BaseException) -> bool:
    """Whether an error is the user's: a ValueError of ours, a failed tool, or an operating system error.

    Not included: OSError without errno, which torch raises for internal errors; libav errors, which we raise again as
    ValueError where the file is at fault; and library subclasses of ValueError, such as UnicodeDecodeError, which do
    not name a file.
    """
    if isinstance(error, av.error.FFmpegError):
        return False
    is_system_error = isinstance(error, OSError) and error.errno is not None
    package = type(error).__module__.partition(".")[0]
    is_own_error = type(error) is ValueError or (isinstance(error, ValueError) and package in OWN_PACKAGES)
    return is_system_error or is_own_error or isinstance(error, ToolError)


def failure(name: str, error: Exception) -> str:
    """Why an input failed: one line, or a tool's own lines. It names the input unless `name` is empty.

    Raises:
        BrokenPipeError: stdout was closed, which is not the input's fault.
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
