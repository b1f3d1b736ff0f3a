"""What is happening? Signals from the world, and the incidents concluded from them."""
