"""What a fork leaves behind: of all threads only the one that forked lives on in the child.

An engine's threads are then gone, but its objects still count on them: a call may wait for ever, and so may
the engine's clean-up, which joins them.
"""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Watcher(Protocol):
    """Something that is to be told when it finds itself in a forked child."""

    def after_fork(self) -> None:
        """Called in the child, in the thread that forked, before anything else runs there."""
        ...


# The interpreter keeps one list of such functions a process, and nothing can be taken off it: one entry for
# all watchers, which vanish from this set when they are no longer used.
_WATCHERS: WeakSet[Watcher] = WeakSet()


def watch(watcher: Watcher) -> None:
    """Call ``watcher.after_fork`` in every child that this process forks, for as long as it is used."""
    _WATCHERS.add(watcher)


def never_clean_up(thing: object) -> None:
    """Keep an object for as long as the process lives, and beyond the interpreter's clean-up at its end."""
    import ctypes

    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _in_the_child() -> None:
    for watcher in list(_WATCHERS):
        watcher.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_child)
