"""A server that speaks the providers' wire formats, with faults on demand. It simulates: its answers come from no model."""
