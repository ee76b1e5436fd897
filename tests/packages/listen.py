"""Listens like a statsd server on a free port of 127.0.0.1, or like syslog at the path given as argument. Prints the
port or path, then every received line."""

import socket
import sys

family = socket.AF_UNIX if sys.argv[1:] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as listener:
    listener.bind(sys.argv[1] if sys.argv[1:] else ("127.0.0.1", 0))
    print(sys.argv[1] if sys.argv[1:] else listener.getsockname()[1], flush=True)
    while True:
        print(listener.recv(65536).decode(errors="replace"), flush=True)
