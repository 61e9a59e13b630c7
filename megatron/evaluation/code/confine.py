"""Runs one command with limits, from outside of this program: ``python -I confine.py <settings as JSON>``.

It is a program of its own, of the standard library alone, because the limits are set between fork and exec, which a
process with threads must not do. It ends with a line of JSON on the file descriptor that the settings name.

What a confined command cannot do, where the kernel lets this program see to it (the line says where not):

- use more time, memory, file size or processes than it is allowed, each of its processes counted for itself;
- reach any network, or processes outside, or shared memory: it has namespaces of its own;
- write, make or remove files outside its folder (Landlock);
- gain rights, or keep those of root: root's commands run as a user that does not exist;
- live on when the command has ended.

What it still can do: read every file that its user can read, and see which processes run; use all of its time on all
processors; fill the disk of its folder, file by file; use faults of the kernel. For programs that may be hostile, add a
virtual machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# linux/sched.h, linux/prctl.h, linux/landlock.h
_NEW_USER, _NEW_PID, _NEW_NET, _NEW_IPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000
_SET_DEATH_SIGNAL, _SET_SUBREAPER, _SET_NO_NEW_PRIVILEGES = 1, 36, 38
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same on every architecture
_LANDLOCK_VERSION = 1
# Writing, removing and making of every kind; then what later versions added: renaming across folders, truncating.
_WRITES = {1: (1 << 1) | sum(1 << bit for bit in range(4, 13)), 2: 1 << 13, 3: 1 << 14}
_TCP, _SCOPES = 0b11, 0b11  # bind and connect, from version 4; abstract sockets and signals, from version 6
_O_PATH = 0o10000000
_NOBODY = 65534
_OWN_USERS = 1 << 20  # above every user that is likely to exist
_COUNTS_PER_NAMESPACE = (5, 14)  # since then, processes are counted in each user namespace for itself

_libc = ctypes.CDLL(None, use_errno=True)


def main(settings: dict[str, Any]) -> int:
    """Run the command and report how it ended."""
    report_to = int(settings["report"])
    os.set_inheritable(report_to, False)
    _libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _die_with_parent()
    _libc.prctl(_SET_SUBREAPER, 1, 0, 0, 0)
    isolation = _isolate()
    user = _user_to_become(settings["folder"])
    started = time.monotonic()
    first = os.fork()
    if first == 0:
        # In a process namespace of its own this is the process that ends all others when it ends.
        _die_with_parent()
        os._exit(_first_process(settings, isolation, user))
    status, late = _wait(first, started + settings["seconds"])
    _end_all_below()
    ended = {**isolation, "user": user, "late": late, "status": status, "seconds": time.monotonic() - started}
    os.write(report_to, json.dumps(ended).encode())
    return 0


def _first_process(settings: dict[str, Any], isolation: dict[str, bool], user: int | None) -> int:
    os.setsid()
    child = os.fork()
    if child == 0:
        try:
            _confine(settings, isolation, user)
            os.execve(settings["command"][0], settings["command"], settings["environment"])
        except OSError as error:
            os.write(2, f"cannot be started: {error}\n".encode())
        os._exit(126)
    while True:
        ended, status = os.wait()
        if ended == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _confine(settings: dict[str, Any], isolation: dict[str, bool], user: int | None) -> None:
    _die_with_parent()
    os.chdir(settings["folder"])
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
        _die_with_parent()  # another user's process forgets it
    _only_write_below(settings["folder"])
    seconds = int(settings["seconds"]) + 1
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_DATA: settings["memory_bytes"],
        resource.RLIMIT_FSIZE: settings["file_bytes"],
        resource.RLIMIT_NPROC: settings["processes"] + _processes_that_count(isolation),
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
    }
    if settings["limit_addresses"]:
        limits[resource.RLIMIT_AS] = settings["memory_bytes"]
    for limit, value in limits.items():
        highest = resource.getrlimit(limit)[1]
        value = value if highest == resource.RLIM_INFINITY else min(value, highest)
        resource.setrlimit(limit, (value, value))
    os.closerange(3, 256)


def _isolate() -> dict[str, bool]:
    """Enter namespaces; return what they keep apart."""
    user, group = os.geteuid(), os.getegid()
    own = _NEW_PID | _NEW_NET | _NEW_IPC
    for flags in (own,) if user == 0 else (_NEW_USER | own, _NEW_USER | _NEW_NET):
        if _libc.unshare(flags) == 0:
            if flags & _NEW_USER:
                _map_user(user, group)
            apart = bool(flags & _NEW_PID)
            return {"network": True, "processes": apart, "own_user_namespace": user != 0, "files": _landlock() > 0}
    # Landlock keeps it from TCP then, but not from the rest of the network.
    return {"network": False, "processes": False, "own_user_namespace": False, "files": _landlock() > 0}


def _map_user(user: int, group: int) -> None:
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with contextlib.suppress(OSError):  # the program then runs as a user that has nothing
            Path(f"/proc/self/{name}").write_text(text)


def _user_to_become(folder: str) -> int | None:
    """Return a user without rights for root's commands, to whom the folder is given."""
    if os.geteuid() != 0:
        return None
    for user in (_OWN_USERS + os.getpid() % _OWN_USERS, _NOBODY):
        try:
            for path in (Path(folder), *Path(folder).iterdir()):
                os.chown(path, user, user)
        except OSError:
            continue  # containers have few users
        return user
    raise OSError("root cannot give up its rights here, and programs are not run as root: run this as another user")


def _landlock() -> int:
    """Return the version of Landlock that the kernel has; 0 or less for none."""
    return int(_libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_LANDLOCK_VERSION)))


def _only_write_below(folder: str) -> None:
    version = _landlock()
    if version <= 0:
        return
    writes = sum(bits for since, bits in _WRITES.items() if version >= since)
    attributes = struct.pack("QQQ", writes, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0))
    # Of a file, only writing to it can be allowed (and truncating it).
    for path, allowed in ((folder, writes), ("/dev/null", writes & ((1 << 1) | (1 << 14)))):
        opened = os.open(path, _O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", allowed, opened)
        _libc.syscall(_LANDLOCK_ADD, rules, 1, rule, ctypes.c_uint32(0))
        os.close(opened)
    if rules < 0 or _libc.syscall(_LANDLOCK_RESTRICT, rules, ctypes.c_uint32(0)) != 0:
        raise OSError(ctypes.get_errno(), "the kernel has Landlock and refuses it")
    os.close(rules)


def _processes_that_count(isolation: dict[str, bool]) -> int:
    """Return how many processes and threads the user has already, as far as they count against the limit."""
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    if isolation["own_user_namespace"] and release >= _COUNTS_PER_NAMESPACE:
        return 3  # this program's own
    count = 0
    for folder in _process_folders():
        try:
            if folder.stat().st_uid == os.getuid():
                count += sum(1 for _ in (folder / "task").iterdir())
        except OSError:
            continue  # it has just ended
    return count


def _wait(child: int, until: float) -> tuple[int, bool]:
    """Wait for a process; return its exit status, and whether it had to be ended because it was late."""
    pause = 0.001
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status), False
        time.sleep(pause)
        pause = min(0.02, pause * 1.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -int(signal.SIGKILL), True


def _end_all_below() -> None:
    """End what the command has left running; it has become a child of this process."""
    while True:
        for folder in _process_folders():
            if _parent_of(folder) == os.getpid():
                os.kill(int(folder.name), signal.SIGKILL)
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            time.sleep(0.001)  # some have become children only after they were looked for


def _process_folders() -> Iterator[Path]:
    return (folder for folder in Path("/proc").iterdir() if folder.name.isdecimal())


def _parent_of(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _die_with_parent() -> None:
    _libc.prctl(_SET_DEATH_SIGNAL, int(signal.SIGKILL), 0, 0, 0)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
