"""Work beside the main thread for the time of a `with` block: heartbeats, leases, watching."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meanwhile(loop: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `loop` in a thread; it is to return once its event is set, which the block's end does."""
    over = threading.Event()
    thread = threading.Thread(target=loop, args=(over,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
