"""Labelled samples run through chosen deployments: how good each answer was, at what cost, and how sure that is."""
