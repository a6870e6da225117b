"""From images, lists and arrays on disk to Samples."""
