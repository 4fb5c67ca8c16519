"""The network between the processes: connections on which bytes arrive late, in pieces, or not at all.

Within a connection nothing overtakes. The loop's own `create_server` and `create_connection` lead here, so
that the real ends of the forwarding protocol talk over it.
"""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, cast

from tests.ledger.sim.loop import GATE, Gate, ProcessLoop

_OVER = None
NEXT_S = 1e-7
"""What follows on a connection arrives later, be it ever so little: the loop shuffles what is due at once."""
Protocols = Callable[[], asyncio.BaseProtocol]


class Weather:
    """How long messages take. `slow`: now and then one takes this long, seconds."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.base_s = random.choice((0.0001, 0.0005, 0.003))
        self.slow_s = 0.0
        self.slow_share = 0.0

    def delay_s(self) -> float:
        if self.slow_share and self._random.random() < self.slow_share:
            return self._random.uniform(0, self.slow_s)
        return self.base_s * self._random.uniform(0.5, 1.5)

    def calm(self) -> None:
        self.slow_share = 0.0


class _Socket:
    """As much of a socket as is asked for."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address

    def setsockopt(self, *_: object) -> None:
        return

    def getsockname(self) -> tuple[str, int]:
        return self._address


class Transport(asyncio.Transport):
    """One end of a connection, in one process."""

    def __init__(self, network: Network, gate: Gate | None, address: tuple[str, int]) -> None:
        super().__init__({"socket": _Socket(address)})
        self._network = network
        self.gate = gate
        self.other: Transport | None = None
        self.protocol: Any = None
        self._inbox: deque[bytes | None] = deque()
        self._reading = True
        self._closing = False
        self._over = False
        self._arrives_s = 0.0

    def write(self, data: Any) -> None:
        if self._closing or not data:
            return
        random = self._network.random
        whole = bytes(data)
        at = random.randrange(len(whole)) if random.random() < 0.1 else 0
        for part in (whole[:at], whole[at:]):
            if part:
                self._send(part)

    def _send(self, part: bytes | None) -> None:
        """Have `part` arrive at the other end; None: that this end is closed."""
        network, other = self._network, self.other
        if other is not None:
            now = network.loop.time()
            self._arrives_s = max(
                self._arrives_s + NEXT_S,
                now + network.weather.delay_s(),
                network.held_until_s(self.gate, other.gate),
            )
            network.latest_s = max(network.latest_s, self._arrives_s)
            network.loop.later(self._arrives_s - now, self._arrive, other, part)

    def _arrive(self, other: Transport, part: bytes | None) -> None:
        if self.other is other and not other._over:
            other._inbox.append(part)
            other._wake()

    def _wake(self) -> None:
        if self.gate is None or not self.gate.killed:
            context = self._network.loop.outside if self.gate is None else self.gate.context
            self._network.loop.call_soon(self._take, context=context)

    def _take(self) -> None:
        while self._inbox and self._reading and not self._over and self.protocol is not None:
            part = self._inbox.popleft()
            if part is _OVER:
                self._end()
            elif not self._closing:
                self.protocol.data_received(part)

    def _end(self) -> None:
        if not self._over:
            self._over = self._closing = True
            self._network.ended(self)
            if self.protocol is not None:
                self.protocol.connection_lost(None)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self._wake()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._send(None)
            self._network.loop.call_soon(self._end)

    def abort(self) -> None:
        """Close at once; what is on its way to the other end may be lost."""
        if not self._over:
            self._closing = True
            self.tear(keeps=self._network.random.random() < 0.5)
            self._network.loop.call_soon(self._end)

    def tear(self, *, keeps: bool) -> None:
        """Break this end off. Unless it `keeps` it, what it has sent and has not arrived is lost."""
        other = self.other
        if other is not None and not other._over:
            if keeps:
                self._send(None)
            else:
                self.other = None
                delay_s = self._network.weather.delay_s()
                self._network.loop.later(delay_s, self._tell, other)

    def _tell(self, other: Transport) -> None:
        other._inbox.append(None)
        other._wake()

    def cut(self) -> None:
        """Fail: neither end gets anything more, and each learns of it in its time."""
        for end in (self, self.other):
            if end is not None:
                end.other = None
                self._network.loop.later(self._network.weather.delay_s(), end._tell, end)


class Server:
    """What `create_server` returns."""

    def __init__(self, network: Network, address: tuple[str, int], gate: Gate, make: Protocols) -> None:
        self._network = network
        self.address = address
        self.gate = gate
        self.make = make
        self.sockets = (_Socket(address),)

    def close(self) -> None:
        if self._network.listening.get(self.address) is self:
            del self._network.listening[self.address]


class Network:
    """Every connection between processes, and who listens."""

    def __init__(self, loop: ProcessLoop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.weather = Weather(random)
        self.listening: dict[tuple[str, int], Server] = {}
        self.ends: list[Transport] = []
        self.latest_s = 0.0
        """When the last of all messages arrives that are on their way."""
        self._parted: dict[frozenset[str], float] = {}
        """Until when nothing passes between two processes."""

    def ended(self, end: Transport) -> None:
        if end in self.ends:
            self.ends.remove(end)

    def part(self, one: str, other: str, until_s: float) -> None:
        """Let nothing pass between two processes for a while: it arrives later."""
        self._parted[frozenset((one, other))] = until_s

    def heal(self) -> None:
        self.weather.calm()
        self._parted.clear()

    def held_until_s(self, one: Gate | None, other: Gate | None) -> float:
        if not self._parted or one is None or other is None:
            return 0.0
        return self._parted.get(frozenset((one.name, other.name)), 0.0)

    def cut(self, one: str, other: str | None = None) -> None:
        """Break the connections between two processes, or all of one."""
        for end in tuple(self.ends):
            if end.gate is not None and end.gate.name == one and end.other is not None:
                peer = end.other.gate
                if other is None or (peer is not None and peer.name == other):
                    end.cut()

    def killed(self, gate: Gate) -> None:
        """The kernel closes what a process had open."""
        for server in tuple(self.listening.values()):
            if server.gate is gate:
                server.close()
        for end in tuple(self.ends):
            if end.gate is gate:
                end.tear(keeps=self.random.random() < 0.7)
                self.ended(end)

    async def serve(self, make: Protocols, host: str, port: int) -> Server:
        address, gate = (host, port), GATE.get()
        assert gate is not None, "a process listens"
        if address in self.listening:
            raise OSError(errno.EADDRINUSE, "another listens there")
        self.listening[address] = Server(self, address, gate, make)
        return self.listening[address]

    async def connect(self, make: Protocols, host: str, port: int) -> tuple[Transport, asyncio.BaseProtocol]:
        gate, address = GATE.get(), (host, port)
        await asyncio.sleep(self.weather.delay_s())
        server = self.listening.get(address)
        if server is not None:
            held_s = self.held_until_s(gate, server.gate) - self.loop.time()
            if held_s > 0:
                await asyncio.sleep(held_s)
            server = self.listening.get(address)
        if server is None or server.gate.killed:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "nobody listens there")
        ours, theirs = Transport(self, gate, address), Transport(self, server.gate, address)
        ours.other, theirs.other = theirs, ours
        self.ends += [ours, theirs]
        self.loop.call_soon(self._welcome, theirs, server.make, context=server.gate.context)
        ours.protocol = make()
        ours.protocol.connection_made(ours)
        return ours, ours.protocol

    def _welcome(self, end: Transport, make: Protocols) -> None:
        if end._over:
            return
        end.protocol = make()
        end.protocol.connection_made(end)
        end._take()


class NetworkedLoop(ProcessLoop):
    """A loop of processes whose TCP is the simulated network."""

    network: Network

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:
        return await self.network.serve(protocol_factory, host, port)

    async def create_connection(
        self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any
    ) -> Any:
        return cast("Any", await self.network.connect(protocol_factory, host, port))
