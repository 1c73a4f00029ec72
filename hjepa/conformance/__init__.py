"""What the interfaces promise, as checks of any implementation; the public face is `hjepa.testing`."""
