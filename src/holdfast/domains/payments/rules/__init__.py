"""What decides, and only decides: no I/O, no clock, no chance that was not handed in."""
