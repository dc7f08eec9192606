"""Configuration: keys, defaults, bounds, priors, and reading them from YAML or JSON."""

from hpcxpcs.config.load import config_from_mapping, load_config
from hpcxpcs.config.parameters import MODEL_NAMES, Parameter, Prior, parameters_of, scaling_parameters
from hpcxpcs.config.resolve import ResolvedParameter, resolved_parameters
from hpcxpcs.config.schema import Config
from hpcxpcs.config.template import json_schema, template

__all__ = [
    "MODEL_NAMES",
    "Config",
    "Parameter",
    "Prior",
    "ResolvedParameter",
    "config_from_mapping",
    "json_schema",
    "load_config",
    "parameters_of",
    "resolved_parameters",
    "scaling_parameters",
    "template",
]
