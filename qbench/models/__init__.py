"""Networks, built for the shape of their inputs."""
