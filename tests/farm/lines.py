"""Lines between slaves and their master: ports of this machine that fail as networks do."""

import asyncio
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Self, TypeVar

T = TypeVar("T")
PIECE = 64 * 1024  # bytes


class Loss(Enum):
    """What becomes of bytes."""

    NONE = "they pass"
    FOR_NOW = "they are lost until the line is mended, which resets the connection"
    FOR_GOOD = "they are lost as long as the connection lasts"


@dataclass(eq=False)
class _Connection:
    """One connection through a line."""

    ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    loss: Loss

    def reset(self) -> None:
        for end in self.ends:
            end.transport.abort()


@dataclass(eq=False)
class Line:
    """A port that leads to the local socket *destination*, whoever listens there now.

    Its fields belong to the network's thread.
    """

    network: "Network"
    destination: Path
    port: int = 0
    connections: set[_Connection] = field(default_factory=set)
    passing: asyncio.Event = field(default_factory=asyncio.Event)
    loss: Loss = Loss.NONE
    left: float = float("inf")  # bytes that still pass upwards before it stalls

    @property
    def address(self) -> str:
        """For zmq."""
        return f"tcp://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Reset every connection; the next ones pass."""
        self.network.call(self._cut)

    def stall(self, after: float = 0) -> None:
        """Hold everything back, once *after* more bytes have passed upwards; lose nothing."""
        self.network.call(self._stall, after)

    def lose(self, for_good: bool = False) -> None:
        """Take everything and pass nothing on, as if all were well.

        for_good: even mended, connections that lost bytes stay so, as after a router's restart.
        """
        self.network.call(self._lose, for_good)

    def mend(self) -> None:
        """Let everything pass; connections that lost bytes are reset."""
        self.network.call(self._mend)

    # In the network's thread.

    def _cut(self) -> None:
        for connection in list(self.connections):
            connection.reset()

    def _stall(self, after: float) -> None:
        self.left = after
        if not after:
            self.passing.clear()

    def _lose(self, for_good: bool) -> None:
        self.loss = Loss.FOR_GOOD if for_good else Loss.FOR_NOW
        for connection in self.connections:
            connection.loss = self.loss

    def _mend(self) -> None:
        self.loss = Loss.NONE
        self.left = float("inf")
        self.passing.set()
        for connection in list(self.connections):
            if connection.loss is Loss.FOR_NOW:
                connection.reset()

    async def listen(self) -> asyncio.Server:
        self.passing.set()
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Not a coroutine: asyncio would complain of one that is cancelled.
        self.network.begin(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(self.destination)
        except OSError:  # nobody listens now
            writer.transport.abort()
            return
        connection = _Connection((writer, far_writer), self.loss)
        self.connections.add(connection)
        pumps = [
            asyncio.ensure_future(self._pump(connection, reader, far_writer, is_upwards=True)),
            asyncio.ensure_future(self._pump(connection, far_reader, writer, is_upwards=False)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.connections.discard(connection)
            connection.reset()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(
        self,
        connection: _Connection,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        is_upwards: bool,
    ) -> None:
        with suppress(OSError):
            while piece := await source.read(PIECE):
                if is_upwards:
                    self.left -= len(piece)
                    if self.left < 0:
                        self.passing.clear()
                await self.passing.wait()
                if connection.loss is Loss.NONE:
                    sink.write(piece)
                    await sink.drain()


class Network:
    """All lines, in a thread of their own."""

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        self.servers: list[asyncio.Server] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.thread = threading.Thread(target=self.loop.run_forever, name="network")
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self._end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def line_to(self, destination: Path) -> Line:
        """A new line, on a free port."""
        line = Line(self, destination)
        self.servers.append(self._await(line.listen()))
        return line

    def call(self, function: Any, *arguments: Any) -> None:
        """Call a function in the thread; return when that is done."""

        async def called() -> None:
            function(*arguments)

        self._await(called())

    def begin(self, what: Coroutine[Any, Any, None]) -> None:
        """Do something in the thread, from the thread, until it is done or all ends."""
        task = self.loop.create_task(what)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _await(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self.loop).result()

    async def _end(self) -> None:
        for server in self.servers:
            server.close()
        tasks = list(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
