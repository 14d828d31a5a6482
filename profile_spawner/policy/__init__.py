"""The policies: what profiles and documents are allowed to request."""
