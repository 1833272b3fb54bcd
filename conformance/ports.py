"""Ports for programs that must be told theirs before they start."""

import itertools
import os
import socket

# Below the ports that the system gives to whoever connects or binds to port 0: one of those could be taken by a
# connection of the test itself between the choice and the start of the program.
CANDIDATES = itertools.cycle(range(15000 + os.getpid() % 100 * 100, 32000))


def free_port():
    """A port on loopback that nobody listens on, and that this process has not been given lately."""
    for port in CANDIDATES:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("an endless row of candidates has ended")


def free_ports(count):
    return [free_port() for _ in range(count)]
