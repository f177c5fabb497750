# SPDX-License-Identifier: Apache-2.0
"""POP3 (RFC 1939): server and client engines."""
