"""Joins a game and runs in a circle. Needs: pip install websockets. Start it twice to see two players."""

import asyncio
import math
import random
import struct

import websockets

names = {}  # player id -> display name
places = {}  # player id -> (x, y)


async def main():
    async with websockets.connect("ws://127.0.0.1:4000/play/first-game?name=Python") as socket:
        welcome = await socket.recv()
        tick_hz, me = struct.unpack_from(">HI", welcome, 2)  # big-endian, like every record
        try:
            await asyncio.gather(listen(socket), run_in_a_circle(socket, tick_hz), show(me))
        except websockets.ConnectionClosed as closed:
            print("closed:", closed)


async def listen(socket):
    async for record in socket:
        read(record)


def read(record):
    kind = record[0]
    if kind == 0x86:  # Roster
        read_roster(record)
    elif kind == 0x82:  # Keyframe
        places.clear()
        read_positions(record, 16)
    elif kind == 0x83:  # Delta
        read_positions(record, 20)


def read_positions(record, at):
    (count,) = struct.unpack_from(">I", record, 8)
    for player, x, y in struct.iter_unpack(">Iff", record[at : at + 12 * count]):
        places[player] = (x, y)


def read_roster(record):
    flags, joined, left = struct.unpack_from(">BHH", record, 1)
    if flags & 1:  # this is the whole roster
        names.clear()
    at = 6
    for _ in range(joined):
        player, user_len = struct.unpack_from(">IB", record, at)
        name = at + 5 + user_len + 1  # behind the user id
        names[player] = record[name : name + record[name - 1]].decode()
        at = name + record[name - 1]
    for player, _reason in struct.iter_unpack(">IB", record[at : at + 5 * left]):
        names.pop(player, None)
        places.pop(player, None)


async def run_in_a_circle(socket, tick_hz):
    angle = random.uniform(0, 2 * math.pi)
    while True:
        angle += 1 / tick_hz
        await socket.send(struct.pack(">BxHff", 0x01, 0, 10 * math.cos(angle), 10 * math.sin(angle)))  # Move
        await asyncio.sleep(1 / tick_hz)


async def show(me):
    while True:
        await asyncio.sleep(1)
        print(" | ".join(
            f"{names.get(player)}{' (me)' if player == me else ''} at {x:.1f}, {y:.1f}"
            for player, (x, y) in places.items()
        ), flush=True)


asyncio.run(main())
