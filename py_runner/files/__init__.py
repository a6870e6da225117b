"""Files and processes: folders that are whole or not there, checksums, manifests, children."""
