"""A server that speaks the providers' wire formats, with faults on demand.

It simulates: its answers come from no model, and every reply says so in its ``server`` header.
``python -m tierq_simulator`` runs it; :func:`tierq_simulator.server.start` runs it within an event loop.
"""
