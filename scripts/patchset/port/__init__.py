# SPDX-License-Identifier: Apache-2.0
"""A set carried to another upstream release: its pins, each patch, each overlay module, and the work tree between.

release -> pins -> carry (each patch) + symbols (each replaced piece) -> report: all of them one `study`
                     `work` stops at conflicts, keeps its `progress`, then `newset` writes the set, whole
"""
