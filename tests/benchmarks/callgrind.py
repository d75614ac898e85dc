# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions of some of what a process does that runs under Valgrind's callgrind.

A count repeats where a time does not. No garbage is collected meanwhile: when it would be depends on what was made
before. Started with `COMMAND` and a file's name; an x86-64 alone.
"""

import ctypes
import gc
import mmap
from collections.abc import Callable
from pathlib import Path

COMMAND = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file={}")
# valgrind.h's client request: rax points to the request and its arguments; four turns of rdi that leave it as it was,
# and an exchange of rbx with itself, are what Valgrind looks for.
_CODE = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")
# callgrind.h, from VG_USERREQ_TOOL_BASE('C', 'T') on.
_DUMP, _ZERO, _START, _STOP = 0x43540000, 0x43540001, 0x43540004, 0x43540005


class Counter:
    """Counts from a process whose ``--callgrind-out-file`` is ``out``."""

    def __init__(self, out: Path) -> None:
        self._out, self._dumps = out, 0
        self._page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._page.write(_CODE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._page))
        self._call = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)(address)

    def count(self, done: Callable[[], object]) -> int:
        """Instructions of all threads while ``done`` runs."""
        gc.disable()
        self._ask(_START)
        self._ask(_ZERO)
        done()
        self._ask(_DUMP)
        self._ask(_STOP)
        gc.enable()
        self._dumps += 1
        text = self._out.with_name(f"{self._out.name}.{self._dumps}").read_text()
        return int(text.rpartition("totals: ")[2].split()[0])

    def _ask(self, request: int) -> None:
        self._call((ctypes.c_uint64 * 6)(request))
