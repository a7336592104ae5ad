"""The plugins that read the field, against a real server of each protocol on the loopback
interface."""
