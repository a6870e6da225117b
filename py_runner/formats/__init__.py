"""What is kept on disk: bundles, runs, and Paddle Lite's `.nb`."""
