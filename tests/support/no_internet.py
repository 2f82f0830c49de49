"""Run a command to which, and to all that it starts, the system refuses internet sockets: `no_internet.py COMMAND …`.

A seccomp filter, which every process that follows inherits and none can take off. It refuses and does not kill, because
urllib3 asks for an IPv6 socket when it is imported, only to see whether there are any.
"""

import ctypes
import errno
import os
import platform
import socket
import struct
import sys

SOCKET_CALL = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}  # the kernel's name of the machine; socket(2)
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000 | errno.EACCES, 0x80000000
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, MACHINE, FAMILY = 0, 4, 16  # where the call, the machine and the first argument stand
NO_NEW_PRIVILEGES, SECCOMP, FILTER = 38, 22, 2


def forbid() -> None:
    """From here on in this process and all that it starts; OSError where the system does not allow it."""
    machine, number = SOCKET_CALL[platform.machine()]
    program = [
        (LOAD, 0, 0, MACHINE),
        (EQUAL, 1, 0, machine),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
        (EQUAL, 0, 3, number),
        (LOAD, 0, 0, FAMILY),
        (EQUAL, 2, 0, socket.AF_INET),
        (EQUAL, 1, 0, socket.AF_INET6),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, REFUSE),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    header = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for words in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SECCOMP, FILTER, header, 0, 0)):
        if libc.prctl(*words):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    forbid()
    os.execvp(sys.argv[1], sys.argv[1:])
