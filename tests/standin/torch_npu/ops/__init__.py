# SPDX-License-Identifier: Apache-2.0
"""The operators of torch_npu, one module a family. Each computes what Ascend documents, in plain torch on the CPU."""
