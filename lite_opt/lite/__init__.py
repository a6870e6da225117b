"""Paddle Lite's optimizer, and what its targets can do."""
