# SPDX-License-Identifier: Apache-2.0
"""The process group that carries the metadata, and what it costs: a small buffer, and a start that waits for all.

On the device the DP group's own communicator is taken where the release makes one anyway. Elsewhere one more is made
for the metadata alone, with a buffer for its few bytes: HCCL takes twice HCCL_BUFFSIZE, 400 MB by default, for each
communicator that names no size.
"""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any, Optional, Sequence

import torch.distributed as dist
import torch_npu
from torch.distributed import Store, distributed_c10d
from vllm.distributed.parallel_state import get_dp_group, get_world_group

from vllm_ascend.data_parallel import upstream
from vllm_ascend.data_parallel.agreement import FOR_EVER
from vllm_ascend.data_parallel.settings import GROUP, START_TIMEOUT, MetadataGroup, Settings, gloo_seconds
from vllm_ascend.data_parallel.stacks import METADATA_GROUP
from vllm_ascend.data_parallel.told import key, tell, told

# The default that ranks agreed on, by the identity of their configuration: that itself takes no other attributes.
_agreed: dict[int, MetadataGroup] = {}
# The buffer of a communicator for two bytes a rank: what upstream gives its DP group since #3073, so that
# HCCL is known to run with it.
BUFFER_MB = 50


def settings_of(vllm_config: Any) -> Settings:
    """The settings of this process.

    With async scheduling the host prepares a step while the device runs the one before; a read of the device would
    wait for that one, so that there the CPU group is the default; so it is for a release that reduces there, unless it
    is told not to, or where the device would give a late rank up sooner than that release does.

    Raises ``ValueError`` for one that is not allowed.
    """
    usual = MetadataGroup.CPU if upstream.metadata_on_hosts(vllm_config) else MetadataGroup.DEVICE
    default = _agreed.get(id(vllm_config), usual)
    return Settings.read(os.environ, default, gloo_seconds(vllm_config.parallel_config))


def agree_on_default(vllm_config: Any, store: Store, first_rank: int) -> None:
    """Take the default of the first rank that comes here, whatever this host's HCCL_EXEC_TIMEOUT says."""
    _agreed.pop(id(vllm_config), None)  # of a configuration that is no more
    mine = settings_of(vllm_config).metadata_group.value
    if GROUP.name not in os.environ:
        name = key("group", first_rank, vllm_config.scheduler_config.async_scheduling)
        _agreed[id(vllm_config)] = MetadataGroup(store.compare_set(name, "", mine).decode())


def metadata_group(vllm_config: Any, settings: Settings) -> dist.ProcessGroup:
    """The group of the settings, once every rank of it has come here where it is one of the device.

    Raises ``TimeoutError`` that names the ranks that did not come within the start's patience.
    """
    dp_group = get_dp_group()
    if settings.metadata_group is MetadataGroup.CPU:
        return dp_group.cpu_group
    store = distributed_c10d._get_process_group_store(get_world_group().cpu_group)
    line_up(store, dp_group.ranks, dp_group.rank, settings.start_timeout)
    if upstream.has_dp_communicator(vllm_config):
        return dp_group.device_group
    options = torch_npu._C._distributed_c10d.ProcessGroupHCCL.Options()
    options.hccl_config = {"hccl_buffer_size": BUFFER_MB}
    return dist.new_group(
        dp_group.ranks,
        backend=dist.get_backend(dp_group.device_group),
        pg_options=options,
        use_local_synchronization=True,  # the other groups make theirs when they come here
        group_desc=METADATA_GROUP,
    )


def line_up(store: Store, ranks: Sequence[int], rank: int, patience_s: Optional[float]) -> None:
    """Wait until all of ``ranks`` are here, for ``patience_s`` seconds; None waits for ever.

    The first collective of an HCCL communicator waits for HCCL_CONNECT_TIMEOUT alone, 120 s, while another rank may
    still read its weights. Raises ``TimeoutError``.
    """
    group, began = key("line-up", ranks[0]), time.monotonic()
    tell(store, f"{group}/{rank}", "here")
    if store.add(f"{group}/count", 1) == len(ranks):
        tell(store, f"{group}/all", "here")
    try:
        store.wait([f"{group}/all"], FOR_EVER if patience_s is None else timedelta(seconds=patience_s))
    except RuntimeError as error:
        here = told(store, {other: f"{group}/{other}" for other in ranks})
        missing = [str(other) for other in ranks if other not in here]
        raise TimeoutError(
            f"world ranks {', '.join(missing)} have not begun their first step {time.monotonic() - began:.0f} s after "
            f"rank {rank}; {START_TIMEOUT.name} sets how long ranks wait for each other's start"
        ) from error
