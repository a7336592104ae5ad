"""From a reading to an OpenGate document: documents, schedules, poller, collector, state."""
