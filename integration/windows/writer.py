"""Stores rows of the table notes as another program does: each line of stdin is
a batch of operations with the states to use, each line of stdout its results.

The functions bound and of_tenant precede this file: the test takes them
from docs/binding.md and docs/tenant-keys.md.
"""

import hmac
import itertools
import json
import os
import sys

import psycopg2
from cryptography.fernet import InvalidToken

OFF, ACCEPT, WRITE, REQUIRE = 1, 2, 3, 4
COLUMNS = ("body", "email", "code")

key = os.environ["ENCRYPTION_KEY"]
conn = psycopg2.connect(os.environ["DATABASE_URL"])
conn.autocommit = True
cursor = conn.cursor()


def data_key(tenant, make):
    """Returns the tenant's data key. If make is set, a missing one is created."""
    query = "SELECT wrapped FROM credent_tenant_keys WHERE tenant = %s"
    cursor.execute(query, (tenant,))
    row = cursor.fetchone()
    if row is None and make:
        info = ("credent tenant key v1\0" + tenant).encode()
        derived = HKDF(SHA256(), 32, None, info).derive(base64.urlsafe_b64decode(key))
        wrapped = Fernet(base64.urlsafe_b64encode(derived)).encrypt(Fernet.generate_key()).decode()
        cursor.execute("INSERT INTO credent_tenant_keys (tenant, wrapped) VALUES (%s, %s) ON CONFLICT DO NOTHING", (tenant, wrapped))
        cursor.execute(query, (tenant,))
        row = cursor.fetchone()
    return row and row[0]


def new_way(state):
    return state >= WRITE


def ways(state):
    """Returns the values of "in the new way" that the state accepts on read."""
    return {OFF: [False], ACCEPT: [True, False], WRITE: [True, False], REQUIRE: [True]}[state]


class Cipher:
    """Opens and creates the columns' values in the given states."""

    def __init__(self, states):
        self.encryption, self.binding, self.tenant_keys = states
        self.fernets = {}

    def fernet(self, column, tenant, bind, own, make=False):
        at = (column, tenant, bind, own)
        if at not in self.fernets:
            base = key
            if own:
                wrapped = data_key(tenant, make)
                if wrapped is None:
                    return None  # nothing is under the key yet
                f = of_tenant(key, tenant, wrapped)
                base = base64.urlsafe_b64encode(f._signing_key + f._encryption_key).decode()
            self.fernets[at] = bound(base, "notes", column, tenant) if bind else Fernet(base)
        return self.fernets[at]

    def seal(self, column, tenant, plaintext):
        if plaintext is None or not new_way(self.encryption):
            return plaintext
        fernet = self.fernet(column, tenant, new_way(self.binding), new_way(self.tenant_keys), make=True)
        return fernet.encrypt(plaintext.encode()).decode()

    def open(self, column, tenant, stored):
        if stored is None:
            return None
        is_token = stored.startswith("gAAAA")
        if is_token not in ways(self.encryption):
            raise ValueError("not in the states of the column")
        if not is_token:
            return stored
        for bind, own in itertools.product(ways(self.binding), ways(self.tenant_keys)):
            fernet = self.fernet(column, tenant, bind, own)
            try:
                if fernet is not None:
                    return fernet.decrypt(stored).decode()
            except InvalidToken:
                pass
        raise ValueError("no key opens it")


def digest(column, plaintext):
    """Returns the digest as in docs/blind-index.md; the column email is normalised."""
    if plaintext is None:
        return None
    if column == "email":
        plaintext = plaintext.lower()
    info = b"credent blind index v1\0notes\0" + column.encode()
    subkey = HKDF(SHA256(), 32, None, info).derive(base64.urlsafe_b64decode(key))
    return hmac.digest(subkey, plaintext.encode(), "sha256")


def run(cipher, op):
    if op["kind"] == "read":
        cursor.execute("SELECT owner_id, body, email, code FROM notes WHERE title = %s", (op["title"],))
        owner, *stored = cursor.fetchone()
        return {"texts": [cipher.open(column, owner, s) for column, s in zip(COLUMNS, stored)]}
    values = {c: cipher.seal(c, op["owner"], text) for c, text in zip(COLUMNS, op["texts"])}
    if op["digests"]:
        values |= {c + "_index": digest(c, text) for c, text in zip(COLUMNS, op["texts"]) if c != "body"}
    names, args = list(values), list(values.values())
    if op["kind"] == "insert":
        query = f"INSERT INTO notes ({', '.join(names)}, title, owner_id) VALUES ({', '.join(['%s'] * len(names))}, %s, %s)"
        args += [op["title"], op["owner"]]
    else:
        query = f"UPDATE notes SET {', '.join(n + ' = %s' for n in names)} WHERE title = %s"
        args.append(op["title"])
    try:
        cursor.execute(query, args)
    except psycopg2.errors.UniqueViolation:
        return {"refused": True}
    if cursor.rowcount != 1:
        raise ValueError(f"{cursor.rowcount} rows")
    return {}


for line in sys.stdin:
    batch = json.loads(line)
    cipher, results = Cipher(batch["states"]), []
    for op in batch["ops"]:
        try:
            results.append(run(cipher, op))
        except Exception as e:
            results.append({"error": type(e).__name__ + ": " + str(e).splitlines()[0]})
    print(json.dumps(results), flush=True)
