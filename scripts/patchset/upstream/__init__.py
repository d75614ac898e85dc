# SPDX-License-Identifier: Apache-2.0
"""The release that a set pins: found on an index, kept in the cache, verified, unpacked."""
