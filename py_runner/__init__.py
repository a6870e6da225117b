"""Runs bundles and source models on an engine, on hosts, servers and boards."""
