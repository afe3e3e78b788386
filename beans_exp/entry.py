"""Old name of `startup.hydra_checks`, for users' own `config.yaml`."""

from beans_exp.startup.hydra_checks import CheckRun as CheckRun
