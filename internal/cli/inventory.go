package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/credent-go/credent"
)

// inventoryColumn is an encrypted field of the schema.
type inventoryColumn struct {
	Table        string           `json:"table"`
	Column       string           `json:"column"`
	Type         string           `json:"type"`          // Go type of the plaintext
	Size         int              `json:"size"`          // of the column, in characters
	MaxPlaintext int              `json:"max_plaintext"` // in bytes
	Key          string           `json:"key"`           // what tokens are encrypted with
	Index        string           `json:"index"`         // by what the plaintext can be looked up
	Binding      string           `json:"binding"`       // what a token is bound to
	Sample       *inventorySample `json:"sample,omitempty"`
}

// inventorySample says how many of the newest rows' secrets open.
type inventorySample struct {
	Tokens int `json:"tokens"`
	Open   int `json:"open"`
}

func (s *inventorySample) String() string { return fmt.Sprintf("%d of %d", s.Open, s.Tokens) }

func (a *app) inventory() *cobra.Command {
	var (
		asJSON bool
		sample int
	)
	cmd := a.action(&cobra.Command{
		Use:   "inventory [flags]",
		Short: "List the encrypted fields",
		Long: `List every encrypted field: its table and column, the Go type of the plaintext, the size of the column in characters and
of the longest plaintext in bytes, the key ("keyring": ENCRYPTION_KEY itself, and to decrypt the earlier ones), the column
of its blind index, by which the plaintext can be looked up, and what a token is bound to, by the schema
or CREDENT_BOUND. It needs neither a key nor a database.

With --sample it opens the secrets of the newest rows as well, and says how many of them open. Nothing records when a field
was verified last: "credent doctor" opens all, and "credent verify" counts which key each one needs.`,
		Example: `  credent inventory --json
  credent inventory --sample 100`,
	}, func(ctx context.Context, _ []string) error {
		if sample < 0 {
			return usageError("--sample is negative")
		}
		columns, err := inventoryOf(credent.EncryptedColumns())
		if err != nil {
			return err
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
	cmd.Flags().IntVar(&sample, "sample", 0, "open the secrets of the newest `N` rows; 0 means none")
	return cmd
}

func inventoryOf(known []credent.EncryptedColumn) ([]inventoryColumn, error) {
	bound, err := columnsFromEnv(envBound)
	if err != nil {
		return nil, err
	}
	columns := make([]inventoryColumn, len(known))
	for i, c := range known {
		columns[i] = inventoryColumn{
			Table: c.Table, Column: c.Name, Type: c.Type, Size: c.Size, MaxPlaintext: c.MaxPlaintext(),
			Key: "keyring", Index: cmp.Or(c.Index, "none"), Binding: "none",
		}
		if c.Bound || slices.Contains(bound, c.String()) {
			columns[i].Binding = "table, column, " + c.Tenant
		}
	}
	return columns, nil
}

// addSamples opens the newest secrets. The columns are sorted as [encryptedTables] has them.
func addSamples(ctx context.Context, columns []inventoryColumn, n int) error {
	ring, err := credent.KeyringFromEnv()
	if err != nil {
		return err
	}
	return withOwner(ctx, func(db *database) error {
		i := 0
		for _, table := range encryptedTables() {
			counts, err := openTokens(ctx, db, ring, table, n)
			if err != nil {
				return err
			}
			for _, c := range counts {
				columns[i].Sample = &inventorySample{Tokens: c.Tokens, Open: c.Tokens - len(c.Bad) - c.Shredded}
				i++
			}
		}
		return nil
	})
}

func inventoryRows(columns []inventoryColumn) [][]string {
	rows := [][]string{{"COLUMN", "TYPE", "CHARACTERS", "MAX BYTES", "KEY", "INDEX", "BINDING"}}
	for _, c := range columns {
		row := []string{
			c.Table + "." + c.Column, c.Type, strconv.Itoa(c.Size), strconv.Itoa(c.MaxPlaintext), c.Key, c.Index, c.Binding,
		}
		if c.Sample != nil {
			row = append(row, c.Sample.String())
		}
		rows = append(rows, row)
	}
	if len(columns) > 0 && columns[0].Sample != nil {
		rows[0] = append(rows[0], "OPEN")
	}
	return rows
}
