# SPDX-License-Identifier: Apache-2.0
"""The runner that is patched is the one that serves, whatever VLLM_USE_V2_MODEL_RUNNER says."""
