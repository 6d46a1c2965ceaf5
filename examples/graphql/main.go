// Command graphql is a Go service, in a separate module, that serves a schema
// with encrypted fields over GraphQL. It reads ENCRYPTION_KEY:
//
//	ENCRYPTION_KEY=$(credent key generate) go run . app.db localhost:8080
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	_ "modernc.org/sqlite" // the database driver

	"example.com/graphql/graph"
	"example.com/graphql/store"
	"github.com/credent-go/credent/keyring"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: graphql FILE ADDRESS")
	}
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, file, address string) (err error) {
	ring, err := keyring.FromEnv()
	if err != nil {
		return err
	}
	client, db, err := store.OpenSQLite(ctx, file, ring)
	if db != nil {
		defer func() { err = errors.Join(err, db.Close()) }()
	}
	if err != nil {
		return err
	}
	server := &http.Server{Addr: address, Handler: graph.NewHandler(client), ReadHeaderTimeout: 5 * time.Second}
	fmt.Printf("GraphQL at http://%s/\n", address)
	return server.ListenAndServe()
}
