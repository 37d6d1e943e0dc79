"""What acts and learns: the policy, the model, its compiled programs."""
