"""Floor 1: functions to race on."""
