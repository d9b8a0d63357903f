"""Anything that generates or scores text, behind one protocol: `load(uri)`, the torch backend, the catalogue of embedded models."""
