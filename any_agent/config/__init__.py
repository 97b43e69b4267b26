"""Where settings come from and which model they lead to: arguments, environment, `.agent/config.yml`, providers."""

from .files import find_project_folder, load_config_file, user_file_path
from .layers import Setting, mask_secret
from .providers import PROVIDER_DEFAULTS, canonical_provider, normalise_base_url
from .routes import Route, fallback_routes, route
from .settings import get_base_url, get_model, resolve

__all__ = [
    "PROVIDER_DEFAULTS",
    "Route",
    "Setting",
    "canonical_provider",
    "fallback_routes",
    "find_project_folder",
    "get_base_url",
    "get_model",
    "load_config_file",
    "mask_secret",
    "normalise_base_url",
    "resolve",
    "route",
    "user_file_path",
]
