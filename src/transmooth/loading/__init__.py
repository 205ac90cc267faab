"""Anyone's model and images, by one line of text each."""
