#!/usr/bin/python3
"""Acts as the Python application in tests that check that both languages read each other's rows.

It takes JSON on standard input and prints JSON. DATABASE_URL names the database (postgres://…); ENCRYPTION_KEY and
ENCRYPTION_KEY_PREVIOUS hold the keys. Times are ISO 8601, without a zone and in UTC when printed; when read, a time
with a zone is converted to UTC. On an error it exits with 1, or 2 for wrong arguments, and prints one line to standard
error, without secrets, keys or tokens.
"""

import argparse
import base64
import binascii
import json
import os
import sys
import uuid
from datetime import datetime, timezone

sys.dont_write_bytecode = True  # leave no __pycache__ in the source tree

from cryptography.fernet import InvalidToken  # noqa: E402
from sqlalchemy import create_engine, create_mock_engine, exc  # noqa: E402
from sqlalchemy.orm import Session  # noqa: E402

from models import Base, EncryptionKeyError, UserAccount, UserCredential, get_encryption_service  # noqa: E402

UPDATABLE = ("credential_type", "api_key", "secret_key", "is_active", "expires_at")


class TwinError(Exception):
    """An error with a message that may be printed."""


# Commands. Each gets the parsed arguments and returns what to print.


def create_all(args):
    """create the missing tables"""
    Base.metadata.create_all(engine())
    return sorted(Base.metadata.tables)


def ddl(args):
    """print the DDL of create-all for Postgres; needs no database"""
    statements = []

    def record(sql, *_, **__):
        statements.append(str(sql.compile(dialect=mock.dialect)).strip())

    mock = create_mock_engine("postgresql+psycopg2://", record)
    Base.metadata.create_all(mock, checkfirst=False)
    return "".join(f"{statement};\n\n" for statement in statements).rstrip("\n")


def write(args):
    """insert accounts with their credentials: [{user_id, account_name, credentials: [{credential_type, api_key,
    secret_key, is_active?, expires_at?}]}]; print their IDs in the same order"""
    accounts = []
    for i, item in enumerate(read_input(list)):
        account = UserAccount(
            user_id=field(item, "user_id", f"account {i}"),
            account_name=field(item, "account_name", f"account {i}"),
        )
        for j, given in enumerate(item.get("credentials", [])):
            place = f"account {i}, credential {j}"
            credential = UserCredential(
                user_id=account.user_id,
                **{name: field(given, name, place) for name in ("credential_type", "api_key", "secret_key")},
            )
            if "is_active" in given:
                credential.is_active = given["is_active"]
            if "expires_at" in given:
                credential.expires_at = parse_time(given["expires_at"])
            account.credentials.append(credential)
        accounts.append(account)
    with Session(engine()) as session:
        session.add_all(accounts)
        session.commit()
        return [{"id": str(a.id), "credentials": [str(c.id) for c in a.credentials]} for a in accounts]


def read(args):
    """print all accounts, by user_id, with their credentials, decrypted, in creation order"""
    with Session(engine()) as session:
        return [
            {
                "id": str(a.id),
                "user_id": a.user_id,
                "account_name": a.account_name,
                "is_active": a.is_active,
                "created_at": format_time(a.created_at),
                "updated_at": format_time(a.updated_at),
                "credentials": [
                    {
                        "id": str(c.id),
                        "user_account_id": str(c.user_account_id),
                        "user_id": c.user_id,
                        "credential_type": c.credential_type,
                        "api_key": c.api_key,
                        "secret_key": c.secret_key,
                        "is_active": c.is_active,
                        "expires_at": format_time(c.expires_at),
                        "created_at": format_time(c.created_at),
                        "updated_at": format_time(c.updated_at),
                    }
                    for c in sorted(a.credentials, key=lambda c: (c.created_at or datetime.min, c.id))
                ],
            }
            for a in sorted(session.query(UserAccount), key=lambda a: a.user_id)
        ]


def update(args):
    """set fields of a credential from an object of their names and values; print its ID and updated_at"""
    fields = read_input(dict)
    for name in fields:
        if name not in UPDATABLE:
            raise TwinError(f"not a field to update; these are: {', '.join(UPDATABLE)}")
    if "expires_at" in fields:
        fields["expires_at"] = parse_time(fields["expires_at"])
    with Session(engine()) as session:
        credential = find_credential(session, args.id)
        for name, value in fields.items():
            setattr(credential, name, value)
        session.commit()
        return {"id": str(credential.id), "updated_at": format_time(credential.updated_at)}


def delete_account(args):
    """delete an account, with its credentials"""
    with Session(engine()) as session:
        account = session.query(UserAccount).filter_by(user_id=args.user_id).one_or_none()
        if account is None:
            raise TwinError("no account has this user_id")
        deleted = {"id": str(account.id), "credentials": [str(c.id) for c in account.credentials]}
        session.delete(account)
        session.commit()
        return deleted


def remove_credential(args):
    """take a credential out of its account's collection, which deletes it as an orphan"""
    with Session(engine()) as session:
        credential = find_credential(session, args.id)
        credential.user_account.credentials.remove(credential)
        session.commit()
        return {"id": args.id}


def encrypt(args):
    """encrypt a list of plaintexts in base64, which lets them be any bytes; print the tokens"""
    fernet = get_encryption_service().fernet
    return [fernet.encrypt(from_base64(text, i)).decode() for i, text in enumerate(read_input(list))]


def decrypt(args):
    """decrypt a list of tokens; print the plaintexts in base64"""
    plaintexts = []
    for i, token in enumerate(read_input(list)):
        try:
            plaintexts.append(get_encryption_service().fernet.decrypt(token))
        except Exception as e:
            raise TwinError(f"token {i}: {type(e).__name__}") from None
    return [base64.b64encode(plaintext).decode() for plaintext in plaintexts]


def decrypt_check(args):
    """decrypt a list of tokens; print "ok" or the exception's name, such as InvalidToken, for each"""
    fernet = get_encryption_service().fernet
    verdicts = []
    for token in read_input(list):
        try:
            fernet.decrypt(token)
            verdicts.append("ok")
        except Exception as e:  # any exception is the answer
            verdicts.append(type(e).__name__)
    return verdicts


# Database, input and output.


def engine():
    """Returns an engine for DATABASE_URL. Its errors omit parameters, which are plaintext."""
    url = os.environ.get("DATABASE_URL", "")
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgres", "postgresql", "postgresql+psycopg2"):
        raise TwinError("DATABASE_URL is not of the form postgres://user:password@host:5432/database")
    try:
        return create_engine(f"postgresql+psycopg2://{rest}", hide_parameters=True)
    except (exc.ArgumentError, ValueError):  # they quote the URL
        raise TwinError("DATABASE_URL is not a URL that SQLAlchemy understands") from None


def find_credential(session, text):
    try:
        credential = session.get(UserCredential, uuid.UUID(text))
    except ValueError:
        raise TwinError("the ID is not a UUID") from None
    if credential is None:
        raise TwinError("no credential has this ID")
    return credential


def read_input(kind):
    try:
        value = json.loads(sys.stdin.buffer.read())
    except ValueError:
        raise TwinError("standard input is not JSON") from None
    if not isinstance(value, kind):
        raise TwinError(f"standard input is not a JSON {'array' if kind is list else 'object'}")
    return value


def field(item, name, place):
    if not isinstance(item, dict) or name not in item:
        raise TwinError(f"{place} has no {name}")
    return item[name]


def from_base64(text, place):
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise TwinError(f"string {place} is not base64") from None


def parse_time(text):
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise TwinError("expires_at is not an ISO 8601 time") from None
    if time.tzinfo is not None:
        time = time.astimezone(timezone.utc).replace(tzinfo=None)
    return time


def format_time(time):
    return None if time is None else time.isoformat(timespec="microseconds")


def database_message(error):
    """Returns a database error's first line only, since the detail line quotes the whole row."""
    orig = error.orig
    if isinstance(orig, EncryptionKeyError):
        return str(orig)
    message = getattr(getattr(orig, "diag", None), "message_primary", None)
    if not message and isinstance(error, exc.DBAPIError):
        message = str(orig).partition("\n")[0]
    return f"{type(orig).__name__}: {message}" if message else type(orig).__name__


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise SystemExit(fail(message, 2))


def parse_arguments():
    parser = Parser(prog="twin.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for function in (
        create_all, ddl, write, read, update, delete_account, remove_credential, encrypt, decrypt, decrypt_check,
    ):
        command = commands.add_parser(function.__name__.replace("_", "-"), help=function.__doc__)
        command.set_defaults(function=function)
        if function in (update, remove_credential):
            command.add_argument("id", metavar="ID", help="of the credential, a UUID")
        elif function is delete_account:
            command.add_argument("user_id", metavar="USER_ID", help="of the account")
    return parser.parse_args()


def fail(message, code=1):
    print("twin.py:", " ".join(message.split()), file=sys.stderr)
    return code


def main():
    args = parse_arguments()
    try:
        result = args.function(args)
    except (TwinError, EncryptionKeyError) as e:
        return fail(f"{args.command}: {e}")
    except exc.StatementError as e:
        return fail(f"{args.command}: {database_message(e)}")
    except InvalidToken:
        return fail(f"{args.command}: InvalidToken: a stored value cannot be decrypted with the keys given")
    except Exception as e:  # its text may contain anything, even a secret
        return fail(f"{args.command}: {type(e).__name__}")
    try:
        print(result if isinstance(result, str) else json.dumps(result), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return fail(f"{args.command}: nobody reads the output")
    return 0


if __name__ == "__main__":
    sys.exit(main())
