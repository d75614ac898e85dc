# SPDX-License-Identifier: Apache-2.0
"""ACL graphs as a release's vLLM names them: the mode of a deployment, the keys that are captured, what a step replays.

vLLM 0.10.0 names none: a step replays the graph of its number of rows, unless it is told to skip graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simulation.schedule import Mode

try:
    from vllm.config import CUDAGraphMode
    from vllm.forward_context import BatchDescriptor
    from vllm.v1.cudagraph_dispatcher import CudagraphDispatcher
except ImportError:
    CUDAGraphMode = None


@dataclass(frozen=True)
class Replayed:
    """A captured graph of so many rows."""

    kind: Mode
    rows: int

    def __str__(self) -> str:
        return f"{self.kind.value} of {self.rows}"


def mode(of: Mode) -> Any:
    """The compilation's mode for a deployment's."""
    names = {Mode.ACL_GRAPH: "PIECEWISE", Mode.FULL_DECODE: "FULL_DECODE_ONLY"}
    return CUDAGraphMode and CUDAGraphMode[names.get(of, "NONE")]


def dispatcher(vllm_config: Any, decode_tokens: int) -> Any:
    """vLLM's dispatcher, with the keys of what a runner captures."""
    if CUDAGraphMode is None:
        return None
    made = CudagraphDispatcher(vllm_config)
    made.initialize_cudagraph_keys(vllm_config.compilation_config.cudagraph_mode, decode_tokens)
    return made


def key(rows: int, decodes: bool) -> Any:
    """The key of a graph of so many rows, and of decodes alone."""
    return BatchDescriptor(num_tokens=rows, uniform_decode=decodes)


def replayed(context: Any, rows: int, captured: list[int]) -> Replayed | None:
    """What replays a forward of ``rows`` rows in this context; None where it runs eager.

    ``captured`` are the sizes that the runner captures, as piecewise_backend.py looks them up for vLLM 0.10.0.
    """
    if CUDAGraphMode is None:
        found = rows in captured and not context.skip_cuda_graphs
        return Replayed(Mode.ACL_GRAPH, rows) if found else None
    graph = context.cudagraph_runtime_mode
    if graph is CUDAGraphMode.NONE:
        return None
    kind = Mode.FULL_DECODE if graph is CUDAGraphMode.FULL else Mode.ACL_GRAPH
    return Replayed(kind, context.batch_descriptor.num_tokens)
