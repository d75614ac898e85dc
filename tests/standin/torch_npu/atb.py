# SPDX-License-Identifier: Apache-2.0
"""``torch_npu.atb``: operators of the Ascend Transformer Boost library."""

from torch_npu.ops.mla import npu_multi_head_latent_attention, npu_paged_cache_load, npu_ring_mla

__all__ = ["npu_multi_head_latent_attention", "npu_paged_cache_load", "npu_ring_mla"]
