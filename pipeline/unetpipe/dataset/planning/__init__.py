"""From a fingerprint to a plan, by nnU-Net's rules."""
