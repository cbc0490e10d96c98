import sys

# Where this package is installed, transformers uses it to fetch and run code of the Hub that a config.json names or an
# architecture prefers. Without it, models run transformers' own code alone.
sys.modules["kernels"] = None  # type: ignore[assignment]
