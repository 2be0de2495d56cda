"""Several processes that train one network, on one machine or on many, by torch's own engine."""
