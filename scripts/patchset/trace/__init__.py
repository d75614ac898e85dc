# SPDX-License-Identifier: Apache-2.0
"""What the ranks of a data-parallel run wrote about their last steps, lined up.

    files --load--> RankTrace... --line_up--> Alignment --> text, JSON, trace-event JSON for Perfetto

The files are written by overlay/shared/vllm_ascend/data_parallel/tracefile.py, whose docstring gives their format.
"""
