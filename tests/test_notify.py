"""sd_notify: what systemd hears, when, and that nothing it does can hurt the process."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from math import inf
from pathlib import Path

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from uniapi.notify import Notifier

PID = 4711


class Systemd:
    """The service manager's end: a real datagram socket, read without waiting."""

    def __init__(self, address: str | bytes, *, at: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.bind(address)
        self.env = {"NOTIFY_SOCKET": at}

    def leave(self) -> None:
        """Gone, and its socket with it."""
        self.socket.close()
        Path(self.env["NOTIFY_SOCKET"]).unlink()

    def heard(self) -> list[str]:
        """The messages since the last look."""
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    path = str(tmp_path / "notify")
    manager = Systemd(path, at=path)
    with manager.socket:
        yield manager


async def test_ready_reloading_and_stopping_arrive_in_their_order(
    systemd: Systemd, nursery: trio.Nursery
) -> None:
    notifier = Notifier(systemd.env, pid=PID, monotonic_ns=lambda: 12_345_678_999)
    nursery.start_soon(notifier.run)
    notifier.ready("serving http://127.0.0.1:8000")
    notifier.reloading()
    notifier.ready("serving again")
    notifier.stopping("draining, 2 connections")
    await trio.testing.wait_all_tasks_blocked()
    assert systemd.heard() == [
        "READY=1\nSTATUS=serving http://127.0.0.1:8000",
        "RELOADING=1\nMONOTONIC_USEC=12345678\nSTATUS=reading the configuration",
        "READY=1\nSTATUS=serving again",
        "STOPPING=1\nSTATUS=draining, 2 connections",
    ]


async def test_a_socket_may_have_an_abstract_name(nursery: trio.Nursery) -> None:
    name = f"uniapi-test-{id(nursery)}"
    try:
        manager = Systemd(f"\0{name}", at=f"@{name}")
    except OSError:
        pytest.skip("abstract names are Linux's alone")
    with manager.socket:
        notifier = Notifier(manager.env, pid=PID)
        nursery.start_soon(notifier.run)
        notifier.ready("serving")
        await trio.testing.wait_all_tasks_blocked()
        assert manager.heard() == ["READY=1\nSTATUS=serving"]


async def test_the_watchdog_hears_it_twice_in_its_time(
    systemd: Systemd, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    env = {**systemd.env, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(PID)}
    nursery.start_soon(Notifier(env, pid=PID).run)
    await trio.sleep(14.999)
    assert systemd.heard() == []
    await trio.sleep(0.002)
    assert systemd.heard() == ["WATCHDOG=1"]
    for _ in range(40):
        await trio.sleep(15)
        assert systemd.heard() == ["WATCHDOG=1"]


async def test_a_busy_talker_does_not_keep_the_watchdog_waiting(
    systemd: Systemd, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    notifier = Notifier({**systemd.env, "WATCHDOG_USEC": "4000000"}, pid=PID)
    nursery.start_soon(notifier.run)
    heard = []
    for _ in range(90):
        await trio.sleep(0.1)
        notifier.ready("serving")
        heard += systemd.heard()
    assert heard.count("WATCHDOG=1") == 4


async def test_a_stuck_event_loop_gives_no_sign_of_life(
    systemd: Systemd, nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    nursery.start_soon(Notifier({**systemd.env, "WATCHDOG_USEC": "2000000"}, pid=PID).run)
    await trio.testing.wait_all_tasks_blocked()
    mock_clock.jump(60)  # a minute in which nothing in this loop has run
    assert systemd.heard() == []
    await trio.testing.wait_all_tasks_blocked()
    assert systemd.heard() == ["WATCHDOG=1"], "late signs are not made up for"


@pytest.mark.parametrize(
    ("env", "seconds"),
    [
        ({"WATCHDOG_USEC": "5000000"}, 2.5),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": str(PID)}, 2.5),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "1"}, inf),
        ({"WATCHDOG_USEC": "5000000", "WATCHDOG_PID": "nobody"}, inf),
        ({"WATCHDOG_USEC": "0"}, inf),
        ({"WATCHDOG_USEC": "-1"}, inf),
        ({"WATCHDOG_USEC": "soon"}, inf),
        ({}, inf),
    ],
)
def test_the_interval_is_half_of_what_systemd_allows_this_process(
    env: dict[str, str], seconds: float
) -> None:
    assert Notifier({"NOTIFY_SOCKET": "/run/x", **env}, pid=PID).interval == seconds


@pytest.mark.parametrize("address", [None, "", "vsock:2:1234", "relative/path"])
async def test_without_an_address_of_ours_nothing_happens(
    address: str | None, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    env = {"WATCHDOG_USEC": "2000000"} | ({} if address is None else {"NOTIFY_SOCKET": address})
    notifier = Notifier(env, pid=PID)
    nursery.start_soon(notifier.run)
    with structlog.testing.capture_logs() as logs:
        for _ in range(100):  # nothing piles up
            notifier.ready("serving")
        await trio.sleep(1000)
    assert notifier.interval == inf
    assert logs == []


@pytest.mark.parametrize(
    "address", ["/nowhere/at/all", "/" + "x" * 200, "@" + "x" * 200, "/dev/null"]
)
async def test_a_manager_that_cannot_be_reached_is_one_warning(
    address: str, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000"}, pid=PID)
    with structlog.testing.capture_logs() as logs:
        nursery.start_soon(notifier.run)
        notifier.ready("serving")
        await trio.sleep(100)
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [
        ("notify.failed", "warning")
    ]


async def test_a_manager_that_comes_back_is_told_again(
    systemd: Systemd, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    nursery.start_soon(Notifier({**systemd.env, "WATCHDOG_USEC": "2000000"}, pid=PID).run)
    await trio.sleep(1.5)
    path = systemd.env["NOTIFY_SOCKET"]
    systemd.leave()
    await trio.sleep(10)
    again = Systemd(path, at=path)
    with again.socket:
        await trio.sleep(1)
        assert again.heard() == ["WATCHDOG=1"]


async def test_a_manager_that_does_not_read_blocks_nobody_and_misses_nothing_kept(
    systemd: Systemd, nursery: trio.Nursery
) -> None:
    stuffed = 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as other:
        other.connect(systemd.env["NOTIFY_SOCKET"])
        while True:
            try:
                other.send(b"noise")
            except OSError as error:
                assert error.errno in {errno.EAGAIN, errno.ENOBUFS}  # noqa: PT017 - Linux or BSD
                break
            stuffed += 1
    notifier = Notifier(systemd.env, pid=PID)
    nursery.start_soon(notifier.run)
    with structlog.testing.capture_logs() as logs:
        for number in range(100):
            notifier.ready(f"number {number}")
        await trio.testing.wait_all_tasks_blocked()
    assert [entry["reason"] for entry in logs] == ["it does not read"]
    assert systemd.heard() == ["noise"] * stuffed
    got: list[str] = []
    with trio.fail_after(5):
        while len(got) < 32:
            await trio.lowlevel.wait_readable(systemd.socket)
            got += systemd.heard()
    assert got[:2] == ["READY=1\nSTATUS=number 0", "READY=1\nSTATUS=number 1"]


async def test_what_was_said_last_is_sent_even_when_it_ends_at_once(systemd: Systemd) -> None:
    notifier = Notifier(systemd.env, pid=PID)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notifier.run)
        await trio.testing.wait_all_tasks_blocked()
        notifier.stopping("draining")
        nursery.cancel_scope.cancel()
    assert systemd.heard() == ["STOPPING=1\nSTATUS=draining"]


async def test_last_words_nobody_reads_hold_the_end_up_for_a_second(
    systemd: Systemd, autojump_clock: MockClock
) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        )
        other.connect(systemd.env["NOTIFY_SOCKET"])
        stack.callback(systemd.heard)
        try:
            while True:
                other.send(b"noise")
        except BlockingIOError:
            pass
        notifier = Notifier(systemd.env, pid=PID)
        begun = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notifier.run)
            await trio.testing.wait_all_tasks_blocked()
            notifier.stopping("draining")
            notifier.stopping("still draining")
            nursery.cancel_scope.cancel()
        assert trio.current_time() - begun == pytest.approx(1.0)


@given(st.text())
def test_a_status_is_one_line_whatever_it_holds(text: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": "/run/x"}, pid=PID)
    notifier.ready(text)
    message = notifier._said[0].decode()
    assert message.startswith("READY=1\nSTATUS=")
    assert message.count("\n") == 1
    assert message.partition("STATUS=")[2].split() == text.split()


@given(st.text(), st.text(), st.text())
def test_any_environment_is_borne(address: str, microseconds: str, pid: str) -> None:
    env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": microseconds, "WATCHDOG_PID": pid}
    assert Notifier(env, pid=PID).interval > 0
