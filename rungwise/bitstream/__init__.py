"""Bitstream data read without full decoding: quantizer step sizes, coded sizes, and the features made of them."""
