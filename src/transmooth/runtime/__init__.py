"""What a process does around its work: signals, memory, cores, GPUs, forks and the terminal."""
