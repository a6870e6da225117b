"""The whole path on trained models."""
