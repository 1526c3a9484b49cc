"""The room of notifications: devices, live streams, push by way of a provider."""
