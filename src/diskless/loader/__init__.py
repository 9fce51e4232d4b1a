"""How the bytes travel: the Loader, a process of its own that writes into RAM files it was handed."""

from diskless.loader.client import Job, JobStats

start = Job

__all__ = ["Job", "JobStats", "start"]
