"""Environment ids: which family one belongs to, its wrappers and preset."""
