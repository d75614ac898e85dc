# SPDX-License-Identifier: Apache-2.0
"""The engine runs of the smoke tests. Each is started once and serves several tests."""

from dataclasses import replace

from checkpoints import Model
from job import DP1_ROUNDS, DP2_ROUNDS, DP16_ROUNDS, LATE_ROUND, ONE_TOKEN_ROUND, SOC_310P, EngineRun, Mode, Tree
from reference import PROMPTS

EAGER = EngineRun(Tree.PATCHED)
EAGER_EP = EngineRun(Tree.PATCHED, expert_parallel=True)
GRAPH = EngineRun(Tree.PATCHED, mode=Mode.ACL_GRAPH, moe_probe=True)
GRAPH_EP = EngineRun(Tree.PATCHED, mode=Mode.ACL_GRAPH, expert_parallel=True)
# vLLM's FULL_DECODE_ONLY, and upstream's shared-expert DP: for releases that have them.
FULL_DECODE = EngineRun(Tree.PATCHED, mode=Mode.FULL_DECODE)
SHARED_EXPERT_DP = EngineRun(Tree.PATCHED, Model.DEEPSEEK_V3, expert_parallel=True, shared_expert_dp=True)
# Its attention writes the cache by another kernel.
FULL_DECODE_DEEPSEEK = EngineRun(Tree.PATCHED, Model.DEEPSEEK_V3, mode=Mode.FULL_DECODE)
TORCHAIR = EngineRun(Tree.PATCHED, mode=Mode.TORCHAIR)
# Where the release has no TorchAir for Qwen3-MoE. The stand-in does not give its tokens, so only steps are looked at.
# vllm-ascend 0.10.0 fails to prefill a single token there.
_LONGER = tuple(turn.of(lambda index: len(PROMPTS[index]) > 1) for turn in DP2_ROUNDS[1:])
TORCHAIR_DEEPSEEK = EngineRun(Tree.PATCHED, Model.DEEPSEEK_V3, mode=Mode.TORCHAIR, rounds=_LONGER)
DEEPSEEK = EngineRun(Tree.PATCHED, Model.DEEPSEEK_V3)
# One prompt is longer than a block, and asked for once: what vLLM's connector has stored it loads by .cuda().
_STORED_ONCE = tuple(turn for turn in DP2_ROUNDS if not turn.name.startswith(("all", "spread")))
KV_BOTH = EngineRun(Tree.PATCHED, kv_both=True, rounds=_STORED_ONCE)
KV_BOTH_TORCHAIR = EngineRun(Tree.PATCHED, mode=Mode.TORCHAIR, kv_both=True)
# Nothing of a rank's step depends on the other's batch.
DENSE, DENSE_GRAPH = (EngineRun(Tree.PATCHED, Model.QWEN3, mode=mode) for mode in (Mode.EAGER, Mode.ACL_GRAPH))
SINGLE = EngineRun(Tree.PATCHED, Model.QWEN3, rounds=DP1_ROUNDS)
# A batch of one row, for which Dynamo makes a graph of its own if it sees it first.
ONE_SEQ_DENSE = EngineRun(Tree.PATCHED, Model.QWEN3, mode=Mode.ACL_GRAPH, max_seqs=1, rounds=DP1_ROUNDS)
ONE_SEQ = EngineRun(Tree.PATCHED, mode=Mode.ACL_GRAPH, max_seqs=1, rounds=DP2_ROUNDS[:3])
EP16 = EngineRun(Tree.PATCHED, expert_parallel=True, moe_probe=True, rounds=DP16_ROUNDS)
SEQ_EP = EngineRun(Tree.PATCHED, expert_parallel=True, all_to_all_seq=True, moe_probe=True)
SOC_310P_DENSE = EngineRun(Tree.PATCHED, Model.QWEN3, soc=SOC_310P, rounds=DP1_ROUNDS)

# Of each mode, with the rounds in which rank 1 is idle and prefills beside a decode.
_FEW = tuple(turn for turn in _LONGER if turn.name in ("one prompt", LATE_ROUND.name))
UNTRACED = tuple(
    replace(run, traced=False, moe_probe=False, rounds=_FEW)
    for run in (EAGER, GRAPH, FULL_DECODE, TORCHAIR, TORCHAIR_DEEPSEEK)
)

_ONE_REQUEST = tuple(turn for turn in DP2_ROUNDS if turn.name == "one prompt")
PRISTINE_EAGER = EngineRun(Tree.PRISTINE, rounds=_ONE_REQUEST)
PRISTINE_GRAPH_EP = EngineRun(Tree.PRISTINE, mode=Mode.ACL_GRAPH, expert_parallel=True, moe_probe=True)
PRISTINE_GRAPH = EngineRun(Tree.PRISTINE, mode=Mode.ACL_GRAPH, moe_probe=True)
# One of them for each release: with experts in parallel where it does not start without.
PRISTINE_GRAPHS = (PRISTINE_GRAPH, PRISTINE_GRAPH_EP)
# Under TorchAir the pristine tree does synchronise, so what hangs there is the producer's own answer.
PRISTINE_KV_BOTH = EngineRun(Tree.PRISTINE, mode=Mode.TORCHAIR, kv_both=True, rounds=_ONE_REQUEST)
# Under enforce_eager, where the release synchronises there too.
PRISTINE_KV_BOTH_EAGER = EngineRun(Tree.PRISTINE, kv_both=True, rounds=_ONE_REQUEST)
PRISTINE_TORCHAIR = EngineRun(Tree.PRISTINE, mode=Mode.TORCHAIR, rounds=(ONE_TOKEN_ROUND,))
PRISTINE_TORCHAIR_DEEPSEEK = replace(TORCHAIR_DEEPSEEK, tree=Tree.PRISTINE, rounds=_ONE_REQUEST)
PRISTINE_EP16 = EngineRun(Tree.PRISTINE, expert_parallel=True, moe_probe=True, rounds=DP16_ROUNDS[:1])
PRISTINE_SEQ_EP = EngineRun(
    Tree.PRISTINE, expert_parallel=True, all_to_all_seq=True, moe_probe=True, rounds=_ONE_REQUEST
)
PRISTINE_FULL_DECODE = EngineRun(Tree.PRISTINE, mode=Mode.FULL_DECODE, rounds=_ONE_REQUEST)
PRISTINE_SHARED_EXPERT_DP = replace(SHARED_EXPERT_DP, tree=Tree.PRISTINE, rounds=_ONE_REQUEST)
PRISTINE_DENSE = EngineRun(Tree.PRISTINE, Model.QWEN3, rounds=_ONE_REQUEST)
PRISTINE_310P_DENSE = EngineRun(Tree.PRISTINE, Model.QWEN3, soc=SOC_310P, rounds=DP1_ROUNDS)

PATCHED_DP2 = (
    *(EAGER, EAGER_EP, GRAPH, GRAPH_EP, FULL_DECODE),
    *(TORCHAIR, DEEPSEEK, SHARED_EXPERT_DP, KV_BOTH, KV_BOTH_TORCHAIR),
)
ALONE = (DENSE, DENSE_GRAPH, SINGLE)
PATCHED = (*PATCHED_DP2, *ALONE, FULL_DECODE_DEEPSEEK, SEQ_EP, ONE_SEQ_DENSE, ONE_SEQ)
TRACED_DP2 = (*PATCHED_DP2, TORCHAIR_DEEPSEEK)
TRACED = (*TRACED_DP2, *ALONE)

# What `make apply` runs: every mode of the patched tree, and what the release's own engine does with one request.
QUICK = {
    *(EAGER, EAGER_EP, GRAPH, FULL_DECODE, TORCHAIR, TORCHAIR_DEEPSEEK),
    *(PRISTINE_EAGER, PRISTINE_GRAPH_EP, PRISTINE_KV_BOTH_EAGER, PRISTINE_FULL_DECODE),
}
