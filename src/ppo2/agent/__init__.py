"""The agent: a policy that acts, and the model that learns it."""
