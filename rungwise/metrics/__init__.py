"""Evaluation of quality metrics: correlations, intervals, protocols, rate-quality curves and ladder fidelity."""
