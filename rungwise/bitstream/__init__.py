"""What the coded stream tells: quantizer steps, coded sizes, and the features made of them."""
