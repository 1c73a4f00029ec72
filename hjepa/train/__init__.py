"""Training: the only importer of lightning."""
