package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	"github.com/google/uuid"

	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/internal/fieldcrypt"
)

// recorder is the driver of a client that talks to no database: it keeps the statement of a Create, and answers with fail.
type recorder struct {
	name  string // of the dialect
	query string
	args  []any
	fail  error
}

var errOnlyCreate = errors.New("only a Create of one row is recorded")

// Exec keeps the statement.
func (r *recorder) Exec(_ context.Context, query string, args, _ any) error {
	argv, ok := args.([]any)
	if !ok {
		return errOnlyCreate
	}
	r.query, r.args = query, argv
	return r.fail
}

// Query refuses: there is nothing to read from.
func (r *recorder) Query(context.Context, string, any, any) error { return errOnlyCreate }

// Tx refuses likewise.
func (r *recorder) Tx(context.Context) (dialect.Tx, error) { return nil, errOnlyCreate }

// Close does nothing.
func (r *recorder) Close() error { return nil }

// Dialect is that of the statements.
func (r *recorder) Dialect() string { return r.name }

// columns are those of the rows that are sent.
var columns = usercredential.Columns

// sealer makes of a row what its Create would send.
type sealer struct {
	cfg      Sealing
	recorder *recorder
	client   *ent.Client
	sealer   fieldcrypt.Sealer
	query    string // the last one, and where its arguments go
	places   []int
}

func newSealer(name string, cfg Sealing) *sealer {
	r := &recorder{name: name}
	s := fieldcrypt.NewSealer(cfg.Driver)
	return &sealer{cfg: cfg, recorder: r, client: cfg.NewClient(s.Driver(r)), sealer: s}
}

// seal returns the values of a row for columns; those that the statement leaves to the database are nil. Errors are a
// Create's.
func (s *sealer) seal(ctx context.Context, row Row) ([]any, error) {
	if !s.cfg.Checked {
		if values := s.quick(row); values != nil {
			return values, nil
		}
	}
	return s.slow(ctx, row)
}

// slow goes through a Create.
func (s *sealer) slow(ctx context.Context, row Row) ([]any, error) {
	if err := s.create(ctx, row, nil); err != nil {
		return nil, err
	}
	if s.recorder.query != s.query {
		places, err := placesOf(s.recorder.query)
		if err != nil {
			return nil, err
		}
		s.query, s.places = s.recorder.query, places
	}
	if len(s.places) != len(s.recorder.args) {
		return nil, errOnlyCreate
	}
	values := make([]any, len(columns))
	for i, arg := range s.recorder.args {
		values[s.places[i]] = arg
	}
	return values, nil
}

// quick returns the values of a row that a Create without checks of formats would not refuse, and nil of one that it might.
// A Create costs ten times what the encryption does, most of it for a statement that is not sent.
func (s *sealer) quick(row Row) []any {
	if row.UserAccountID == uuid.Nil || row.APIKey.IsZero() || row.SecretKey.IsZero() ||
		usercredential.UserIDValidator(row.UserID) != nil || usercredential.CredentialTypeValidator(row.CredentialType) != nil {
		return nil
	}
	apiKey, index, err := s.sealer.Seal(usercredential.ValueScanner.APIKey, row.APIKey, row.UserID)
	if err != nil {
		return nil
	}
	secretKey, _, err := s.sealer.Seal(usercredential.ValueScanner.SecretKey, row.SecretKey, row.UserID)
	if err != nil {
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
	var expiresAt any
	if row.ExpiresAt != nil {
		expiresAt = utc(*row.ExpiresAt)
	}
	// In the order of columns, which a test compares with a Create's.
	return []any{
		fieldcrypt.UUIDArg{UUID: row.ID},
		!row.Inactive, utc(row.CreatedAt), utc(row.UpdatedAt), index,
		fieldcrypt.UUIDArg{UUID: row.UserAccountID},
		row.UserID, row.CredentialType, apiKey, secretKey, expiresAt,
	}
}

// utc is what the hooks make of a time: as Postgres stores it.
func utc(at time.Time) time.Time { return at.UTC().Truncate(time.Microsecond) }

// explain returns what a Create returns when the database answers its statement with the given error.
func (s *sealer) explain(ctx context.Context, row Row, err error) error {
	if explained := s.create(ctx, row, err); explained != nil {
		return explained
	}
	return err
}

func (s *sealer) create(ctx context.Context, row Row, fail error) error {
	s.recorder.query, s.recorder.args, s.recorder.fail = "", nil, fail
	c := s.client.UserCredential.Create().
		SetUserAccountID(row.UserAccountID).
		SetUserID(row.UserID).
		SetCredentialType(row.CredentialType).
		SetIsActive(!row.Inactive).
		SetNillableExpiresAt(row.ExpiresAt)
	if row.ID != uuid.Nil {
		c.SetID(row.ID)
	}
	// One that is absent is a required field that is missing.
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
	return c.Exec(ctx)
}

// placesOf returns the place in columns of each argument of an INSERT of ent's, which lists its columns in parentheses.
func placesOf(query string) ([]int, error) {
	_, rest, _ := strings.Cut(query, "(")
	list, _, ok := strings.Cut(rest, ")")
	if !ok || !strings.HasPrefix(query, "INSERT INTO ") {
		return nil, errOnlyCreate
	}
	var places []int
	for name := range strings.SplitSeq(list, ", ") {
		i := slices.Index(columns, strings.Trim(name, "\"`"))
		if i < 0 {
			return nil, fmt.Errorf("the statement has an unknown column: %w", errOnlyCreate)
		}
		places = append(places, i)
	}
	return places, nil
}
