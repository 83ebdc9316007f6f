"""Plain HTTP where TLS is spoken: the client is told so, which says more than a connection that just ends."""

import asyncio
import socket

_HANDSHAKE = 0x16
_ANSWER = b"""HTTP/1.1 400 Bad Request\r
Content-Type: text/plain; charset=utf-8\r
Content-Length: 33\r
Connection: close\r
\r
This is HTTPS: write https://...
"""


async def is_answered(sock: socket.socket, patience: float) -> bool:
    """Tell whether a client of a TLS server began with something else, and was answered; nothing is read if not.

    Raises:
        OSError, asyncio.TimeoutError: the client left, or said nothing for `patience` seconds.
    """
    first = await asyncio.wait_for(_peek(sock), patience)
    if not first or first[0] == _HANDSHAKE:
        return False
    # What is unread at the close would make the kernel take the answer back.
    sock.recv(65536)
    sock.send(_ANSWER)
    return True


async def _peek(sock: socket.socket) -> bytes:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _set, readable)
    try:
        await readable
    finally:
        loop.remove_reader(sock)
    return sock.recv(1, socket.MSG_PEEK)


def _set(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)
