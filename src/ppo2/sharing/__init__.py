"""Sharing trained policies: a repository on the Hugging Face Hub, the policies in this package."""
