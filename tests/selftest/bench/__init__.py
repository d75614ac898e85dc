# SPDX-License-Identifier: Apache-2.0
"""The benchmarks: each thing against its baseline, measured in pairs within one run."""
