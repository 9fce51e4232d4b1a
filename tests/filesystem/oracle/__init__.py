"""The oracle: one random series of operations on a tmpfs and on a scratch, which must not differ in anything seen.

`places` names what is operated on, `world` does an operation in one of the two, `look` puts what is seen in words that
both have in common, `machine` chooses operations and compares, `run` and the command line set up users and trees.
"""
