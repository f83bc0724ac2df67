"""Fused kernels for TPUs, each beside its plain XLA version, and which of the two is quicker.

They evaluate what models/ defines, and decide nothing else.
"""
