# SPDX-License-Identifier: Apache-2.0
"""Random cases are drawn however slow the machine is."""

from hypothesis import HealthCheck, settings

settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")
