"""Edits of a Program that Paddle Lite needs."""
