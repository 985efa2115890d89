"""The same service in Django, in one file: views, routes, settings.

    GATEWAY_URL=http://127.0.0.1:8787 WEBHOOK_SECRET=whsec_… SERVICE_URL=http://127.0.0.1:8000 \
        python examples/django_service.py runserver --noreload 8000

In a project of yours take the three views; the rest is what every project has.
"""

import json
import os
import sys
from typing import Any

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from kiejobs.errors import InvalidInput, KieJobsError
from kiejobs.http import KieJobsHttp, WebhookRefused, verify_webhook

settings.configure(
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "for this example alone"),
    USE_TZ=True,
)
django.setup()

gateway = KieJobsHttp(os.environ["GATEWAY_URL"], os.environ.get("GATEWAY_KEY"))
orders: dict[str, dict[str, Any]] = {}  # a model of yours


@csrf_exempt
@require_POST
def order(request: HttpRequest) -> HttpResponse:
    """Buy a picture; the order's number makes that safe to repeat."""
    body = json.loads(request.body)
    try:
        job = gateway.enqueue(
            "grok-imagine/text-to-image",
            {"prompt": body["prompt"]},
            idempotency_key=f"picture/{body['order']}",
            callback_url=f"{os.environ['SERVICE_URL']}/hooks/kiejobs",
            metadata={"order": body["order"]},
        )
    except InvalidInput as error:
        return JsonResponse({"detail": str(error)}, status=422)
    except KieJobsError as error:
        return JsonResponse({"detail": f"{error} {error.remedy}"}, status=503)
    orders.setdefault(body["order"], {"job": job.id, "state": job.state, "sequence": 0, "urls": []})
    return JsonResponse({"job": job.id}, status=202)


@csrf_exempt
@require_POST
def told(request: HttpRequest) -> HttpResponse:
    """Take a message: verify its raw body, commit what it says, then answer 2xx; what is answered otherwise comes again."""
    try:
        message = verify_webhook(os.environ["WEBHOOK_SECRET"], request.headers, request.body)
    except WebhookRefused:
        return HttpResponse(status=401)
    data = message["data"]
    order = orders.get(data["metadata"].get("order"))
    if order is None:  # told before the order was saved: it comes again
        return HttpResponse(status=503)
    if data["sequence"] > order["sequence"]:  # neither a repeat nor older news
        order |= {"state": data["state"], "sequence": data["sequence"]}  # commit here; if that fails, answer 500
    return HttpResponse(status=204)


@require_GET
def look(request: HttpRequest, number: str) -> HttpResponse:
    """Say where an order stands; its files are read through the gateway."""
    if number not in orders:
        return HttpResponse(status=404)
    order = orders[number]
    if order["state"] == "success" and not order["urls"]:
        order["urls"] = [output.url for output in gateway.get(order["job"]).outputs]
    return JsonResponse(order)


urlpatterns = [path("pictures", order), path("hooks/kiejobs", told), path("pictures/<str:number>", look)]
application = get_wsgi_application()

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
