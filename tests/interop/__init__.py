# SPDX-License-Identifier: Apache-2.0
"""posthouse with the real programs of other people: servers, clients, PostgreSQL. Run by `make test-interop`."""
