"""Options for an object store, as `scripts/s3.sh start` prints them, in the forms in which they can be given."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.config.schema import load_config
from pipelines.storage.file_systems import StorageOptions

PREFIX = "--storage_option=s3."
AMAZONS = {
    "AWS_ENDPOINT_URL": "endpoint_url",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "client_kwargs.region_name",
}
"""The variables of the environment that say the same."""


def storage_options(options: Sequence[str]) -> StorageOptions:
    """As a configuration has them."""
    settings = [option.replace("--storage_option=", "storage_options.") for option in options]
    return load_config("", settings).storage_options


def environment(options: Sequence[str]) -> dict[str, str]:
    """As variables of the environment."""
    values = dict(option.removeprefix(PREFIX).split("=", 1) for option in options)
    return {name: values[key] for name, key in AMAZONS.items()}


def endpoint(options: Sequence[str]) -> str:
    """Where the store listens."""
    return options[0].removeprefix(f"{PREFIX}endpoint_url=")


def through(url: str, options: Sequence[str]) -> list[str]:
    """The same options for another place where the store is reached."""
    return [f"{PREFIX}endpoint_url={url}", *options[1:]]
