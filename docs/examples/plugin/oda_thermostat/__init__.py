"""A thermostat as datastreams, a source and an operation of an ODA agent."""
