"""What is trained: 🤗 models with a training step of their own."""
