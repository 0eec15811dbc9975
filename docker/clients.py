#!/usr/bin/env python3
"""A client of a mesh in containers, from outside: writes until it is told to end, then judges.

    docker/clients.py HOST:PORT [--cluster]

Each key is written with ever greater numbers; after SIGTERM each is read once more, and must be no less than what was
acknowledged and no more than what was asked for. With --cluster it goes where CLUSTER SLOTS and MOVED say. Prints one line of
JSON; exit code 1 if anything was lost.
"""
import json
import signal
import socket
import sys
import time

KEYS = 200
PATIENCE = 3.0  # seconds for a connection or a reply
LAST = 30.0  # seconds in which every key must be readable in the end


def slot_of(key):
    crc = 0
    for byte in key.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
    return (crc & 0xFFFF) % 16384


class Line:
    """One connection: a command, a reply."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def ask(self, *words):
        parts = [f"*{len(words)}\r\n".encode()]
        parts += [f"${len(word)}\r\n{word}\r\n".encode() for word in map(str, words)]
        self.socket.sendall(b"".join(parts))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise OSError("the door closed the connection")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"$":
            return None if rest == "-1" else self.file.read(int(rest) + 2)[:-2].decode()
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        if kind == b":":
            return int(rest)
        return kind.decode() + rest


class Mesh:
    """The doors, and which of them has which slot."""

    def __init__(self, door, cluster):
        self.door, self.cluster, self.lines, self.heads = door, cluster, {}, {}

    def ask(self, key, *words):
        """The reply, an error as text; raises OSError where the outcome is unknown."""
        for _ in range(5):
            address = self.address_of(key)
            try:
                line = self.lines.get(address) or self.lines.setdefault(address, Line(address))
            except OSError:
                self.heads = {}
                return "-NOTSENT"
            try:
                reply = line.ask(*words)
            except OSError:
                self.lines.pop(address, None)
                self.heads = {}
                raise
            if not (isinstance(reply, str) and reply.startswith("-MOVED ")):
                return reply
            self.heads[slot_of(key)] = reply.split()[2]
        return "-MOVED without end"

    def address_of(self, key):
        if not self.cluster:
            return self.door
        if not self.heads:
            try:
                for first, last, head, *_ in Line(self.door).ask("CLUSTER", "SLOTS"):
                    self.heads.update((slot, f"{head[0]}:{head[1]}") for slot in range(first, last + 1))
            except (OSError, ValueError, TypeError):
                pass
        return self.heads.get(slot_of(key), self.door)


def main():
    mesh = Mesh(sys.argv[1], "--cluster" in sys.argv[2:])
    over = []
    signal.signal(signal.SIGTERM, lambda *_: over.append(True))
    names = [f"client:{number}" for number in range(KEYS)]
    asked, acknowledged, unknown, refused = [0] * KEYS, [0] * KEYS, 0, 0
    longest, last = 0.0, time.monotonic()
    turn = 0
    while not over:
        key = turn % KEYS
        turn += 1
        asked[key] += 1
        try:
            reply = mesh.ask(names[key], "SET", names[key], asked[key])
        except OSError:
            reply = "-UNCERTAIN"
        if reply == "+OK":
            acknowledged[key] = asked[key]
            now = time.monotonic()
            longest, last = max(longest, now - last), now
        else:
            unknown += reply.startswith("-UNCERTAIN")
            refused += not reply.startswith("-UNCERTAIN")
            time.sleep(0.02)
        time.sleep(0.001)
    lost, deadline = [], time.monotonic() + LAST
    for key, name in enumerate(names):
        while True:
            try:
                value = mesh.ask(name, "GET", name)
            except OSError:
                value = "-UNCERTAIN"
            if not (value or "").startswith("-") or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if not (value or "0").isdigit() or not acknowledged[key] <= int(value or 0) <= asked[key]:
            lost.append([name, value, acknowledged[key], asked[key]])
    report = {
        "writes": sum(asked), "acknowledged_keys": sum(n > 0 for n in acknowledged), "unknown": unknown, "refused": refused,
        "longest_gap_s": round(longest, 3), "lost": lost, "doors": len(mesh.lines),
    }
    print(json.dumps(report))
    sys.exit(1 if lost or not any(acknowledged) else 0)


main()
