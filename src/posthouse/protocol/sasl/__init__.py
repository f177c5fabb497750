# SPDX-License-Identifier: Apache-2.0
"""SASL mechanisms (RFC 4422), server and client side, without I/O."""
