"""Tests of the merge engine: they share helpers in conftest."""
