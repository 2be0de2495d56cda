"""Every target of the suite."""

import datasets
import models
import scans

TARGETS = (*scans.TARGETS, *datasets.TARGETS, *models.TARGETS)
