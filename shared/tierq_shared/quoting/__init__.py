"""What work will cost and how long it will take, said before anything is spent.

`cells` adds the tasks up, `history` is what the ledger teaches of calls like theirs, `costs` and `spans` make money and
time of both, `quoter` puts them together, `figures` is what comes out.
"""
