"""The example of a server: each client gets its own answers, whoever else comes and goes."""

import asyncio
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from strategies import assert_same_bits

from packseq import LSTM

EXAMPLE = Path(__file__).parents[1] / "examples" / "stream_server.py"
WIDTH, HIDDEN, TICK = 5, 9, 0.001


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("stream_server", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def serve(example):
    """Run scenario(server, connect) beside a server of a small LSTM, of so many clients at most."""

    def run(scenario, capacity=100):
        async def main():
            server = example.Server(LSTM(WIDTH, HIDDEN, rng=0), TICK, capacity)
            listening = await server.serve("127.0.0.1", 0)
            port = listening.sockets[0].getsockname()[1]
            ticking = asyncio.create_task(server.run())
            clients = []

            async def connect():
                client = Client(example, *await asyncio.open_connection("127.0.0.1", port))
                clients.append(client)
                await client.begin()
                return client

            async with listening, asyncio.timeout(60):
                await scenario(server, connect)
                assert not ticking.done()  # whatever happened, the server goes on
                for client in clients:
                    client.writer.close()
                await until_open(server, 0)
                ticking.cancel()

        asyncio.run(main())

    return run


class Client:
    def __init__(self, example, reader, writer):
        self._count, self._widths = example.COUNT, example.WIDTHS
        self.reader, self.writer = reader, writer

    async def begin(self):
        widths = self._widths.unpack(await self.reader.readexactly(self._widths.size))
        assert widths == (WIDTH, HIDDEN)

    async def ask(self, frames):
        self.writer.write(self._count.pack(len(frames)) + frames.tobytes())
        (count,) = self._count.unpack(await self.reader.readexactly(self._count.size))
        assert count == len(frames)
        rows = await self.reader.readexactly(4 * count * HIDDEN)
        return np.frombuffer(rows, "<f4").reshape(count, HIDDEN)


async def until_open(server, count):
    while len(server.streams) != count:
        await asyncio.sleep(TICK)


def frames_of(count, seed):
    return np.random.default_rng(seed).standard_normal((count, WIDTH), np.float32)


async def stream(client, seed, steps=12):
    """Send a stream in messages of 0, 1 or 2 frames, and compare with the module alone."""
    frames = [frames_of(step % 3, [seed, step]) for step in range(steps)]
    rows = [await client.ask(part) for part in frames]
    expected, _ = LSTM(WIDTH, HIDDEN, rng=0)(np.concatenate(frames))
    assert_same_bits(np.concatenate(rows), expected)


def test_each_client_gets_its_own_answers(serve):
    async def scenario(server, connect):
        clients = [await connect() for _ in range(7)]
        await asyncio.gather(*(stream(client, seed) for seed, client in enumerate(clients)))

    serve(scenario)


@pytest.mark.parametrize("last_words", [b"", b"\x03", b"\x02\x00\x00\x00half", b"\xff" * 8])
def test_one_that_vanishes_or_sends_nonsense_takes_nothing_from_others(serve, last_words):
    async def scenario(server, connect):
        staying, vanishing = [await connect() for _ in range(3)], await connect()
        await vanishing.ask(frames_of(1, 99))

        async def vanish():
            vanishing.writer.write(last_words)
            await vanishing.writer.drain()
            vanishing.writer.transport.abort()

        await asyncio.gather(vanish(), *(stream(c, seed) for seed, c in enumerate(staying)))
        await until_open(server, 3)

    serve(scenario)


def test_one_that_vanishes_before_its_answer(serve):
    async def scenario(server, connect):
        staying, vanishing = await connect(), await connect()
        vanishing.writer.write(b"\x01\x00\x00\x00" + frames_of(1, 0).tobytes())
        await vanishing.writer.drain()
        vanishing.writer.transport.abort()
        await stream(staying, 5)
        await until_open(server, 1)

    serve(scenario)


def test_one_too_many_is_sent_away(serve):
    async def scenario(server, connect):
        first = await connect()
        with pytest.raises(asyncio.IncompleteReadError):
            await connect()
        await stream(first, 3)

    serve(scenario, capacity=1)
