"""hjepa: a hierarchical H-JEPA agent with seven pluggable modules."""

__version__ = "0.1.0"
