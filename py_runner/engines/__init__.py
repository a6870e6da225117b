"""One module an engine; serve.py runs them in a child process."""
