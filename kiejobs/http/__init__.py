"""kiejobs over HTTP, for services that have neither database nor broker: a client, and the check of signed messages.

Needs `requests` and nothing else of ours.
"""

from kiejobs.http.client import KieJobsHttp
from kiejobs.http.webhooks import WebhookRefused, verify_webhook

__all__ = ["KieJobsHttp", "WebhookRefused", "verify_webhook"]
