# SPDX-License-Identifier: Apache-2.0
"""What a release of vllm-ascend has, as far as its steps differ from another's; and the release on the import path."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import vllm
from vllm_ascend.worker import model_runner_v1

from simulation.schedule import Deployment


@dataclass(frozen=True)
class Release:
    """One release.

    Attributes:
        both_kinds: it has full decode graphs beside graphs of any batch, so that ranks may differ in which they could
            replay.
        graphs_unpadded: a drafter whose rejected tokens are taken out runs beside full graphs; MTP's has none then.
        constant_embedding: a parallel embedding exchanges as many rows in every step.
        balances: the loads of experts may be counted in some steps alone.
        buffered: positions and lengths are buffers of host and device, not plain tensors.
        whole_masks: MC2's mask has as many rows as MC2 takes, not as a step may have.
        options: switches that other releases lack.
    """

    both_kinds: bool = False
    graphs_unpadded: bool = True
    constant_embedding: bool = False
    balances: bool = False
    buffered: bool = True
    whole_masks: bool = True
    options: tuple[str, ...] = ()


_RELEASES = {
    "0.18.0": Release(),
    "0.23.0": Release(
        both_kinds=True,
        graphs_unpadded=False,
        constant_embedding=True,
        balances=True,
        buffered=False,
        whole_masks=False,
        options=("prefill_mc2", "counts_on_device"),
    ),
}
THIS = _RELEASES[vllm.__version__.partition("+")[0]]

RUNNER: ModuleType = model_runner_v1


def gathers(one: Deployment) -> bool:
    """Whether layers outside of MoE need as many rows on every rank."""
    return one.gathers if not THIS.constant_embedding else one.mlp_parallel or one.oproj_parallel
