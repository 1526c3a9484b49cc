"""Load test: Locust users for the model (in virtual time) and for the reference, and the comparison of both."""
