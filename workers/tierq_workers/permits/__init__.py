"""Permits: rate limits, rests and circuit breakers, shared by every process of every host through Redis.

`decide.lua` decides, for all at once; `deciders` runs it, in Redis or here. `limits` and `breakers` are what this
process knows of each; `desk` gives permits to calls out of that, without waiting for anybody; `keeper` keeps it up to
date. `history` reads what Redis holds under its `keys`, for people.
"""
