"""How the bytes travel: the Loader, a process of its own that writes into RAM files it was handed.

Nothing is imported here, for the Loader to be quick to start: `client` is the user's side, `main` the Loader's.
"""
