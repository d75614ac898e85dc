# SPDX-License-Identifier: Apache-2.0
"""Releases since 0.18.0: one method decides every step, and graphs are of two kinds beside none.

A rank runs upstream's own `execute_model`, `sample_tokens`, `_dummy_run` and drafter; only inputs, attention and
sampling, which decide nothing, are left out.
"""
