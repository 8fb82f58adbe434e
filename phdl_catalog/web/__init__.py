"""Pages about the state of the system; the TAP service will stand beside them."""
