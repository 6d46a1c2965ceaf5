package client

import (
	"context"
	"log/slog"
	"time"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/keyring"
)

// Config says how a client encrypts, decrypts, and checks what it stores. The
// zero value is ready for use: the keyring of keyring.Default, every secret
// encrypted, and no further checks. [New] and [FromDriver] validate it, once;
// changing it afterwards has no effect.
type Config struct {
	// Keyring encrypts and decrypts. Nil means keyring.Default's, which is
	// looked up when it is first needed, or at once by credent.Open. A keyring
	// of keyring.Watch is kept fresh. One without keys makes each statement
	// with a secret an encrypted.ErrNoKey.
	Keyring *keyring.Keyring

	// VerifyOnRead opens each secret that a query returns, and makes the query
	// fail if one doesn't open. False leaves secrets unopened until Reveal,
	// which then fails for that secret alone, so that one damaged row doesn't
	// hide the others.
	VerifyOnRead bool

	// Encryption is the state of encryption, in all columns. Zero means
	// encrypted.Require. The old way is plaintext.
	//
	// As long as plaintext is read, "" is a plaintext like any other, and NULL
	// stays absent. Text that begins like a token ("gAAAA") is never taken for
	// plaintext: if it doesn't open it is encrypted.ErrCorrupt or
	// encrypted.ErrUnknownKey, and encrypted.Off refuses it with
	// encrypted.ErrEncrypted. The text that secrets print as isn't plaintext
	// either: encrypted.ErrRedacted. As long as plaintext is written, a secret
	// that begins like a token is refused with credent.ErrLooksLikeToken.
	// OnReveal sees which secrets were stored as plaintext.
	//
	// A negative or unknown state, and states that don't go together, are an
	// encrypted.ErrInvalidStates. States can also be kept in the database, with
	// `credent state set`; these come first, and a client that is configured
	// otherwise is refused with encrypted.ErrStateMismatch: by credent.Open, or
	// by the client's first statement. docs/encrypting.md has the order of a
	// rollout.
	Encryption encrypted.State

	// Binding is the state of context binding, in all columns. Zero means
	// encrypted.Require if the field is declared Bound, and otherwise
	// encrypted.Off.
	//
	// A bound token decrypts only in its own table, column and user's rows.
	// Moving it elsewhere makes Reveal return encrypted.ErrWrongLocation, and
	// encrypted.Require refuses a token that isn't bound. A bound token is a
	// Fernet token under a key derived from the keyring's. Every program that
	// reads or writes the column must derive it alike: the Python application
	// as docs/binding.md shows, which also has the order of a rollout.
	//
	// From encrypted.Accept on statements must say whose the row is or choose
	// one row by its ID, and queries must select user_id too; otherwise they
	// are an encrypted.ErrNoTenant. If an account's user_id changes, in a
	// transaction, the secrets of its credentials are encrypted anew.
	Binding encrypted.State

	// TenantKeys is the state of tenants' keys, in all columns. Zero means
	// encrypted.Off. The old way is a token under the keyring.
	//
	// From encrypted.Write on each tenant has a data key of its own:
	// user_credentials by its user_id. The key is random, made when the first
	// secret of the tenant is stored, and kept in the table
	// credent_tenant_keys, encrypted under the keyring. Destroying it makes the
	// secrets of the tenant unreadable, in the database, its replicas and every
	// copy without the key: `credent tenant destroy`, or rotate.DestroyTenant.
	// Afterwards a Reveal of the tenant's secrets is encrypted.ErrShredded, and
	// so is storing another one.
	//
	// Only encrypted.Require refuses a token under the keyring itself, with
	// encrypted.ErrUnderKeyring: until then such a token opens in every
	// tenant's row. From encrypted.Accept on statements must say whose the row
	// is, as for Binding.
	//
	// Keys are read over the connection of the statement, when its rows have
	// ended, and are kept in memory for [TenantKeyLifetime]. A secret that is
	// revealed later than that after it was read takes a connection of the pool
	// to read the key again, for 5 seconds at the most. docs/tenant-keys.md has
	// the order of a rollout.
	TenantKeys encrypted.State

	// States gives single columns their states, such as
	//
	//	{Column: usercredential.APIKeyColumn, Binding: encrypted.Write}
	//
	// Nil or empty means that all columns have the same, and so does each state
	// that is zero. A column's state that contradicts the field above is an
	// encrypted.ErrInvalidStates, and a column that isn't encrypted an
	// encrypted.ErrNoColumn.
	States []encrypted.ColumnStates

	// RequireRowSecurity refuses, with [ErrRowSecurity], to work as a role that
	// gets around row-level security: the tables' owner, or a role that
	// inherits from it, a superuser, or one with BYPASSRLS. It also refuses if
	// the policies of a table are off, missing or altered, or the setting
	// row_security is off. False lets such a role see and change every user's
	// rows, whatever [WithUser] says.
	//
	// credent.Open looks, and so does each statement outside of a transaction,
	// each transaction, credent.Copy's included, and each statement after raw
	// SQL in one, in the round trip that sets the user: the role may have
	// changed on a pooled connection, and the policies may have changed since.
	// A statement without WithUser is one of the user "", who sees no rows.
	// QueryContext needs a transaction; it is [ErrNeedsTx] without one.
	//
	// SQLite has no row-level security, so every constructor refuses there. Raw
	// SQL that changes its own role is not seen until the next statement.
	RequireRowSecurity bool

	// RowSecurityTables are the tables that RequireRowSecurity looks at, named
	// as SQL does. Nil or empty means Credent's. If the client has others of
	// your own schema, name them all, Credent's included; row-level security
	// must be on for them, and each permissive policy must ask for app.user_id.
	// Tables without RequireRowSecurity are an [ErrConfig].
	RowSecurityTables []string

	// OnReveal is called at each Reveal of a secret that the client read, in
	// the goroutine that reveals, so that reads of secrets can be counted or
	// recorded. Nil means that nobody is told. It learns who queried: the
	// values of the query's context, its actor ([WithActor]) and its user
	// ([WithUser]). It doesn't learn who called Reveal: a secret that is passed
	// on tells of its query. A secret holds those values for as long as it
	// lives.
	//
	// Secrets that aren't read from the database, such as the ones a Create was
	// given, tell nobody, and so do secrets scanned from rows of QueryContext
	// unless their opener has encrypted.ObservedBy.
	OnReveal func(encrypted.Reveal)

	// Trail is the audit trail in the database, of audit.Open. It gets an entry
	// of each Reveal of a secret that the client read and of each secret that
	// doesn't open, and one of each account and credential that is made,
	// changed, moved or removed, in the transaction of the change: by ent's
	// mutations, by what the database removes with an account, and by raw SQL
	// as far as docs/audit.md says. If the trail doesn't take an entry, Reveal
	// returns its error and no plaintext, and the change isn't made. Give
	// audit.Open a pool of its own: an entry waits for a connection while the
	// caller may hold one.
	//
	// Nil means no trail. If the database requires one, by `credent audit on`,
	// every Reveal and every change of such a client is an
	// encrypted.ErrTrailRequired, and credent.Open fails with it.
	//
	// It isn't Audit: that is a log for people, in the service's own output,
	// and nobody can prove that a line of it is missing.
	Trail *audit.Trail
	// Observer is told of each secret that the client seals or opens, and of
	// each look at the tenants' keys, in the goroutine that does it, so that
	// they can be counted. It learns columns and errors, no rows and no
	// readers. The zero Observer is nobody. Module otelcredent has one for
	// OpenTelemetry; docs/metrics.md.
	Observer encrypted.Observer

	// Audit gets a record of each mutation of an account or a credential: who
	// did what to which rows and fields, never a value. The actor is
	// [WithActor]'s or else the user of [WithUser]. Statements that pass by
	// ent's mutations (ExecContext, raw SQL) aren't recorded. Nil means no
	// records.
	Audit *slog.Logger

	// Formats refuses keys that don't look like keys of their credential type,
	// with [ErrFormat]; [BrokerFormats] are known ones. Types without a format
	// aren't checked. Nil or empty means no checks.
	Formats []Format

	// FormatWarnings gets what Formats would refuse, and the client stores it.
	// Nil means that it is refused. A logger without Formats is an
	// [ErrConfig].
	FormatWarnings *slog.Logger

	// OnExpiring is told of each active credential that a query returns within
	// ExpiringWithin of its expiry, or later, in the query's goroutine and with
	// its context, so that somebody replaces it in time: docs/expiry.md. It is
	// told once in an [ExpiringPeriod] for a credential, and once more when
	// that has expired, by the client's clock. Each client keeps count by
	// itself.
	//
	// It sees entities with their expires_at and a secret, however they are
	// queried; a Select that leaves one of them out, or scans into another
	// type, is not looked at. Nil means that nobody is told. [WrapDriver]
	// refuses it with an [ErrConfig].
	OnExpiring func(context.Context, Expiring)

	// ExpiringWithin is how long before its expiry OnExpiring is told of a
	// credential. Zero means 30 days. A negative time, and one without
	// OnExpiring, are an [ErrConfig].
	ExpiringWithin time.Duration

	// Reader is the driver of a standby, for reads that may be older than the
	// primary's: entsql.OpenDB(dialect.Postgres, db) for a pool. Closing the
	// client closes it. Nil means that the primary answers everything;
	// credent.Open makes one of a URL with credent.WithReader. A driver of
	// another dialect is an [ErrConfig].
	//
	// It answers queries of ent outside of transactions, whose context is one
	// of [WithRequest] and whose request hasn't written, or one of
	// [WithStaleReads]. Everything else goes to the primary: other contexts,
	// transactions, mutations with all that their hooks read, and raw SQL,
	// unless [WithReadOnlySQL] says that it only reads. So does a query that
	// turns out to write.
	//
	// Row-level security holds there too: the user is set for a read-only
	// transaction, and RequireRowSecurity looks at the standby's role. States
	// and tenants' keys are read there; a tenant's key that is missing is the
	// primary's. [StatesLifetime] and [TenantKeyLifetime] begin when the
	// standby has replayed the change.
	Reader dialect.Driver

	// OnReaderError is told of each query that the Reader failed to answer, by
	// an [ErrReader] and in the query's goroutine, and then the primary answers
	// it. A Reader that can't be reached is left alone for 5 seconds, and
	// OnReaderError is told of these queries too. Nil means that the query
	// fails with the ErrReader. A result that breaks off fails with an
	// ErrReader in any case, and so does what row-level security refuses, with
	// [ErrRowSecurity]. OnReaderError without a Reader is an [ErrConfig].
	OnReaderError func(context.Context, error)

	// Wrap puts a driver around the client's own, such as a cache or a
	// debugger, and returns it. What it sees are statements before arguments
	// are encrypted, and results after their secrets have an opener. Nil means
	// no driver. One that returns nil is an [ErrConfig].
	Wrap func(dialect.Driver) dialect.Driver

	// Migrate makes credent.Open apply the pending migrations first, and keep
	// the canaries of [Check], so that Open fails with a keyring that opens no
	// stored secret. False leaves the database as it is. Constructors on a pool
	// or a driver refuse true with an [ErrConfig]: call migrate.Apply.
	Migrate bool
}
