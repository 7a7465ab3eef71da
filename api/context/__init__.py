"""Authenticate a request, and give its route the services that it may use."""
