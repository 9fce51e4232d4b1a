"""Where the bytes live: RAM files, their Backings, and the Budget."""

from diskless.ram.backing import Backing, choose
from diskless.ram.budget import format_size, parse_size
from diskless.ram.file import FileKey, RamFile
from diskless.ram.store import Store, store_of

__all__ = ["Backing", "FileKey", "RamFile", "Store", "choose", "format_size", "parse_size", "store_of"]
