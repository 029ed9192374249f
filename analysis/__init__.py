"""From records to tables, figures and verdicts; reads records and specs, and starts nothing."""
