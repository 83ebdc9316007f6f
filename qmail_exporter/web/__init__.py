"""The door: what is shown over HTTP, and the server that shows it."""
