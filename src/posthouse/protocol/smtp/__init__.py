# SPDX-License-Identifier: Apache-2.0
"""SMTP and LMTP: server and client engines."""
