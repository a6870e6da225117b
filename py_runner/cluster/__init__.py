"""One data set on several engines at once: processes here, devices, or the nodes of a cluster."""
