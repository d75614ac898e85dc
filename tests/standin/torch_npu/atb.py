# SPDX-License-Identifier: Apache-2.0
"""``torch_npu.atb``: operators of the Ascend Transformer Boost library."""
