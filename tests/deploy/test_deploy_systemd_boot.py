"""The commands of conf/systemd.md, run by a systemd that is process 1 of namespaces of its own.

It boots only when asked to, by UNIAPI_BOOT=1: it is root who runs the commands, those that remove
the service again too. `boot.sh` lets it see this machine's files through an overlay, and starts
nothing unless every writable mount is one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.deploy.pages import CONF, run_by
from tests.kit.docs import ROOT

_SYSTEMD = Path("/usr/lib/systemd/systemd")
_TOOLS = ("unshare", "setpriv", "useradd", "userdel", "curl", "mount", "pivot_root", "systemctl")

_SUDO = """#!/bin/sh
case $1 in
    -u) user=$2; shift 2; exec setpriv --reuid "$user" --regid "$user" --clear-groups "$@" ;;
    *) exec "$@" ;;
esac
"""
_DRIVE = """
[ -e /run/uniapi-test ] || exit 1
export PATH=/shared/bin:$PATH
cd /shared/source
for step in {steps}; do
    sh -eux "/shared/$step.sh" >"/shared/$step.out" 2>&1
    echo $? >"/shared/$step.status"
done
"""
_LOOK = "systemctl show uniapi -p ActiveState,SubState,StatusText,NRestarts,Result,MainPID\n"
_PROCESS = """
pid=$(systemctl show uniapi -p MainPID --value)
grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/$pid/status
tr '\\0' '\\n' </proc/$pid/environ | grep -E '^(PYTHONMALLOC|HOST|DB_PATH|HOME)='
stat -c '%n %U %a' /etc/uniapi /etc/uniapi/api.yaml /var/lib/uniapi /var/cache/uniapi
for file in /etc/uniapi/api.yaml \\
    /opt/uniapi/x /usr/x /var/x /var/lib/uniapi/x /var/cache/uniapi/x; do
    nsenter -t "$pid" -m touch "$file" && echo "$file can be written" || echo "$file cannot"
done
"""
# A stopped process is what a stuck event loop looks like from outside.
_STUCK = """
mkdir -p /etc/systemd/system/uniapi.service.d
printf '[Service]\\nWatchdogSec=1\\nTimeoutAbortSec=1\\nRestartSec=0\\n' \\
    >/etc/systemd/system/uniapi.service.d/quick.conf
systemctl daemon-reload
systemctl restart uniapi
sleep 1.5
systemctl show uniapi -p NRestarts --value
kill -STOP "$(systemctl show uniapi -p MainPID --value)"
tries=0
until [ "$(systemctl show uniapi -p NRestarts --value)" = 1 ] &&
    curl -sS http://127.0.0.1:8080/healthz; do
    tries=$((tries + 1))
    [ $tries -lt 100 ]
    sleep 0.1
done
"""
# What a reload is for: another provider in the file, and the status tells of it.
_EDIT = """
another=$(mktemp)
sed 's/provider_name/another_name/; 1,/^api_keys/!d; /^api_keys/d; /^providers/d; /^ *#/d' \
    /etc/uniapi/api.yaml >"$another"
sed -i "/^providers/r $another" /etc/uniapi/api.yaml
before=$(systemctl show uniapi -p MainPID --value)
systemctl reload uniapi
tries=0
until systemctl show uniapi -p StatusText --value | grep -F ', 2 providers'; do
    tries=$((tries + 1))
    [ $tries -lt 100 ]
    sleep 0.1
done
[ "$before" = "$(systemctl show uniapi -p MainPID --value)" ]
systemctl is-active uniapi
"""
_GONE = """
! ls -d /opt/uniapi/bin /etc/uniapi /var/lib/uniapi /var/cache/uniapi 2>&1
! id uniapi
! systemctl status uniapi
"""


@contextmanager
def _cgroup() -> Iterator[Path]:
    """A control group below ours, or a skip; systemd makes its own inside and leaves them."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    tops = [Path(fields[1]) for fields in mounts if fields[2] == "cgroup2"]
    own = [
        line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line[:3] == "0::"
    ]
    if not tops or not own:
        pytest.skip("there is no unified control group hierarchy")
    group = tops[0] / own[0].lstrip("/") / f"uniapi-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error.strerror}")
    try:
        yield group
    finally:
        for folder, _, _ in os.walk(group, topdown=False):
            Path(folder).rmdir()


def _may() -> None:
    """Skip where this cannot be tried, or should not be."""
    if os.environ.get("UNIAPI_BOOT") != "1":
        pytest.skip("boots a systemd in namespaces of its own: UNIAPI_BOOT=1 as root")
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("namespaces with a systemd in them are for root on Linux")
    if Path("/run/systemd/system").exists():
        pytest.skip("systemd runs this machine: try the unit itself, as conf/systemd.md says")
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing or not _SYSTEMD.exists():
        pytest.skip(f"there is no {', '.join([*missing, 'systemd'])}")


def _prepare(shared: Path, steps: dict[str, str]) -> None:
    (shared / "bin").mkdir(parents=True)
    sudo = shared / "bin" / "sudo"
    sudo.write_text(_SUDO)
    sudo.chmod(0o755)
    (shared / "source" / "conf").mkdir(parents=True)
    shutil.copy(CONF / "uniapi.service", shared / "source" / "conf")
    shutil.copy(CONF / "api.minimal.yaml", shared / "source" / "api.yaml")
    for name, text in steps.items():
        (shared / f"{name}.sh").write_text(text)
    (shared / "drive.sh").write_text(_DRIVE.format(steps=" ".join(steps)))


def _boot(scratch: Path, group: Path) -> None:
    """Run the steps; skip where a namespace or an overlay is refused."""
    env = {
        "PATH": os.environ["PATH"],
        "SCRATCH": str(scratch),
        "CHECKOUT": str(ROOT),
        "SITE": str(Path(httpx.__file__).parents[1]),
        "PREFIX": sys.base_prefix,
        "SYSTEMD": str(_SYSTEMD),
        "GROUP": str(group),
    }
    spaces = "--mount --pid --fork --uts --ipc --net --cgroup --kill-child"
    boot = Path(__file__).with_name("boot.sh")
    done = subprocess.run(  # noqa: S603 - our own script
        ["sh", "-c", f'echo $$ >"$GROUP/cgroup.procs" && exec unshare {spaces} sh "{boot}"'],  # noqa: S607 - as S603
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if not (scratch / "shared" / "booting").exists():
        pytest.skip(f"this machine refuses: {(done.stderr.splitlines() or ['?'])[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_installs_runs_and_removes_it_under_a_real_systemd(tmp_path: Path) -> None:
    _may()
    user, config, service, ask, variables, daily, journal, remove = run_by("systemd.md", __file__)
    steps = {
        "user": user, "config": config, "service": service, "ask": ask, "first": _LOOK,
        "process": _PROCESS, "variables": variables, "second": _LOOK, "daily": daily,
        "journal": journal,
        "edit": _EDIT, "third": _LOOK, "stuck": _STUCK, "fourth": _LOOK,
        "stop": f"systemctl stop uniapi\n{_LOOK}",
        "remove": remove, "gone": _GONE,
    }  # fmt: skip
    shared = tmp_path / "shared"
    _prepare(shared, steps)
    with _cgroup() as group:
        _boot(tmp_path, group)
    out = {step: (shared / f"{step}.out").read_text() for step in steps}
    failed = {step: out[step] for step in steps if (shared / f"{step}.status").read_text() != "0\n"}
    assert failed == {}, (shared / "out").read_text()

    assert "ok: " in out["config"]
    assert '"status"' in out["ask"]
    assert "StatusText=serving http://127.0.0.1:8000, " in out["first"]
    assert "SubState=running" in out["first"]

    process = out["process"].splitlines()
    assert "CapEff:\t0000000000000000" in process
    assert "CapBnd:\t0000000000000000" in process
    assert "NoNewPrivs:\t1" in process
    assert "Seccomp:\t2" in process
    assert "PYTHONMALLOC=malloc" in process, "the process that started itself again is the main one"
    assert "DB_PATH=/var/lib/uniapi/stats.db" in process
    assert "/etc/uniapi root 755" in process
    assert "/etc/uniapi/api.yaml uniapi 600" in process
    assert "/var/lib/uniapi uniapi 700" in process
    assert "/var/cache/uniapi uniapi 700" in process
    for file in ("/etc/uniapi/api.yaml", "/opt/uniapi/x", "/usr/x", "/var/x"):
        assert f"{file} cannot" in process, "not even by root, in its view of the files"
    for file in ("/var/lib/uniapi/x", "/var/cache/uniapi/x"):
        assert f"{file} can be written" in process

    assert "StatusText=serving http://127.0.0.1:8080, " in out["second"]
    assert 'Status: "serving http://127.0.0.1:8080, ' in out["daily"]
    assert '"event": "server.started"' in out["journal"]
    assert '"signal": "SIGHUP"' in out["journal"], "what a reload sends"
    assert "ActiveState=active\nSubState=running" in out["third"]
    assert "\n0\n" in out["stuck"], "a healthy one is left alone"
    assert "NRestarts=1" in out["fourth"]
    assert "Result=success" in out["stop"]
    assert "ActiveState=inactive" in out["stop"]
