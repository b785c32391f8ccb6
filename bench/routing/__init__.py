"""Judges the derivation of a routing policy on public per-question scores of nine models; no model is called."""
