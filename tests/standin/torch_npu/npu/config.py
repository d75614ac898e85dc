# SPDX-License-Identifier: Apache-2.0
"""``torch.npu.config``: switches that only matter to real memory layouts."""

allow_internal_format = True
