"""Paddle Lite's SDKs: which there are, fetched, checked and unpacked."""
