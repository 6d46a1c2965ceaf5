#!/usr/bin/python3
"""Acts as the Python application with its models, as often as the benchmark asks.

usage: twin.py ACCOUNT-ID USER-ID, with DATABASE_URL and ENCRYPTION_KEY in the environment. It reads requests from standard
input, a line of JSON each, and answers each with the number of rows. The benchmark measures the time; a request is one
line for hundreds of rows, so the pipe's cost is negligible.
"""

import json
import os
import sys
import uuid

sys.dont_write_bytecode = True  # leave no __pycache__ in the source tree
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "integration", "twin"))

from sqlalchemy import create_engine  # noqa: E402
from sqlalchemy.orm import Session  # noqa: E402

from models import UserCredential  # noqa: E402

BULK = 500  # rows in a transaction


def row(account_id, user_id, i, kind):
    return UserCredential(
        user_account_id=account_id,
        user_id=user_id,
        credential_type=kind,
        api_key="PK%08d" % i + "a" * 14,
        secret_key="SK%08d" % i + "s" * 30,
    )


def check(credential):
    key, secret = credential.api_key, credential.secret_key
    if len(key) != 24 or len(secret) != 40 or key[:2] != "PK" or secret[:2] != "SK" or key[2:10] != secret[2:10]:
        raise ValueError("the row has other secrets than were stored")


def handle(engine, account_id, user_id, request):
    do, n, kind = request["do"], request.get("n", 0), request.get("kind", "")
    if do == "insert":
        for i in range(n):
            with Session(engine) as session:
                session.add(row(account_id, user_id, i, kind))
                session.commit()
        return n
    if do == "bulk":
        for start in range(0, n, BULK):
            with Session(engine) as session:
                session.add_all(row(account_id, user_id, i, kind) for i in range(start, min(n, start + BULK)))
                session.commit()
        return n
    if do == "read":
        with Session(engine) as session:
            rows = session.query(UserCredential).filter_by(credential_type=kind).all()
            for credential in rows:
                check(credential)
            return len(rows)
    if do == "point":
        for text in request["ids"]:
            with Session(engine) as session:
                check(session.get(UserCredential, uuid.UUID(text)))
        return len(request["ids"])
    raise ValueError("unknown request")


def main():
    account_id, user_id = uuid.UUID(sys.argv[1]), sys.argv[2]
    engine = create_engine("postgresql+psycopg2://" + os.environ["DATABASE_URL"].partition("://")[2], hide_parameters=True)
    for line in sys.stdin:
        try:
            answer = {"rows": handle(engine, account_id, user_id, json.loads(line))}
        except Exception as e:  # the benchmark stops at it
            answer = {"error": "%s: %s" % (type(e).__name__, e)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
