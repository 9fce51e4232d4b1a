"""The ways to get objects from S3 into memory. Each is set up (imports, client), then asked to transfer once.

Every client has its default settings, except where its documentation names better ones; those are said where they are
set. Those that are not installed are left out by name: `pip install ".[bench]"` brings them.
"""

from __future__ import annotations

from benchmarks.contenders import aws, file_objects, model_loaders, obstores, ours, programs, sockets
from benchmarks.contenders.target import Contender, Held, Target, Transfer

__all__ = ["CONTENDERS", "Contender", "Held", "Target", "Transfer"]

CONTENDERS: dict[str, Contender] = {
    "diskless": Contender(ours.mount, optional=False),
    "download_fileobj": Contender(aws.download_fileobj, ("boto3",), packages="boto3", optional=False),
    "download_fileobj tuned": Contender(aws.download_fileobj_tuned, ("boto3",), packages="boto3"),
    "boto3[crt]": Contender(aws.download_crt, ("boto3", "awscrt"), packages="'boto3[crt]'"),
    "awscrt": Contender(aws.awscrt, ("awscrt",), packages="awscrt"),
    "s3fs cat": Contender(file_objects.s3fs_cat, ("s3fs",), packages="s3fs"),
    "simplecache": Contender(file_objects.simplecache, ("s3fs",), packages="s3fs"),
    "smart_open": Contender(file_objects.smart_open, ("smart_open", "boto3"), packages="'smart_open[s3]'"),
    "obstore get": Contender(obstores.get, ("obstore",), packages="obstore", optional=False),
    "bare loop": Contender(obstores.bare_loop, ("obstore",), packages="obstore", optional=False),
    "bare sockets": Contender(sockets.bare_sockets),
    "s3torchconnector": Contender(model_loaders.s3torchconnector, ("s3torchconnector",), packages="s3torchconnector"),
    "Model Streamer": Contender(
        model_loaders.model_streamer,
        ("runai_model_streamer", "runai_model_streamer_s3"),
        packages="'runai-model-streamer[s3]'",
    ),
    "tensorizer stream": Contender(
        model_loaders.tensorizer_stream, ("tensorizer",), ("curl",), packages="tensorizer; Debian: curl"
    ),
    "aws s3 cp": Contender(programs.aws_cp, programs=("aws",), packages="awscli, in an environment of its own"),
    "s5cmd cp": Contender(programs.s5cmd, programs=("s5cmd",), packages="s5cmd"),
}
