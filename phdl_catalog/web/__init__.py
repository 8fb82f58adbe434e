"""Pages and the TAP service."""
