#!/usr/bin/python3
"""A stand-in for statsd_exporter, which Debian does not have: exporter.py MAPPING UDP_PORT HTTP_PORT.

It maps gauges by what packaging/statsd_exporter/xenmonitor.yml uses: globs, of which the first that matches applies, and
a ttl. A machine that has the real one uses that.
"""

import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, SO_RCVBUF, SOCK_DGRAM, SOL_SOCKET, socket

import yaml

MAPPING, UDP, HTTP = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
CONFIG = yaml.safe_load(open(MAPPING))
TTL = {"s": 1, "m": 60}[CONFIG["defaults"]["ttl"][-1]] * int(CONFIG["defaults"]["ttl"][:-1])
RULES = [(re.compile(re.escape(rule["match"]).replace(r"\*", "([^.]*)")), rule) for rule in CONFIG["mappings"]]
received = {}


def mapped(path):
    for pattern, rule in RULES:
        if found := pattern.fullmatch(path):
            fill = lambda text: re.sub(r"\$(\d)", lambda place: found[int(place[1])], text)
            labels = ",".join(f'{name}="{fill(value)}"' for name, value in rule.get("labels", {}).items())
            return f"{fill(rule['name'])}{{{labels}}}"
    return path.replace(".", "_")


def receive():
    server = socket(AF_INET, SOCK_DGRAM)
    server.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 20)
    server.bind(("127.0.0.1", UDP))
    while True:
        for line in server.recv(65536).decode().splitlines():
            path, value = line.removesuffix("|g").split(":")
            received[mapped(path)] = (value, time.monotonic())


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        alive = time.monotonic() - TTL
        lines = [f"{name} {value}\n" for name, (value, at) in sorted(received.copy().items()) if at > alive]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write("".join(lines).encode())

    def log_message(self, *_):
        pass


threading.Thread(target=receive, daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", HTTP), Page).serve_forever()
