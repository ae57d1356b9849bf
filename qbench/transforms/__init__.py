"""Changes to a whole network that help quantization; one transform, one file."""
