"""What crosses to the Loader of the user's environment, and what its reading costs."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

from diskless.sources import ambient, http
from diskless.sources.environment import PLACES, PROXIES, captured


def test_only_what_is_set_is_captured(no_env):
    no_env.delenv("AWS_EC2_METADATA_DISABLED")
    assert captured() == {}
    no_env.setenv("HTTPS_PROXY", "http://proxy:1")
    no_env.setenv("AWS_ROLE_ARN", "arn")
    no_env.setenv("AWS_SECRET_ACCESS_KEY", "goes another way")
    assert captured() == {"HTTPS_PROXY": "http://proxy:1", "AWS_ROLE_ARN": "arn"}


def test_what_the_loader_reads_is_captured():
    """A variable that is read there and not listed here would never arrive."""
    named = {
        node.value
        for node in ast.walk(ast.parse(inspect.getsource(ambient)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert {name for name in named if name.startswith("AWS_") and name.replace("_", "").isalnum()} == set(PLACES)
    for module in (ambient, http):
        assert "os.environ" not in inspect.getsource(module)
    assert {name.lower() for name in PROXIES} == {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}


def test_resolving_imports_nothing_of_the_network():
    script = (
        "import sys, diskless.sources\n"
        "spec = diskless.sources.resolve('s3://models', storage_options={'key': 'k', 'secret': 's'})\n"
        "heavy = ('http.client', 'ssl', 'email', 'urllib.request', 'obstore', 'boto3', 'configparser', 'asyncio')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    # Isolated from what the machine's start-up files import, and from its configuration.
    ended = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={"AWS_CONFIG_FILE": "/no/such/file", "AWS_SHARED_CREDENTIALS_FILE": "/no/such/file"},
    )
    assert ended.stdout.strip() == "[]", ended.stderr
