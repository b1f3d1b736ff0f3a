"""What is known about failures in general? Tables, each row with its reason."""
