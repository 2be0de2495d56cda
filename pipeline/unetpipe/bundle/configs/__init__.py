"""The configs of a bundle, from which MONAI runs, trains and evaluates the model where unetpipe is not installed.

Every ``_target_`` is a class of MONAI's, PyTorch's or Ignite's, except for preprocessing steps that an extension
registers. Expressions (``$...``) use torch and monai only.
"""
