"""A wall clock that tests can set: a shim that is loaded into a redis-server.

The shim adds an offset, which it reads from a shared file, to what the C library says the time is.
It is compiled here; without a C compiler there is no such clock, and the faults that need it are
reported as left out.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

SOURCE: Final = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long *offset_s;

__attribute__((constructor)) static void attach(void) {
    const char *path = getenv("CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file >= 0) {
        void *shared = mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
        if (shared != MAP_FAILED) offset_s = shared;
        close(file);
    }
}

static long offset(void) { return offset_s ? *offset_s : 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, now);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) now->tv_sec += offset();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    static int (*real)(struct timeval *, void *);
    if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
    int failed = real(now, zone);
    now->tv_sec += offset();
    return failed;
}

time_t time(time_t *told) {
    static time_t (*real)(time_t *);
    if (!real) real = dlsym(RTLD_NEXT, "time");
    time_t now = real(NULL) + offset();
    if (told) *told = now;
    return now;
}
"""


class Clock:
    """The wall clock of the servers that have `environment`.

    Attributes:
        environment: what their environment needs. It is empty if there is no C compiler.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dk-clock-")
        shared, library = Path(self._folder.name, "offset"), Path(self._folder.name, "clock.so")
        shared.write_bytes(struct.pack("l", 0))
        with shared.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), struct.calcsize("l"))
        self.environment: dict[str, str] = {}
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            return
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-o", library, "-x", "c", "-", "-ldl"],
            input=SOURCE,
            text=True,
            check=True,
        )
        self.environment = {"LD_PRELOAD": str(library), "CHAOS_CLOCK": str(shared)}

    def shift(self, seconds: int) -> None:
        """From now on the clock is so many seconds ahead of the true time."""
        self._offset[:] = struct.pack("l", seconds)

    def close(self) -> None:
        self._offset.close()
        self._folder.cleanup()
