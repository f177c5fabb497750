# SPDX-License-Identifier: Apache-2.0
"""posthouse beside its peers: the same load, the same machine, alternating runs. Only the ratios mean anything."""
