"""Settings: each is one line in `ppo2.config.config`, with its type, default, rule and text."""

from ppo2.config.config import (
    ActionDist,
    Config,
    Device,
    Precision,
    check_settings,
    names,
    separate_settings,
    settings_help,
)
from ppo2.config.placeholders import PLACEHOLDER, coded, decoded, for_file, is_placeholder, jsonable, placeholder_in
from ppo2.config.settings_file import read as read_settings
from ppo2.config.settings_file import write as write_settings

__all__ = [
    "PLACEHOLDER",
    "ActionDist",
    "Config",
    "Device",
    "Precision",
    "check_settings",
    "coded",
    "decoded",
    "for_file",
    "is_placeholder",
    "jsonable",
    "names",
    "placeholder_in",
    "read_settings",
    "separate_settings",
    "settings_help",
    "write_settings",
]
