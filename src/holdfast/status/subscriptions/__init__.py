"""Who wants to be told what, and how; and the sending of it, which holds up nothing else."""
