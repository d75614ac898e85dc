# SPDX-License-Identifier: Apache-2.0
"""Engine lives that show a defect on the pristine tree, beside those of lives.py."""

from job import DP16_ROUNDS, Life, Tree

EP16 = Life(Tree.PATCHED, expert_parallel=True, moe_probe=True, rounds=DP16_ROUNDS)
PRISTINE_EP16 = Life(Tree.PRISTINE, expert_parallel=True, moe_probe=True, rounds=DP16_ROUNDS[:1])
