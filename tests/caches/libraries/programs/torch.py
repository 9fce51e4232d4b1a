"""torch.hub: a checkpoint by its URL, and a repository that was loaded before. It compares no hash of what is there."""

from __future__ import annotations

import torch

from tests.caches.libraries.programs.files import digest, made


def make(seed: int) -> str:
    torch.manual_seed(seed)
    path = made("~/.cache/torch/hub/checkpoints/net.pth")
    torch.save(torch.nn.Linear(4, 2).state_dict(), path)
    sha256 = digest(path)
    path.rename(path.with_name(f"net-{sha256[:8]}.pth"))
    made("~/.cache/torch/hub/org_nets_main/hubconf.py").write_text(
        "import torch\ndependencies = ['torch']\ndef net(): return torch.nn.Linear(4, 2)\n"
    )
    made("~/.cache/torch/hub/trusted_list").write_text("org_nets\n")
    return sha256[:8]


def predict(start: str) -> object:
    state = torch.hub.load_state_dict_from_url(f"https://models.invalid/net-{start}.pth", check_hash=True)
    net = torch.hub.load("org/nets:main", "net", trust_repo="check", verbose=False)
    net.load_state_dict(state)
    return net(torch.ones(1, 4)).tolist()
