"""From a Paddle model to a bundle."""
