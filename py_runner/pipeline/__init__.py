"""Pipelines: the answers of one bundle are what the next is fed."""
