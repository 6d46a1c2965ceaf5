package encrypted

import (
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/internal/entcrypt/driver"
	engine "github.com/credent-go/credent/internal/fieldcrypt/keyring"
	"github.com/credent-go/credent/internal/recorder"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
)

// Config says how a driver from [NewDriver] encrypts and decrypts. The zero
// value is ready for use: it has the keyring of keyring.Default, every column
// of the process, and the states that the schema and the database give.
// NewDriver validates it, once, and keeps a copy.
type Config struct {
	// Keyring encrypts and decrypts. Nil means keyring.Default's, which is
	// looked up when it is first needed. With a keyring without keys each
	// statement with a secret fails with [ErrNoKey].
	Keyring *keyring.Keyring
	// Columns are the client's encrypted columns, as the generated package's
	// EncryptedColumns returns them. Nil or empty means every column of the
	// process. They tell a result's secrets apart when ent scans them into the
	// caller's own types.
	Columns []Column
	// VerifyOnRead opens each secret that a query returns, and makes the query
	// fail if one doesn't open. False leaves secrets unopened until Reveal,
	// which then fails for that secret alone.
	VerifyOnRead bool
	// States gives columns other states than the default, such as
	//
	//	{Column: integration.RefreshTokenColumn, Binding: encrypted.Write}
	//
	// Nil or empty means the defaults, and so does each state that is zero. A
	// negative or unknown state is an [ErrInvalidStates]. The states in the
	// database's table credent_states take precedence: a client with a
	// different config is refused with [ErrStateMismatch].
	States []ColumnStates
	// OnReveal is called at each Reveal of a secret that the driver read, by
	// the goroutine that reveals. Nil means no calls. With it a secret that was
	// read holds the values of its query's context.
	OnReveal func(Reveal)

	// Trail gets an entry for each Reveal of a secret that the driver read, for
	// each secret that doesn't open, and for each row with encrypted fields
	// that a client makes, changes or removes, in the transaction of the
	// change. If the trail doesn't take the entry, the plaintext isn't returned
	// and the change isn't made. Nil means no trail: if the database requires
	// one, every Reveal and every change then fails with [ErrTrailRequired].
	// docs/audit.md says what the trail proves.
	Trail *audit.Trail
	// Observer is told about each secret that the driver seals or opens, and
	// about each lookup of tenants' keys, by the goroutine that does it. The
	// zero Observer does nothing.
	Observer Observer
}

func (cfg Config) driver() driver.Config {
	return driver.Config{
		Keyring:      (*engine.Ring)(cfg.Keyring),
		Columns:      cfg.Columns,
		VerifyOnRead: cfg.VerifyOnRead,
		States:       states.Table(cfg.States),
		OnReveal:     cfg.OnReveal,
		Trail:        recorder.New(cfg.Trail),
		Observer:     cfg.Observer,
	}
}
