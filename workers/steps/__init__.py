"""The steps: what happens when a nudge comes. Each is a function of a `Runtime` and ids, and knows no Celery."""
