# SPDX-License-Identifier: Apache-2.0
"""A tree, a checkout or an installation: judged, applied to, reverted, each all or nothing."""
