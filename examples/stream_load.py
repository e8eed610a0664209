"""A load test of stream_server.py on the loopback: clients in real time, some of which vanish.

    python examples/stream_load.py --clients 100 400 --seconds 5

Starts a server for each number of clients. A client sends a frame every --period-ms, or as soon as
its last was answered, and its answers are compared with the module run alone, to the last bit. One
in ten vanishes on the way, in the middle of a message. Prints latencies, from a frame's sending to
its answer.
"""

import argparse
import asyncio
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from stream_server import COUNT, WIDTHS

import packseq

SIZES = 64, 128  # as the server's defaults
SERVER = Path(__file__).with_name("stream_server.py")
LIMIT = 60.0  # seconds, of whatever is asked


class Client:
    """One connection, its frames and its answers."""

    def __init__(self, seed: int, port: int, end: float, period: float) -> None:
        self._random = random.Random(seed)
        self._rng = np.random.default_rng(seed)
        self._port, self._end, self._period = port, end, period
        self.vanishes = seed % 10 == 9
        self.sent: list[np.ndarray] = []
        self.got: list[np.ndarray] = []
        self.seconds: list[float] = []

    async def run(self) -> None:
        await asyncio.sleep(self._random.uniform(0, self._period))
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        width, rows = WIDTHS.unpack(await reader.readexactly(WIDTHS.size))
        stop = self._random.uniform(time.perf_counter(), self._end)
        while (start := time.perf_counter()) < (stop if self.vanishes else self._end):
            frame = self._rng.standard_normal((1, width), np.float32)
            writer.write(COUNT.pack(1) + frame.tobytes())
            answer = await reader.readexactly(COUNT.size + 4 * rows)
            self.seconds.append(time.perf_counter() - start)
            self.sent.append(frame)
            self.got.append(np.frombuffer(answer, "<f4", offset=COUNT.size)[None])
            await asyncio.sleep(max(0.0, start + self._period - time.perf_counter()))
        if self.vanishes:
            writer.write(COUNT.pack(3) + b"half a message")
            await writer.drain()
            writer.transport.abort()
        else:
            writer.close()

    def is_right(self, module: packseq.LSTM) -> bool:
        """Whether all answers are those of the module run on this client's frames alone."""
        if not self.sent:
            return True
        expected, _ = module(np.concatenate(self.sent))
        return np.concatenate(self.got).tobytes() == expected.tobytes()


async def load(clients: int, port: int, seconds: float, period: float) -> list[Client]:
    end = time.perf_counter() + seconds
    made = [Client(seed, port, end, period) for seed in range(clients)]
    async with asyncio.timeout(seconds + LIMIT):
        results = await asyncio.gather(*(client.run() for client in made), return_exceptions=True)
    for client, result in zip(made, results, strict=True):
        if isinstance(result, BaseException) and not client.vanishes:
            raise result
    return made


def measure(clients: int, seconds: float, period: float, tick_ms: float) -> bool:
    """Print a row of the table; returns whether every answer was right."""
    command = [sys.executable, str(SERVER), "--port", "0", "--tick-ms", str(tick_ms)]
    command += ["--sizes", *map(str, SIZES)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline().split()[-1])
            made = asyncio.run(load(clients, port, seconds, period))
        finally:
            server.terminate()
    module = packseq.LSTM(*SIZES, rng=0)
    wrong = sum(not client.is_right(module) for client in made)
    times = 1000 * np.concatenate([client.seconds for client in made])
    latencies = " | ".join(f"{np.percentile(times, q):.1f}" for q in (50, 90, 99, 100))
    vanished = sum(client.vanishes for client in made)
    print(f"| {clients} | {vanished} | {len(times) / seconds:.0f} | {latencies} | {wrong} |")
    return wrong == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[50, 200, 800])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--period-ms", type=float, default=20)
    parser.add_argument("--tick-ms", type=float, default=4)
    options = parser.parse_args()
    if max(options.clients) > 5000 or options.seconds > LIMIT:
        parser.error(f"at most 5000 clients and {LIMIT:.0f} seconds")
    print("| clients | that vanish | frames a second | 50 %, ms | 90 % | 99 % | worst | wrong |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    seconds, period = options.seconds, options.period_ms / 1000
    right = [measure(clients, seconds, period, options.tick_ms) for clients in options.clients]
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
