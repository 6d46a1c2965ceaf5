package cli

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent/encrypted"
	"github.com/credent-go/credent/internal/fieldcrypt/tenantkey"
	"github.com/credent-go/credent/internal/states"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/rotate"
)

// inventoryColumn is an encrypted field of the schema.
type inventoryColumn struct {
	Table        string           `json:"table"`
	Column       string           `json:"column"`
	Type         string           `json:"type"`          // the plaintext's Go type
	Size         int              `json:"size"`          // column size in characters
	MaxPlaintext int              `json:"max_plaintext"` // in bytes
	Key          string           `json:"key"`           // key that encrypts tokens
	Index        string           `json:"index"`         // how the plaintext can be looked up
	Binding      string           `json:"binding"`       // the location that tokens are bound to
	Sample       *inventorySample `json:"sample,omitempty"`
	LastVerified *lastVerified    `json:"last_verified,omitempty"`
}

// lastVerified is the result of a column's last verification.
type lastVerified struct {
	At      *time.Time `json:"at"` // UTC; nil for never
	Secrets int64      `json:"secrets"`
	Failed  int64      `json:"failed"` // secrets that didn't open
	Ready   bool       `json:"ready"`  // all secrets satisfied "credent verify"
}

func (v *lastVerified) String() string {
	if v.At == nil {
		return "never"
	}
	text := v.At.Format(time.RFC3339) + " ready"
	if !v.Ready {
		text = v.At.Format(time.RFC3339) + " not ready"
	}
	if v.Failed > 0 {
		text += fmt.Sprintf(", %d of %d failed", v.Failed, v.Secrets)
	}
	return text
}

// inventorySample counts how many of the latest rows' secrets open.
type inventorySample struct {
	Tokens int `json:"tokens"`
	Open   int `json:"open"`
}

func (s *inventorySample) String() string { return fmt.Sprintf("%d of %d", s.Open, s.Tokens) }

func (a *app) inventory() *cobra.Command {
	var (
		asJSON, verified bool
		sample           int
	)
	cmd := a.action(&cobra.Command{
		Use:   "inventory [flags]",
		Short: "List the encrypted fields",
		Long: `List every encrypted field: its table and column, the Go type of the plaintext, the size of the column in
characters and of the longest plaintext in bytes, the key ("keyring": ENCRYPTION_KEY itself, and to decrypt the earlier ones;
"keyring or tenant": or, if services have that option, the data key of the row's tenant), the column of its blind index, for
looking up the plaintext, and what a token is bound to, by the schema. It needs neither a key nor a database; "credent state
list" shows the database's states.

With --verified it also says when the secrets of each field were last verified, as recorded by "credent verify", and whether
they were as they should be ("ready"); that needs the database, and the key is then "keyring" if no tenant has a key of its own.
With --sample it opens the secrets of the last rows by primary key, and says how many of them open.`,
		Example: `  credent inventory --json
  credent inventory --verified
  credent inventory --sample 100`,
	}, func(ctx context.Context, _ []string) error {
		if sample < 0 {
			return usageError("--sample is negative")
		}
		columns := inventoryOf(encrypted.Columns())
		if verified {
			if err := addVerified(ctx, columns); err != nil {
				return err
			}
		}
		if sample > 0 {
			if err := addSamples(ctx, columns, sample); err != nil {
				return err
			}
		}
		if asJSON {
			return a.printJSON(columns)
		}
		return a.printTable(inventoryRows(columns))
	})
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&verified, "verified", false, "say when each was verified last")
	cmd.Flags().IntVar(&sample, "sample", 0, "open the secrets of the last `N` rows by primary key; 0 means none")
	return cmd
}

func inventoryOf(known []encrypted.Column) []inventoryColumn {
	columns := make([]inventoryColumn, len(known))
	for i, c := range known {
		columns[i] = inventoryColumn{
			Table: c.Table, Column: c.Name, Type: c.Type, Size: c.Size, MaxPlaintext: c.MaxPlaintext(),
			Key: "keyring", Index: cmp.Or(c.Index, "none"), Binding: "none",
		}
		if c.Tenant != "" {
			columns[i].Key = "keyring or tenant"
		}
		if c.Bound {
			columns[i].Binding = "table, column, " + c.Tenant
		}
	}
	return columns
}

func addVerified(ctx context.Context, columns []inventoryColumn) error {
	return withOwner(ctx, func(db *database) error {
		last, err := rotate.LastVerified(ctx, db.DB)
		if err != nil {
			return err
		}
		if err := db.checkVisible(ctx, tenantkey.Table); err != nil {
			return err
		}
		tenants, err := db.hasTenantKeys(ctx)
		if err != nil {
			return err
		}
		if err := db.addBinding(ctx, columns); err != nil {
			return err
		}
		for i, c := range columns {
			if !tenants {
				columns[i].Key = "keyring"
			}
			columns[i].LastVerified = &lastVerified{}
			if v, ok := last[c.Table+"."+c.Column]; ok {
				columns[i].LastVerified = &lastVerified{&v.At, v.Secrets, v.Failed, v.Ready}
			}
		}
		return nil
	})
}

// addSamples opens the latest secrets. The columns must be in the order of
// [encryptedTables].
func addSamples(ctx context.Context, columns []inventoryColumn, n int) error {
	ring, err := keyring.FromEnv()
	if err != nil {
		return err
	}
	return withOwner(ctx, func(db *database) error {
		if err := db.addBinding(ctx, columns); err != nil {
			return err
		}
		i := 0
		for _, table := range encryptedTables() {
			counts, err := openTokens(ctx, db, ring, table, n)
			if err != nil {
				return err
			}
			for _, c := range counts {
				columns[i].Sample = &inventorySample{Tokens: c.Tokens, Open: c.Tokens - c.Bad - c.Shredded}
				i++
			}
		}
		return nil
	})
}

// addBinding adds the binding according to the database's states.
func (db *database) addBinding(ctx context.Context, columns []inventoryColumn) error {
	known, err := db.states(ctx)
	if err != nil {
		return err
	}
	for i, c := range encrypted.Columns() {
		switch set := known.Given(&c).Binding; {
		case set >= states.Write:
			columns[i].Binding = "table, column, " + c.Tenant
		case set != states.Unset:
			columns[i].Binding = "none"
		}
	}
	return nil
}

func inventoryRows(columns []inventoryColumn) [][]string {
	rows := [][]string{{"COLUMN", "TYPE", "CHARACTERS", "MAX BYTES", "KEY", "INDEX", "BINDING"}}
	for _, c := range columns {
		row := []string{
			c.Table + "." + c.Column, c.Type, strconv.Itoa(c.Size), strconv.Itoa(c.MaxPlaintext), c.Key,
			c.Index, c.Binding,
		}
		if c.LastVerified != nil {
			row = append(row, c.LastVerified.String())
		}
		if c.Sample != nil {
			row = append(row, c.Sample.String())
		}
		rows = append(rows, row)
	}
	if len(columns) > 0 && columns[0].LastVerified != nil {
		rows[0] = append(rows[0], "LAST VERIFIED")
	}
	if len(columns) > 0 && columns[0].Sample != nil {
		rows[0] = append(rows[0], "OPEN")
	}
	return rows
}
