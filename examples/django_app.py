"""A Django app in one file: tickets are saved by Django's ORM and classified by TierQ.

    python examples/django_app.py migrate_tickets
    python examples/django_app.py runserver
    python examples/django_app.py submit_missing        # from cron, every few minutes

Django's ORM gives no SQLAlchemy session, so tasks cannot join its transaction. The honest way is two steps: save the
row, and submit when it is committed. A process that dies between the two leaves a row without a batch, which
`submit_missing` submits later. Each submission has the row's id as its key: submitting twice is submitting once.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import cache, partial
from typing import Any

import django
from django.conf import settings
from django.core.management import execute_from_command_line
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from sqlalchemy.exc import SQLAlchemyError

settings.configure(
    DEBUG=False,
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY", "only-for-this-example"),
    ALLOWED_HOSTS=["localhost", "127.0.0.1", "testserver"],
    ROOT_URLCONF=__name__,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("DJANGO_DB", "tickets.db")}},
    USE_TZ=True,
)
django.setup()

from django.db import connection, models, transaction  # noqa: E402  # models need the settings above

from tierq import Classify, Client, TierQError  # noqa: E402

log = logging.getLogger("tickets")

intent = Classify.spec("intent", labels=["billing", "bug", "praise"], instructions="What is the customer's matter?")


@cache
def tierq() -> Client:
    """One client a process, made when it is first needed: after the server has forked."""
    return Client()


class Ticket(models.Model):
    body = models.TextField()
    batch = models.CharField(max_length=32, null=True)
    label = models.CharField(max_length=200, null=True)

    class Meta:
        app_label = "tickets"


def submit_ticket(ticket: Ticket) -> None:
    """Submits a ticket that is committed. Safe to repeat: the same key is the same batch."""
    task = intent(ticket.body, key=ticket.pk, urgency="interactive")
    ticket.batch = tierq().submit_many([task], key=f"ticket-{ticket.pk}").id
    ticket.save(update_fields=["batch"])


def submit_or_leave(ticket: Ticket) -> None:
    """After a commit: what goes wrong here must not fail the request, since the ticket is saved."""
    try:
        submit_ticket(ticket)
    except (TierQError, SQLAlchemyError):
        log.exception("ticket %s was not submitted; submit_missing will", ticket.pk)


def submit_missing() -> int:
    """The safety net: submits every ticket that has no batch."""
    tickets = list(Ticket.objects.filter(batch=None))
    for ticket in tickets:
        submit_ticket(ticket)
    return len(tickets)


def read_label(ticket: Ticket) -> str:
    """How far a ticket is; the label is copied into Django's own table once it is there."""
    if ticket.label or not ticket.batch:
        return "done" if ticket.label else "saved"
    batch = tierq().batch(ticket.batch)
    if not batch.progress().is_over:
        return "waiting"
    outcome = next(batch.results())
    if outcome.error:
        return f"failed: {outcome.error.message}"
    ticket.label = outcome.output
    ticket.save(update_fields=["label"])
    return "done"


def create(request: HttpRequest) -> HttpResponse:
    """POST /tickets {"body": …}"""
    body = json.loads(request.body)["body"]
    with transaction.atomic():
        ticket = Ticket.objects.create(body=body)
        transaction.on_commit(partial(submit_or_leave, ticket))
    return JsonResponse({"id": ticket.pk}, status=202)


def show(_request: HttpRequest, pk: int) -> HttpResponse:
    """GET /tickets/1"""
    ticket = Ticket.objects.filter(pk=pk).first()
    if ticket is None:
        return JsonResponse({"error": "there is no such ticket"}, status=404)
    state = read_label(ticket)
    return JsonResponse({"id": ticket.pk, "state": state, "label": ticket.label})


urlpatterns: list[Any] = [path("tickets", create), path("tickets/<int:pk>", show)]


def migrate_tickets() -> None:
    """Stands for `manage.py migrate`, which needs an app with migrations of its own."""
    with connection.schema_editor() as editor:
        editor.create_model(Ticket)


if __name__ == "__main__":
    if sys.argv[1:] == ["migrate_tickets"]:
        migrate_tickets()
    elif sys.argv[1:] == ["submit_missing"]:
        print(f"{submit_missing()} tickets were submitted")
    else:
        execute_from_command_line(sys.argv)
