"""When will it be back: an interval for the remaining time, and how good such intervals were. Pure."""
