"""What the program predict is made of."""
