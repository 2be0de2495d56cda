"""Engines that compute windows in place of plain torch: OpenVINO on a CPU."""
