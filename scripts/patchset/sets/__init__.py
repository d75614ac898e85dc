# SPDX-License-Identifier: Apache-2.0
"""What patches/<set> and overlay/ say: pins, series, patches with their trailers, modules, names of defects."""
