# SPDX-License-Identifier: Apache-2.0
"""The patched tree against upstream's on deployments that are drawn, not made from a known defect."""
