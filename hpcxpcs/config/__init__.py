"""Configuration: keys, defaults, bounds, priors, and reading them from YAML or JSON."""

from hpcxpcs.config.load import config_from_mapping, load_config
from hpcxpcs.config.parameters import MODEL_NAMES, Parameter, parameters_of, scaling_parameters
from hpcxpcs.config.prior import Prior
from hpcxpcs.config.resolve import ParameterChoice, ResolvedParameter, parameter_choices, resolved_parameters
from hpcxpcs.config.scale import DataScale
from hpcxpcs.config.schema import Config
from hpcxpcs.config.template import json_schema, template

__all__ = [
    "MODEL_NAMES",
    "Config",
    "DataScale",
    "Parameter",
    "ParameterChoice",
    "Prior",
    "ResolvedParameter",
    "config_from_mapping",
    "json_schema",
    "load_config",
    "parameter_choices",
    "parameters_of",
    "resolved_parameters",
    "scaling_parameters",
    "template",
]
