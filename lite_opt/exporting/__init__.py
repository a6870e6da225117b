"""From weights that training saved to an inference model, checked against the network itself."""
