"""What is wrong? One question a file: signals in, incidents out, time only from arguments."""
