// Package pgxcopy sends rows by COPY over pgx.
package pgxcopy

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/credent-go/credent/internal/load"
)

// Copier implements load.Copier.
type Copier struct{}

// Copies implements load.Copier.
func (Copier) Copies(conn any) bool {
	_, ok := conn.(*stdlib.Conn)
	return ok
}

// Copy implements load.Copier.
func (Copier) Copy(ctx context.Context, conn any, table string, columns []string, rows load.CopySource) error {
	_, err := conn.(*stdlib.Conn).Conn().CopyFrom(ctx, pgx.Identifier{table}, columns, rows)
	return err
}
