package cli

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/predicate"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
)

// exportPage is the number of rows that are read at once, and held in memory.
const exportPage = 1000

func (a *app) credentialExport() *cobra.Command {
	var (
		user, format string
		reveal       bool
	)
	cmd := a.action(&cobra.Command{
		Use:   "export [flags]",
		Short: "Write the credentials as CSV or JSON lines; their secrets only with --reveal",
		Long: `Write all credentials to standard output, as CSV or with a JSON object in each line, in the order of their ids. It is as
long as the table and needs little memory. On Postgres it is what the table had at one moment.

The secrets are written as [REDACTED], which needs no key and cannot be imported, unless --reveal is given. Then the output
has them in plaintext: keep it off disks that others read, and delete it after use.`,
		Example: `  credent credential export > credentials.csv
  credent credential export --reveal --format jsonl | ssh host credent credential import --format jsonl -`,
	}, func(ctx context.Context, _ []string) error {
		if format != formatCSV && format != formatJSONL {
			return usageError("--format: use csv or jsonl")
		}
		var ring *keyring.Keyring
		if reveal {
			var err error
			if ring, err = keyring.FromEnv(); err != nil {
				return err
			}
		}
		return a.withClientOf(ctx, ring, func(db *database, client *ent.Client) error {
			if user != "" {
				if _, err := accountOf(ctx, client.UserAccount, user); err != nil {
					return err
				}
			}
			out := bufio.NewWriter(a.out)
			shredded := 0
			write := func(client *ent.Client) (err error) {
				shredded, err = export(ctx, client, user, newRowWriter(out, format), reveal)
				return err
			}
			if err := inSnapshot(ctx, db, client, write); err != nil {
				_ = out.Flush() // what is there is as good as without the error
				return err
			}
			if shredded > 0 {
				a.notef("credent: note: left out %s of users whose key was destroyed\n", count(shredded, "credential"))
			}
			return out.Flush()
		})
	})
	cmd.Flags().StringVar(&format, "format", formatCSV, "`csv or jsonl`")
	cmd.Flags().StringVar(&user, "user", "", "only credentials of the user with this `ID`")
	cmd.Flags().BoolVar(&reveal, "reveal", false, "decrypt the secrets and write them")
	return cmd
}

// inSnapshot calls f with a client that sees the database as it is now.
// SQLite's driver has no such transaction that would not keep writers out, so
// there each page is as of its reading.
func inSnapshot(ctx context.Context, db *database, client *ent.Client, f func(*ent.Client) error) error {
	if !db.isPostgres() {
		return f(client)
	}
	tx, err := client.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // there is nothing to commit
	return f(tx.Client())
}

// export writes the rows page by page. It leaves out those that are to be
// revealed and whose user's key was destroyed, and returns how many these are.
func export(ctx context.Context, client *ent.Client, user string, out rowWriter, reveal bool) (shredded int, err error) {
	if err := out.head(); err != nil {
		return shredded, err
	}
	var after []predicate.UserCredential // nothing for the first page
	for {
		query := client.UserCredential.Query().Where(after...).Order(usercredential.ByID()).Limit(exportPage)
		if user != "" {
			query.Where(usercredential.UserID(user))
		}
		var page []*ent.UserCredential
		if reveal {
			page, err = query.All(ctx)
		} else {
			page, err = query.Select(withoutSecrets...).All(ctx)
		}
		if err != nil {
			return shredded, err
		}
		for _, row := range page {
			apiKey, secretKey := row.APIKey.String(), row.SecretKey.String()
			if reveal {
				apiKey, secretKey, err = revealed(row)
				if errors.Is(err, credent.ErrShredded) {
					shredded++
					continue
				}
				if err != nil {
					return shredded, err
				}
			}
			if err := out.row(row, apiKey, secretKey); err != nil {
				return shredded, err
			}
		}
		if len(page) < exportPage {
			return shredded, nil
		}
		after = []predicate.UserCredential{usercredential.IDGT(page[len(page)-1].ID)}
	}
}

// rowWriter writes credentials in one format.
type rowWriter interface {
	head() error
	row(row *ent.UserCredential, apiKey, secretKey string) error
}

func newRowWriter(out io.Writer, format string) rowWriter {
	if format == formatCSV {
		return csvWriter{csv.NewWriter(out)}
	}
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	return jsonlWriter{enc}
}

type csvWriter struct{ w *csv.Writer }

func (c csvWriter) head() error { return c.write(fileColumns) }

func (c csvWriter) write(record []string) error {
	if err := c.w.Write(record); err != nil {
		return err
	}
	c.w.Flush()
	return c.w.Error()
}

func (c csvWriter) row(row *ent.UserCredential, apiKey, secretKey string) error {
	for column, text := range map[string]string{
		columnUser: row.UserID, columnType: row.CredentialType, columnAPIKey: apiKey, columnSecretKey: secretKey,
	} {
		if strings.Contains(text, "\r") {
			return messagef("%s of %s has a carriage return, which CSV does not keep; use --format jsonl", column, row.ID)
		}
	}
	expires := ""
	if row.ExpiresAt != nil {
		expires = exact(*row.ExpiresAt)
	}
	return c.write([]string{
		row.ID.String(), row.UserID, row.CredentialType, apiKey, secretKey, expires, strconv.FormatBool(row.IsActive),
		exact(row.CreatedAt), exact(row.UpdatedAt),
	})
}

// exact prints a time with what Postgres stores of it.
func exact(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

type jsonlWriter struct{ enc *json.Encoder }

func (jsonlWriter) head() error { return nil }

func (j jsonlWriter) row(row *ent.UserCredential, apiKey, secretKey string) error {
	for column, secret := range map[string]string{columnAPIKey: apiKey, columnSecretKey: secretKey} {
		if !utf8.ValidString(secret) {
			return fmt.Errorf("%s of %s is not UTF-8 text, which JSON must be", column, row.ID)
		}
	}
	return j.enc.Encode(struct { //nolint:gosec // G117: that is what --reveal asks for; else they are redacted
		ID        uuid.UUID  `json:"id"`
		UserID    string     `json:"user_id"`
		Type      string     `json:"credential_type"`
		APIKey    string     `json:"api_key"`
		SecretKey string     `json:"secret_key"`
		ExpiresAt *time.Time `json:"expires_at"`
		IsActive  bool       `json:"is_active"`
		CreatedAt time.Time  `json:"created_at"`
		UpdatedAt time.Time  `json:"updated_at"`
	}{
		row.ID, row.UserID, row.CredentialType, apiKey, secretKey, utc(row.ExpiresAt), row.IsActive,
		row.CreatedAt.UTC(), row.UpdatedAt.UTC(),
	})
}
