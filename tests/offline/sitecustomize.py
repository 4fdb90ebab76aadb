"""With this folder on PYTHONPATH, a Python and its children end when they reach for the network.

Sockets within the machine (AF_UNIX), by which processes talk to each other, are left.
"""

import os
import socket
import sys

NAMES = ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr")
SENDING = ("socket.connect", "socket.bind", "socket.sendto", "socket.sendmsg")


def refuse(event: str, arguments: tuple) -> None:
    if event in NAMES or (event in SENDING and arguments[0].family != socket.AF_UNIX):
        print(f"{event}{arguments[1:]}: reached for the network", file=sys.stderr, flush=True)
        os._exit(97)


sys.addaudithook(refuse)
