# SPDX-License-Identifier: Apache-2.0
"""The machine: sockets, TLS, DNS, time, threads, disk. The only part that touches them."""
