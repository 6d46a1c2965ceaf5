"""SQLAlchemy models of the Python application that shares its tables and its key with package credent.

They are typical of a FastAPI application: no server defaults, naive UTC times, and secrets encrypted on the way into
the database and decrypted on the way out. Postgres chooses the constraint names. Do not tidy them up: the first
migration repeats the schema that create_all creates from them.
"""

import os
import uuid
from datetime import datetime, timezone
from functools import lru_cache

from cryptography.fernet import Fernet, MultiFernet
from sqlalchemy import Boolean, Column, DateTime, ForeignKey, Index, String
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.orm import declarative_base, relationship
from sqlalchemy.types import TypeDecorator

Base = declarative_base()


class EncryptionKeyError(Exception):
    """ENCRYPTION_KEY or ENCRYPTION_KEY_PREVIOUS is missing or malformed. The message says which, without the key."""


class EncryptionService:
    """Encrypts under the first key and decrypts under all. Keys are 32 bytes in base64url, 44 characters."""

    def __init__(self, key, previous=()):
        self.fernet = Fernet(key)
        if previous:
            self.fernet = MultiFernet([self.fernet, *map(Fernet, previous)])

    def encrypt(self, plaintext):
        """Returns the token of a str, as a str."""
        return self.fernet.encrypt(plaintext.encode()).decode()

    def decrypt(self, token):
        """Returns the plaintext of a token, both str. Raises InvalidToken, or UnicodeDecodeError if it isn't UTF-8."""
        return self.fernet.decrypt(token.encode()).decode()


@lru_cache(maxsize=None)
def get_encryption_service():
    """Returns the service of the process, keyed by ENCRYPTION_KEY and ENCRYPTION_KEY_PREVIOUS (comma-separated)."""
    key = os.environ.get("ENCRYPTION_KEY", "").strip()
    if not key:
        raise EncryptionKeyError("ENCRYPTION_KEY is not set")
    previous = os.environ.get("ENCRYPTION_KEY_PREVIOUS", "")
    try:
        return EncryptionService(key, [k.strip() for k in previous.split(",") if k.strip()])
    except ValueError:
        raise EncryptionKeyError("ENCRYPTION_KEY or ENCRYPTION_KEY_PREVIOUS has something else than a key") from None


def utcnow():
    """Returns the time in UTC without a zone, as the columns hold it."""
    return datetime.now(timezone.utc).replace(tzinfo=None)


class EncryptedString(TypeDecorator):
    """A string column that holds Fernet tokens. The length is the token's, in characters. None is NULL."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value, dialect):
        if value is None:
            return None
        return get_encryption_service().encrypt(str(value))

    def process_result_value(self, value, dialect):
        if value is None:
            return None
        return get_encryption_service().decrypt(value)


class UserAccount(Base):
    """A user who has credentials."""

    __tablename__ = "user_accounts"
    __table_args__ = (Index("idx_user_accounts_user_id", "user_id"),)

    id = Column(UUID(as_uuid=True), primary_key=True, default=uuid.uuid4)
    user_id = Column(String(255), nullable=False, unique=True)
    account_name = Column(String(255), nullable=False)
    is_active = Column(Boolean, default=True)
    created_at = Column(DateTime, default=utcnow)
    updated_at = Column(DateTime, default=utcnow, onupdate=utcnow)

    credentials = relationship("UserCredential", back_populates="user_account", cascade="all, delete-orphan")


class UserCredential(Base):
    """A user's API keys at one broker or data provider."""

    __tablename__ = "user_credentials"
    __table_args__ = (
        Index("idx_user_credentials_user_id", "user_id"),
        Index("idx_user_credentials_account_id", "user_account_id"),
    )

    id = Column(UUID(as_uuid=True), primary_key=True, default=uuid.uuid4)
    user_account_id = Column(UUID(as_uuid=True), ForeignKey("user_accounts.id", ondelete="CASCADE"), nullable=False)
    user_id = Column(String(255), nullable=False)
    credential_type = Column(String(50), nullable=False)
    api_key = Column(EncryptedString(500), nullable=False)
    secret_key = Column(EncryptedString(500), nullable=False)
    is_active = Column(Boolean, default=True)
    expires_at = Column(DateTime, nullable=True)
    created_at = Column(DateTime, default=utcnow)
    updated_at = Column(DateTime, default=utcnow, onupdate=utcnow)

    user_account = relationship("UserAccount", back_populates="credentials")
