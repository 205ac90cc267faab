"""What is asked of trained networks, one file each."""
