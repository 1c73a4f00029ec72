"""What a run writes while it learns; the only importer of tensorboard. `tags.py` names everything."""
