"""Episodes into tables, statistics and pictures."""
