"""Fused kernels for TPUs, each beside its plain XLA version."""
