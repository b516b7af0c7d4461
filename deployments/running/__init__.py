"""Running a plan: rows moved by durable jobs (docs/decisions/0026)."""
