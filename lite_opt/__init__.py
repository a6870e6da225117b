"""Makes bundles of Paddle models for ARM, and judges runs against each other."""
