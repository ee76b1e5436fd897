"""Listens as a statsd server would on a free port of 127.0.0.1: prints the port, then every line that arrives."""

import socket

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        print(listener.recv(65536).decode(errors="replace"), flush=True)
