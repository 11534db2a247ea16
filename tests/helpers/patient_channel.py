"""A pytest plugin for nbmake: kernels without ports, and messages that are waited for in slices of a second.

A kernel's ports are drawn before they are bound, so two tests side by side can draw the same: "Address already in use". Sockets of files
have names of their own.

nbclient can lose the wake-up of one long poll when another task writes to the same socket (its issue 312), and then
waits until the cell's time is up. Remove this once nbclient's pull request 311 is released.
"""

import asyncio
import sys
from queue import Empty

from jupyter_client.channels import AsyncZMQSocketChannel
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.utils import ensure_async


async def get_msg_in_slices(self, timeout=None):
    """Do as `AsyncZMQSocketChannel.get_msg`, but with polls of at most a second."""
    loop = asyncio.get_running_loop()
    deadline = None if timeout is None else loop.time() + timeout
    while True:
        left = 1.0 if deadline is None else min(1.0, max(0.0, deadline - loop.time()))
        if await ensure_async(self.socket.poll(1000 * left)):
            _, message = self.session.feed_identities(await ensure_async(self.socket.recv_multipart()))
            return self.session.deserialize(message)
        if deadline is not None and loop.time() >= deadline:
            raise Empty


def without_ports(start):
    """Let a kernel manager begin as it does, but with sockets of files where there are any."""

    def init(self, *args, **kwargs):
        start(self, *args, **({} if sys.platform == "win32" else {"transport": "ipc"}) | kwargs)

    return init


def pytest_configure():
    AsyncZMQSocketChannel.get_msg = get_msg_in_slices
    AsyncKernelManager.__init__ = without_ports(AsyncKernelManager.__init__)
