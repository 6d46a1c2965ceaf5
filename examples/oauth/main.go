// Command oauth is a Go service, in a separate module, with encrypted fields in
// its ent schema. It reads ENCRYPTION_KEY:
//
//	ENCRYPTION_KEY=$(credent key generate) go run . oauth.db
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"text/tabwriter"
	"time"

	"entgo.io/ent/dialect"
	"example.com/oauth/ent"
	"example.com/oauth/vault"
	"example.com/oauth/webhook"
	_ "modernc.org/sqlite" // the database driver

	"github.com/credent-go/credent/keyring"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: oauth FILE")
	}
	if err := run(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, file string) (err error) {
	ring, err := keyring.FromEnv()
	if err != nil {
		return err
	}
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_txlock=immediate")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	v, err := vault.Open(ctx, db, dialect.SQLite, ring)
	if err != nil {
		return err
	}

	hook := webhook.Config{URL: "https://example.com/events", Secret: "made-up", Events: []string{"push"}}
	err = errors.Join(
		v.Connect(ctx, "user-1", "github", "made-up-refresh-token"),
		v.Subscribe(ctx, "user-1", "github", hook),
		v.Grant(ctx, "user-1", "github", "made-up-access-token", time.Now().Add(time.Hour), "repo"),
	)
	if err != nil {
		return err
	}
	token, err := v.AccessToken(ctx, "user-1", "github", time.Now())
	if err != nil {
		return err
	}
	fmt.Printf("a request to the provider would now have a token of %d bytes\n\n", len(token))
	return inventory()
}

// inventory prints which columns are encrypted.
func inventory() error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "COLUMN\tTYPE\tCHARACTERS\tBYTES OF PLAINTEXT")
	for _, c := range ent.EncryptedColumns() {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%d\n", c, c.Type, c.Size, c.MaxPlaintext())
	}
	return w.Flush()
}
