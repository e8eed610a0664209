"""A server of live streams: what arrives within a tick is one push, and each gets its answer.

    python examples/stream_server.py --port 8765 --tick-ms 4
    python examples/stream_server.py --checkpoint model.safetensors

Needs packseq and the standard library. A connection is a session. All numbers are little-endian:

    server, once    two uint32: the width I of a frame, and R of an answer's row
    client          uint32 n, then n frames (n, I) of float32
    server          uint32 n, then n rows (n, R) of float32
    and so on until the client closes

A client has one message under way: its next is read when the last was answered, so what the server
holds is bounded, and a client that sends too fast waits in its own socket. One that vanishes, sends
nonsense or does not read its answers is dropped; nobody else notices.
"""

import argparse
import asyncio
import contextlib
import struct

import numpy as np

import packseq

COUNT = struct.Struct("<I")
WIDTHS = struct.Struct("<II")
MOST_FRAMES = 1000  # of one message
SECONDS_TO_READ = 5.0  # that a client has to take its answer


class Server:
    """Sessions of one module, and the messages that wait for the next tick."""

    def __init__(self, module: packseq.LSTM, tick: float, capacity: int) -> None:
        self.streams = packseq.Streams(module, capacity)
        self.tick = tick
        self.widths = module.input_size, module.proj_size or module.hidden_size
        self._waiting: dict[int, tuple[np.ndarray, asyncio.Future]] = {}
        self._leaving: list[int] = []

    async def serve(self, host: str, port: int) -> asyncio.Server:
        """Listen; the caller keeps the result open, and `run` beside it."""
        return await asyncio.start_server(self._client, host, port)

    async def run(self) -> None:
        """Push whatever has arrived, tick by tick, until cancelled."""
        while True:
            await asyncio.sleep(self.tick)
            # Here, since no push runs now: a session in a push cannot be closed.
            while self._leaving:
                self.streams.close(self._leaving.pop())
            if self._waiting:
                batch, self._waiting = self._waiting, {}
                await self._push(batch)

    async def _push(self, batch: dict[int, tuple[np.ndarray, asyncio.Future]]) -> None:
        frames, answers = zip(*batch.values(), strict=True)
        try:
            # In a thread: the GIL is released, and messages are read meanwhile.
            outputs = await asyncio.to_thread(self.streams.push, [*batch], [*frames])
        except Exception as error:  # nothing has changed; those who wait are told
            outputs = [error] * len(answers)
        for answer, output in zip(answers, outputs, strict=True):
            if answer.cancelled():
                continue
            if isinstance(output, Exception):
                answer.set_exception(output)
            else:
                answer.set_result(output)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            id = self.streams.open()
        except (RuntimeError, MemoryError):  # as many as there may be
            writer.close()
            return
        try:
            writer.write(WIDTHS.pack(*self.widths))
            while True:
                frames = await self._read(reader)
                answer = asyncio.get_running_loop().create_future()
                self._waiting[id] = frames, answer
                rows = await answer
                writer.write(COUNT.pack(len(rows)) + rows.tobytes())
                await asyncio.wait_for(writer.drain(), SECONDS_TO_READ)
        except (OSError, EOFError, ValueError, MemoryError, TimeoutError):
            pass  # it has gone, or is sent away
        finally:
            self._waiting.pop(id, None)
            self._leaving.append(id)
            writer.transport.abort()

    async def _read(self, reader: asyncio.StreamReader) -> np.ndarray:
        (count,) = COUNT.unpack(await reader.readexactly(COUNT.size))
        if count > MOST_FRAMES:
            raise ValueError(f"a message has at most {MOST_FRAMES} frames, got {count}")
        width = self.widths[0]
        data = await reader.readexactly(4 * count * width)
        return np.frombuffer(data, "<f4").reshape(count, width)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8765, help="0: any that is free")
    parser.add_argument("--tick-ms", type=float, default=4)
    parser.add_argument("--capacity", type=int, default=10_000, help="clients at once")
    parser.add_argument("--checkpoint", help="anything that packseq.load reads")
    parser.add_argument("--sizes", type=int, nargs=2, default=(64, 128), metavar=("I", "H"))
    options = parser.parse_args()
    if options.checkpoint:
        module = packseq.load(options.checkpoint)
    else:
        module = packseq.LSTM(*options.sizes, rng=0)  # of random weights, to try it
    server = Server(module, options.tick_ms / 1000, options.capacity)
    listening = await server.serve(options.host, options.port)
    print("listening on port", listening.sockets[0].getsockname()[1], flush=True)
    async with listening:
        await server.run()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
