"""System calls that fail as disks and networks do: a C library before libc, for one named file.

`environment("last.pt", "read", errno.EIO, 3)` is for a process in which the third read of a file
whose path ends so fails, and every later one. The process may change it, then counting anew.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

COMPILER = shutil.which("cc") or shutil.which("gcc")
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int calls, counted_for;

static int is_meant(const char *path) {
    const char *end = getenv("FAULT_FILE");
    size_t n = end ? strlen(end) : 0, m = path ? strlen(path) : 0;
    return n && m >= n && !strcmp(path + m - n, end);
}

static int fails(const char *call, const char *path) {
    const char *kind = getenv("FAULT_CALL");
    if (!kind || strcmp(kind, call) || !is_meant(path)) return 0;
    int error = atoi(getenv("FAULT_ERRNO"));
    if (error != counted_for) calls = 0;
    counted_for = error;
    if (++calls < atoi(getenv("FAULT_NUMBER"))) return 0;
    errno = error;
    return 1;
}

static int fails_fd(const char *call, int fd) {
    char link[64], path[4096];
    if (!getenv("FAULT_FILE")) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    return fails(call, path);
}

#define OPEN(name)                                                                       \
    int name(const char *path, int flags, ...) {                                         \
        va_list more; va_start(more, flags); int mode = va_arg(more, int); va_end(more); \
        if (!(flags & (O_WRONLY | O_RDWR)) && fails("open", path)) return -1;            \
        return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

ssize_t read(int fd, void *to, size_t n) {
    if (fails_fd("read", fd)) return -1;
    return ((ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read"))(fd, to, n);
}
"""


@cache
def library() -> Path:
    assert COMPILER, "no C compiler"
    folder = Path(mkdtemp(prefix="errno-"))
    source, built = folder / "errno_at.c", folder / "errno_at.so"
    source.write_text(SOURCE)
    command = [COMPILER, "-shared", "-fPIC", "-O1", "-o", str(built), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return built


def environment(file: str, call: str, error: int, number: int = 1) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(library()),
        "FAULT_FILE": file,
        "FAULT_CALL": call,
        "FAULT_ERRNO": str(error),
        "FAULT_NUMBER": str(number),
    }
