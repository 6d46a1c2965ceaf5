package credent_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
)

func ExampleCopy() {
	ctx := context.Background()
	// On Postgres with pgx, the rows are sent by COPY.
	db, dialect, err := credent.OpenDB(newDatabase(), credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if err := migrate.Apply(ctx, db, migrate.Config{}); err != nil {
		log.Fatal(err)
	}
	cfg := credent.Config{Keyring: newKeyring()}
	client, err := credent.NewClient(db, dialect, cfg)
	if err != nil {
		log.Fatal(err)
	}
	client.UserAccount.Create().SetUserID("user-1").SetAccountName("Ada").SaveX(ctx)

	// From a file, an API or another database, one by one.
	rows := func(yield func(credent.CopyRow, error) bool) {
		for i := range 1200 {
			row := credent.CopyRow{
				UserID:         "user-1",
				CredentialType: "alpaca",
				APIKey:         credent.NewSecret(fmt.Sprintf("PK-MADE-UP-%d", i)),
				SecretKey:      credent.NewSecret("made-up"),
			}
			if i == 1100 {
				row.UserID = "user-9"
			}
			if !yield(row, nil) {
				return
			}
		}
	}
	n, err := credent.Copy(ctx, db, rows, credent.CopyConfig{Batch: 500}, cfg)
	fmt.Println(n, "rows are stored")
	var failed *credent.CopyError
	if errors.As(err, &failed) {
		fmt.Println("then row", failed.Row, "was refused:", failed.Err)
	}
	// Output:
	// 1000 rows are stored
	// then row 1101 was refused: the account of the credential: ent: user_account not found
}
