"""torch.hub: `load_state_dict_from_url` keeps checkpoints/<last part of the URL> in its hub directory, and compares a
file with the hash in its name only when it downloads it; `torch.hub.load` keeps repositories and trusted_list there."""

import os
import sys

from diskless.caches.place import Place, directory

PACKAGES = ("torch",)
_APPENDED = ("trusted_list",)


def places() -> list[Place]:
    hub = sys.modules.get("torch.hub")
    if hub is not None:  # `torch.hub.set_dir` may have been called
        return [Place(os.path.abspath(str(hub.get_dir())), "torch/hub/", _APPENDED)]
    home = directory("~/.cache/torch", "XDG_CACHE_HOME", below="torch")
    return [Place(f"{directory(home, 'TORCH_HOME')}/hub", "torch/hub/", _APPENDED)]
