"""Two tiers: answer at once from a graph that was quick to compile, and tune the same graph in the background.

Compiling well takes time: weights are packed into the layouts that the kernels want, and layers are fused. A process
that starts, answers once and ends gains nothing from it. Just-in-time compilers solve this with tiers, and so does
this: the first executor reads weights where they lie; the tuned one takes over when it is ready.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence

import numpy as np

from trine.errors import TrineError
from trine.runtime.executor import Executor, Session

__all__ = ["TieredExecutor"]

log = logging.getLogger("trine")


class TieredExecutor:
    """The first tier's executor, until the tuned one is ready.

    Tuning starts with the second call: it never competes with the first answer, and a process that answers once and
    ends does not wait for it. If it fails, the first tier goes on, and the log says why.
    """

    def __init__(self, first: Executor, tune: Callable[[], Executor]) -> None:
        self._first = first
        self._tune = tune
        self._tuned: Executor | None = None
        self._thread: threading.Thread | None = None
        self._answered = False
        self._closed = False
        self._lock = threading.Lock()

    @property
    def current(self) -> Executor:
        """The executor that the next call uses."""
        return self._tuned or self._first

    def open_session(self) -> TieredSession:
        """A session that moves to the tuned executor by itself."""
        return TieredSession(self)

    def begin_call(self) -> Executor:
        """The executor for the call that begins. With the second call, tuning starts."""
        if self._answered and self._thread is None:
            self._start_tuning()
        return self.current

    def end_call(self) -> None:
        """A call was answered."""
        self._answered = True

    def _start_tuning(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._work, name="trine-tuning")
                self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Tune now, if that has not begun, and wait for its end, at most ``timeout`` seconds.

        Returns whether the tuned executor is in use.
        """
        self._start_tuning()
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return self._tuned is not None

    def close(self) -> None:
        """Wait for the thread, then free both tiers."""
        with self._lock:
            self._closed = True
        if self._thread is not None:
            self._thread.join()
        self._first.close()
        if self._tuned is not None:
            self._tuned.close()

    def _work(self) -> None:
        try:
            self._tuned = self._tune()
        except TrineError as err:
            log.warning("tuning in the background failed, the first tier stays in use: %s", err)


class TieredSession:
    """A session over whichever executor is current."""

    def __init__(self, executor: TieredExecutor) -> None:
        self._executor = executor
        self._of = executor.current
        self._session: Session = self._of.open_session()

    @property
    def writes_in_place(self) -> bool:
        """See ``trine.runtime.executor.Session.writes_in_place``."""
        return self._session.writes_in_place

    def run(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray | None]) -> list[np.ndarray]:
        """See ``trine.runtime.executor.Session.run``."""
        executor = self._executor
        self._move_to(executor.begin_call())
        try:
            results = self._session.run(inputs, outputs)
        except RuntimeError:
            # The first tier was never verified: what it cannot run, the plan itself may.
            before = self._of
            if not executor.wait() or executor.current is before:
                raise
            self._move_to(executor.current)
            results = self._session.run(inputs, outputs)
        executor.end_call()
        return results

    def _move_to(self, executor: Executor) -> None:
        if executor is not self._of:
            self._session, self._of = executor.open_session(), executor
