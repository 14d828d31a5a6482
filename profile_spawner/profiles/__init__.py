"""What an author writes: the base class, options, resources and access, and how they become a snapshot."""
