"""Ports of the counter, to be run by `python -m oracle verify`; spec/PORTS.md is their protocol."""
