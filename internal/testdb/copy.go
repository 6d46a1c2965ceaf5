package testdb

import (
	"fmt"
	"iter"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
)

// Sequence returns rows in the form that testopt.Copy takes.
func Sequence(rows ...credent.CopyRow) iter.Seq2[credent.CopyRow, error] {
	return func(yield func(credent.CopyRow, error) bool) {
		for _, row := range rows {
			if !yield(row, nil) {
				return
			}
		}
	}
}

// CopyRows returns n rows of a user to copy.
func CopyRows(n int, userID string) []credent.CopyRow {
	rows := make([]credent.CopyRow, n)
	for i := range rows {
		rows[i] = credent.CopyRow{
			ID: uuid.New(), UserID: userID, CredentialType: "alpaca",
			APIKey:    credent.NewSecret(fmt.Sprint("PLAIN-key ", i)),
			SecretKey: credent.NewSecret(fmt.Sprint("PLAIN-secret ", i)),
		}
	}
	return rows
}
