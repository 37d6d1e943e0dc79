"""Policies as files for other programs: a graph of ONNX operators, written as ONNX or for NumPy, and StableHLO."""
