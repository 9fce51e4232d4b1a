"""Keras: `keras.utils.get_file` keeps datasets/<name>, applications keep models/<name>; a hash is compared if given."""

import os
import sys

from diskless.caches.place import Place, directory

PACKAGES = ("keras",)
# Where it goes if it may not write to its home: so it is in a home that only the directories in RAM make appear.
_INSTEAD = "/tmp/.keras"


def places() -> list[Place]:
    config = sys.modules.get("keras.src.backend.config")
    # It reads the environment when it is imported, and not again.
    home = os.path.expanduser(config.keras_home()) if config is not None else directory("~/.keras", "KERAS_HOME")
    homes = dict.fromkeys((os.path.normpath(home), _INSTEAD))
    return [Place(f"{home}/{name}", f"keras/{name}/") for home in homes for name in ("models", "datasets")]
