# SPDX-License-Identifier: Apache-2.0
"""The settings of the data-parallel step: one table of environment variables, all read and checked at start."""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Callable, Collection, Mapping, Optional

PREFIX = "VLLM_ASCEND_DP_"
ON, OFF = "on", "off"
AUTO = "auto"
MOST_TRACE_STEPS = 1 << 20
MOST_MC2_ROWS = 512
# 31 years: more of them than timedelta takes are as good.
_LONGEST_S = 1e9


class MetadataGroup(Enum):
    """Which of a DP group's two backends carries the metadata.

    The device group keeps the collective off the hosts' network: vllm-ascend#2582 measured about 10 % of the time per
    output token against gloo. The CPU group needs no device read, which pays where the device queue is long.
    """

    DEVICE = "device"
    CPU = "cpu"


def _group(text: str) -> MetadataGroup:
    return MetadataGroup(text)


def _seconds(text: str) -> Optional[float]:
    if text == OFF:
        return None
    seconds = float(text)
    if not 0 < seconds < math.inf:
        raise ValueError(text)
    return min(seconds, _LONGEST_S)


def _limit(text: str) -> float | str | None:
    return AUTO if text == AUTO else _seconds(text)


def _switch(text: str) -> bool:
    if text not in (ON, OFF):
        raise ValueError(text)
    return text == ON


def _steps(text: str) -> int:
    if text == OFF:
        return 0
    steps = int(text)
    if not 0 < steps <= MOST_TRACE_STEPS:
        raise ValueError(text)
    return steps


def _rows(text: str) -> Optional[int]:
    if text == AUTO:
        return None
    rows = int(text)
    if not 0 < rows <= MOST_MC2_ROWS:
        raise ValueError(text)
    return rows


def _folder(text: str) -> Path:
    if not text:
        return _temporary()
    folder = Path(text)
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(text)
    return folder


def _temporary() -> Path:
    """Where no folder can be written to there is no trace file, and that is all."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        return Path(os.curdir)


@dataclass(frozen=True)
class Setting:
    """One environment variable: its default in the form in which it is set, and what it may be."""

    name: str
    default: str
    allowed: str
    read: Callable[[str], Any]

    def value(self, environ: Mapping[str, str]) -> Any:
        """What ``environ`` says. Raises ``ValueError`` that lists the allowed values."""
        text = environ.get(self.name, self.default)
        try:
            return self.read(text)
        except ValueError:
            raise ValueError(f"{self.name}={text!r} is not one of: {self.allowed}") from None


_SECONDS = f"a number of seconds above 0, {OFF}"

GROUP = Setting(PREFIX + "METADATA_GROUP", MetadataGroup.DEVICE.value, "device, cpu", _group)
TIMEOUT = Setting(PREFIX + "TIMEOUT", "60", _SECONDS, _seconds)
START_TIMEOUT = Setting(PREFIX + "START_TIMEOUT", AUTO, f"{_SECONDS}, {AUTO}", _limit)
END_TIMEOUT = Setting(PREFIX + "END_TIMEOUT", AUTO, f"{_SECONDS}, {AUTO}", _limit)
AGREEMENT = Setting(PREFIX + "AGREEMENT", ON, f"{ON}, {OFF}", _switch)
TRACE_STEPS = Setting(PREFIX + "TRACE_STEPS", "256", f"a whole number from 1 to {MOST_TRACE_STEPS}, {OFF}", _steps)
TRACE_DIR = Setting(PREFIX + "TRACE_DIR", "", "a folder that exists and can be written to", _folder)
MC2_ROWS = Setting(PREFIX + "MC2_ROWS", AUTO, f"a whole number from 1 to {MOST_MC2_ROWS}, {AUTO}", _rows)
TABLE = (GROUP, TIMEOUT, START_TIMEOUT, END_TIMEOUT, AGREEMENT, TRACE_STEPS, TRACE_DIR, MC2_ROWS)

# HCCL gives up a collective after HCCL_EXEC_TIMEOUT, by default 1836 s (0: never), vLLM a forward of its workers after
# VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS, by default 300 s, and gloo a wait after 30 minutes. Their errors are to come
# first: by which of them a rank waits in upstream depends on the step, so that all have to have given up.
_HCCL_EXEC, _VLLM_EXEC = ("HCCL_EXEC_TIMEOUT", 1836.0), ("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", 300.0)
_GLOO_S = 1800.0
_AFTER_THEM_S = 60.0
# For as long as HCCL waits for a rank to connect, by default 120 s, ranks may still load weights and compile.
_HCCL_CONNECT, _START_S = ("HCCL_CONNECT_TIMEOUT", 120.0), 1800.0


@dataclass(frozen=True)
class Settings:
    """The values of the table.

    Limits are in seconds; None never gives up. After ``timeout`` a rank that waits looks at what the others do: a
    deadlock, or a rank that has gone, ends it. A wait of which nothing is proved may last ``end_timeout``, or
    ``start_timeout`` while memory is profiled and graphs are captured. ``agreement`` holds the ranks' code and settings
    against each other at start. ``trace_steps`` is how many steps a rank remembers, and ``trace_dir`` where it writes
    them when it gives up. ``mc2_rows`` is how many rows a tensor-parallel rank may give MC2; None for what its kernel
    takes on the SoC.
    """

    metadata_group: MetadataGroup
    timeout: Optional[float]
    start_timeout: Optional[float]
    end_timeout: Optional[float]
    agreement: bool
    trace_steps: int
    trace_dir: Path
    mc2_rows: Optional[int] = None

    @classmethod
    def read(
        cls,
        environ: Mapping[str, str],
        metadata_group: MetadataGroup = MetadataGroup.DEVICE,
        gloo_s: float = _GLOO_S,
    ) -> Settings:
        """Read every setting of ``environ``; ``metadata_group`` is the default of that setting.

        ``gloo_s`` is how long a wait on the hosts' network lasts, in seconds. Raises ``ValueError`` for a value that is
        not allowed.
        """
        return cls(
            metadata_group=replace(GROUP, default=metadata_group.value).value(environ),
            timeout=TIMEOUT.value(environ),
            start_timeout=_start_timeout(environ),
            end_timeout=_end_timeout(environ, gloo_s),
            agreement=AGREEMENT.value(environ),
            trace_steps=TRACE_STEPS.value(environ),
            trace_dir=TRACE_DIR.value(environ),
            mc2_rows=MC2_ROWS.value(environ),
        )

    def __str__(self) -> str:
        shown = {field.name: _shown(getattr(self, field.name)) for field in fields(self)}
        if self.mc2_rows is None:
            shown["mc2_rows"] = AUTO
        return ", ".join(f"{name}={value}" for name, value in shown.items())


def not_settings(environ: Mapping[str, str], upstreams: Collection[str]) -> list[str]:
    """Variables whose names start as if they were settings: a misspelt one, or one that somebody else has made.

    Kubernetes makes some of the name of a service. ``upstreams`` are known to vllm-ascend.
    """
    known = {setting.name for setting in TABLE}.union(upstreams)
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)


def _shown(value: Any) -> str:
    if isinstance(value, MetadataGroup):
        return value.value
    if isinstance(value, bool):
        return ON if value else OFF
    return f"{value:g}" if isinstance(value, float) else OFF if value is None else str(value)


def gloo_seconds(parallel_config: Any) -> float:
    """How long a wait in vLLM's groups on the hosts' network lasts: 30 minutes, or what vLLM is told from 0.23 on."""
    return float(max(getattr(parallel_config, "cpu_distributed_timeout_seconds", None) or 0.0, _GLOO_S))


def gives_up_before_gloo(environ: Mapping[str, str]) -> bool:
    """Whether HCCL waits less long for a late rank than gloo does: 204 s in upstream's guides, for 30 minutes."""
    return 0 < _number(environ, *_HCCL_EXEC) < _GLOO_S


def _start_timeout(environ: Mapping[str, str]) -> Optional[float]:
    found: float | str | None = START_TIMEOUT.value(environ)
    if not isinstance(found, str):
        return found
    hccl, connect = _number(environ, *_HCCL_EXEC), _number(environ, *_HCCL_CONNECT)
    return max(max(hccl, connect) + _AFTER_THEM_S, _START_S) if hccl > 0 else None


def _end_timeout(environ: Mapping[str, str], gloo_s: float) -> Optional[float]:
    found: float | str | None = END_TIMEOUT.value(environ)
    if not isinstance(found, str):
        return found
    if TIMEOUT.value(environ) is None:
        return None
    hccl, vllm = _number(environ, *_HCCL_EXEC), _number(environ, *_VLLM_EXEC)
    return max(hccl, vllm, gloo_s) + _AFTER_THEM_S if hccl > 0 else None


def _number(environ: Mapping[str, str], name: str, default: float) -> float:
    """Another program's variable: what it makes of one that is no number is its own matter."""
    try:
        return min(float(environ.get(name, default)), _LONGEST_S)
    except ValueError:
        return default
