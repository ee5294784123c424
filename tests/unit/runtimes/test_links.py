"""The end of the link is the end of the supervisor, however it came."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from tenfold.runtimes.links import Assignment, encode_message

_CHILD = """
import os, sys
from tenfold.runtimes.links import Beat, ChildLink

link = ChildLink(int(sys.argv[1]))
if sys.argv[2] == "unread":
    link.say(Beat())
link.on_stop(lambda order: (print(order.keep_idle, flush=True), os._exit(0)))
print("begun", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("left", ["unread", "nothing"])
def test_a_process_is_stopped_also_where_its_supervisor_died_with_something_unread(
    left: str,
) -> None:
    """The system then resets the link, in place of closing it."""
    mine, theirs = socket.socketpair()
    with mine:
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(theirs.fileno()), left],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        mine.sendall(encode_message(Assignment(name="web-1", file="x", topology="growth")))
        assert child.stdout is not None
        assert child.stdout.readline() == "begun\n"
    try:
        # Until it ends by itself: its input stays open, and `within_s` would end it with 1.
        assert child.wait(30) == 0
        assert child.stdout.read() == "False\n"
    finally:
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            assert pipe is not None
            pipe.close()
