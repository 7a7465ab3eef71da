"""A control plane on loopback that speaks as much of the Modal protocol as the SDK needs here."""
