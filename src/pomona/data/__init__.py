"""The data lever: score examples and keep the ones that teach most."""
