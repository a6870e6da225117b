"""ONNX files of Paddle models: Paddle2ONNX, in a process of its own."""
