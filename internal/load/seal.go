package load

import (
	"context"
	"errors"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/entcrypt/driver"
)

// recorder is the driver of a client without a database. It answers a Create's
// statement with fail.
type recorder struct {
	name string // dialect name
	fail error
}

var errOnlyCreate = errors.New("only a Create of one row is recorded")

// Exec implements dialect.ExecQuerier.
func (r *recorder) Exec(context.Context, string, any, any) error { return r.fail }

// Query implements dialect.ExecQuerier. It always fails.
func (r *recorder) Query(context.Context, string, any, any) error { return errOnlyCreate }

// Tx implements dialect.Driver. It always fails.
func (r *recorder) Tx(context.Context) (dialect.Tx, error) { return nil, errOnlyCreate }

// Close implements dialect.Driver.
func (r *recorder) Close() error { return nil }

// Dialect implements dialect.Driver.
func (r *recorder) Dialect() string { return r.name }

// columns are the columns that are sent.
var columns = usercredential.Columns

// sealer turns a row into the values that its Create would send.
type sealer struct {
	cfg      Sealing
	recorder *recorder
	client   *ent.Client
	sealer   *driver.Sealer
}

func newSealer(name string, cfg Sealing) (*sealer, error) {
	r := &recorder{name: name}
	s, wrap, err := driver.NewSealer(cfg.Driver)
	if err != nil {
		return nil, err
	}
	return &sealer{cfg: cfg, recorder: r, client: cfg.NewClient(wrap(r)), sealer: s}, nil
}

// seal returns a row's values in the order of columns. It fails as a Create
// would.
func (s *sealer) seal(ctx context.Context, row Row) ([]any, error) {
	if !s.cfg.Checked {
		if values := s.quick(row); values != nil {
			return values, nil
		}
	}
	node, err := s.create(ctx, row, nil)
	if err != nil {
		return nil, err
	}
	return s.values(node)
}

// quick returns a row's values if a Create without format checks would
// certainly accept the row, and nil otherwise. A Create costs ten times as much
// as the encryption, most of it to build a statement that isn't sent.
func (s *sealer) quick(row Row) []any {
	if row.UserAccountID == uuid.Nil || row.APIKey.IsZero() || row.SecretKey.IsZero() ||
		usercredential.UserIDValidator(row.UserID) != nil ||
		usercredential.CredentialTypeValidator(row.CredentialType) != nil {
		return nil
	}
	if row.ID == uuid.Nil {
		row.ID = usercredential.DefaultID()
	}
	if row.CreatedAt.IsZero() {
		row.CreatedAt = usercredential.DefaultCreatedAt()
	}
	if row.UpdatedAt.IsZero() {
		row.UpdatedAt = usercredential.DefaultUpdatedAt()
	}
	values, err := s.values(&ent.UserCredential{
		ID: row.ID, IsActive: !row.Inactive, CreatedAt: row.CreatedAt, UpdatedAt: row.UpdatedAt,
		UserAccountID: row.UserAccountID,
		UserID:        row.UserID, CredentialType: row.CredentialType, APIKey: row.APIKey, SecretKey: row.SecretKey,
		ExpiresAt: row.ExpiresAt,
	})
	if err != nil {
		return nil // Create returns the reason
	}
	return values
}

// values returns a new row's values in the order of columns. A test compares
// them with a Create.
func (s *sealer) values(node *ent.UserCredential) ([]any, error) {
	apiKey, index, err := s.sealer.Seal(usercredential.ValueScanner.APIKey, node.APIKey, node.UserID)
	if err != nil {
		return nil, err
	}
	secretKey, _, err := s.sealer.Seal(usercredential.ValueScanner.SecretKey, node.SecretKey, node.UserID)
	if err != nil {
		return nil, err
	}
	var expiresAt any
	if node.ExpiresAt != nil {
		expiresAt = utc(*node.ExpiresAt)
	}
	return []any{
		node.ID.String(),
		node.IsActive, utc(node.CreatedAt), utc(node.UpdatedAt), index,
		node.UserAccountID.String(),
		node.UserID, node.CredentialType, apiKey, secretKey, expiresAt,
	}, nil
}

// utc rounds a time as the hooks do, to what Postgres stores.
func utc(at time.Time) time.Time { return at.UTC().Truncate(time.Microsecond) }

// explain returns the error of a Create if the database answers its statement
// with err.
func (s *sealer) explain(ctx context.Context, row Row, err error) error {
	if _, explained := s.create(ctx, row, err); explained != nil {
		return explained
	}
	return err
}

func (s *sealer) create(ctx context.Context, row Row, fail error) (*ent.UserCredential, error) {
	s.recorder.fail = fail
	c := s.client.UserCredential.Create().
		SetUserAccountID(row.UserAccountID).
		SetUserID(row.UserID).
		SetCredentialType(row.CredentialType).
		SetIsActive(!row.Inactive).
		SetNillableExpiresAt(row.ExpiresAt)
	if row.ID != uuid.Nil {
		c.SetID(row.ID)
	}
	// A field left unset fails as a missing required field.
	if !row.APIKey.IsZero() {
		c.SetAPIKey(row.APIKey)
	}
	if !row.SecretKey.IsZero() {
		c.SetSecretKey(row.SecretKey)
	}
	if !row.CreatedAt.IsZero() {
		c.SetCreatedAt(row.CreatedAt)
	}
	if !row.UpdatedAt.IsZero() {
		c.SetUpdatedAt(row.UpdatedAt)
	}
	return c.Save(ctx)
}
