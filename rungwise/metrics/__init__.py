"""How good a metric is: correlations, intervals, protocols, curves and ladder fidelity."""
