"""What outlives the process: what a session commits, who may write it, what its calls cost, where an agent keeps it."""
