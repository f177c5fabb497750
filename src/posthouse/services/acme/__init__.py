# SPDX-License-Identifier: Apache-2.0
"""Certificates from an authority by ACME (RFC 8555): the conversation, one order, and when the next one is due."""
