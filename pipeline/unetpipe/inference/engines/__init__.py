"""What computes windows in place of plain torch: OpenVINO on a CPU, CUDA graphs on a GPU."""
