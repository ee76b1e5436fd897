"""frames.py INTERFACE DESTINATION ETHERTYPE NUMBER - sends that many frames of 114 bytes, dropped or not."""
import contextlib
import socket
import sys

interface, destination, kind, number = sys.argv[1:]
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind((interface, 0))
for _ in range(int(number)):
    with contextlib.suppress(OSError):
        sender.send(bytes.fromhex(destination) + bytes.fromhex("020000000001") + bytes.fromhex(kind) + bytes(100))
