"""The models: 🤗 models with the package's own training step."""
