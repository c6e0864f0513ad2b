"""Jobs on a Ray cluster (`pip install 'rungwise[ray]'`).

Every node has the same packages, and sees masters and runs folder under the same paths. Ray runs a job again elsewhere
when its node dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

from rungwise.progress import to_stderr

RETRIES = 10  # of a job whose node died


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Any]:
    """The module `ray`, joined to the cluster at `address`, such as "auto" or "10.0.0.1:6379".

    Raises:
        ValueError: Ray is not installed, or there is no cluster at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError(f"--ray needs Ray ({error}): pip install 'rungwise[ray]'") from error
    with to_stderr():  # it prints what it hears of other nodes
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise ValueError(f"--ray {address}: no Ray cluster there ({error}); start one by `ray start`") from error
        try:
            yield ray
        finally:
            ray.shutdown()


class RayPool(Executor):
    """The cluster's cores as an executor: one core a job."""

    def __init__(self, address: str) -> None:
        self.stack = contextlib.ExitStack()
        self.ray = self.stack.enter_context(cluster(address))
        self.call = self.ray.remote(num_cpus=1, max_retries=RETRIES)(_call)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a job; its arguments are sent along."""
        future: Future[Any] = Future()

        def finish(done: Future[Any]) -> None:
            error = done.exception()
            value, failure = (None, error) if error is not None else done.result()
            if isinstance(failure, BaseException):
                future.set_exception(failure)
            elif failure is not None:
                future.set_exception(_rebuild(*failure))
            else:
                future.set_result(value)

        self.call.remote(os.getcwd(), fn, args, kwargs).future().add_done_callback(finish)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster, which stays; it drops the jobs that have not ended."""
        self.stack.close()


def _call(folder: str, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    """A job's value and None, or None and the parts of its error: not every error can be pickled."""
    os.chdir(folder)  # of relative paths
    try:
        return fn(*args, **kwargs), None
    except Exception as error:
        return None, (type(error), error.args, vars(error))


def _rebuild(kind: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error
